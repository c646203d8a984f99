//! Which levels, options and estimators go with a method and role: what each method's file says.
//! From it configurations are checked, the nearest possible one is found
//! ([`nearest`](crate::QuantizerConfig::nearest)), and the documentation's table is printed.

use crate::{
    config::{Levels, Normalization},
    gradient::Estimator,
    method::Role,
    parameter::Parameter,
    text::name,
};

/// Which numbers of levels a method has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelSet {
    /// All from the first to the last.
    Between(usize, usize),
    /// Powers of two from the first to the last.
    PowersOfTwo(usize, usize),
    /// 3, and powers of two.
    TernaryOrPowersOfTwo,
}

impl LevelSet {
    /// Whether a number is among them.
    pub fn contains(self, levels: usize) -> bool {
        match self {
            LevelSet::Between(first, last) => (first..=last).contains(&levels),
            LevelSet::PowersOfTwo(first, last) => {
                levels.is_power_of_two() && (first..=last).contains(&levels)
            }
            LevelSet::TernaryOrPowersOfTwo => levels == 3 || levels.is_power_of_two(),
        }
    }

    pub(crate) fn nearest(self, levels: Levels) -> Levels {
        let distance = |other: &Levels| other.count().abs_diff(levels.count());
        let all = (2..=256).filter(|count| self.contains(*count));
        let all = all.filter_map(|count| Levels::new(count).ok());
        all.min_by_key(distance).unwrap_or(levels)
    }
}

impl std::fmt::Display for LevelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LevelSet::Between(first, last) if first == last => write!(f, "{first}"),
            LevelSet::Between(first, last) => write!(f, "{first} to {last}"),
            LevelSet::PowersOfTwo(first, last) => write!(f, "{first}, {}, .. {last}", first * 2),
            LevelSet::TernaryOrPowersOfTwo => write!(f, "3, or 2, 4, .. 256"),
        }
    }
}

/// What a method offers in a role and range. Of each choice the first is the nearest to anything that
/// is not among them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capability {
    /// Numbers of levels.
    pub levels: LevelSet,
    /// Whether elements can be grouped otherwise than per tensor.
    pub groups: bool,
    /// Gradient estimators.
    pub estimators: &'static [Estimator],
    /// Normalisations, beside none.
    pub normalizations: &'static [Normalization],
    /// Fields that mean something beside those that all methods have.
    pub options: &'static [&'static str],
    /// What is learned by gradient.
    pub learned: &'static [Parameter],
    /// What follows the data.
    pub running: &'static [&'static str],
}

impl Capability {
    /// All numbers of levels, any granularity, the clamp's estimator, the normalisation of weights,
    /// and nothing else: what methods have beside that they say themselves.
    pub const fn base(role: Role) -> Self {
        Self {
            levels: LevelSet::Between(2, 256),
            groups: true,
            estimators: &[Estimator::Clipped],
            normalizations: match role {
                Role::Weight => &[Normalization::VarMean],
                Role::Activation | Role::Output => &[],
            },
            options: &[],
            learned: &[],
            running: &[],
        }
    }
}

impl std::fmt::Display for Capability {
    /// The cells of [`methods_table`](crate::methods_table).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: Vec<String>| match names.is_empty() {
            true => "-".to_owned(),
            false => names.join(", "),
        };
        let learned: Vec<&str> = self.learned.iter().map(|parameter| parameter.name).collect();
        let owned = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect();
        write!(
            f,
            "{} | {} | {} | {} | {} | {}",
            self.levels,
            if self.groups { "any" } else { "per tensor" },
            list(self.estimators.iter().map(name).collect()),
            list(self.normalizations.iter().map(name).collect()),
            list(owned(self.options)),
            list(owned(&[learned, self.running.to_vec()].concat())),
        )
    }
}
