//! What a method offers in a role: levels, options and estimators, as the method's file declares
//! them. Configurations are checked against it, the nearest supported configuration
//! ([`nearest`](crate::QuantizerConfig::nearest)) is found from it, and the table of the
//! documentation is printed from it.

use crate::{
    config::{Levels, Normalization},
    gradient::Estimator,
    method::Role,
    parameter::Parameter,
    text::name,
};

/// The numbers of levels that a method has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelSet {
    /// All numbers from the first to the last.
    Between(usize, usize),
    /// The powers of two from the first to the last.
    PowersOfTwo(usize, usize),
    /// 3, and the powers of two.
    TernaryOrPowersOfTwo,
}

impl LevelSet {
    /// Returns whether the method has this number of levels.
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

/// What a method offers in a role and range. The first entry of each list is suggested when a
/// configuration asks for something that is not in the list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capability {
    /// The numbers of levels.
    pub levels: LevelSet,
    /// Whether elements can be grouped in other ways than per tensor.
    pub groups: bool,
    /// The gradient estimators that the method takes.
    pub estimators: &'static [Estimator],
    /// The normalisations, in addition to none.
    pub normalizations: &'static [Normalization],
    /// The fields that have an effect, in addition to those that all methods have.
    pub options: &'static [&'static str],
    /// The parameters that learn by gradient.
    pub learned: &'static [Parameter],
    /// The names of the values that are updated from the data instead of by gradient (running
    /// values).
    pub running: &'static [&'static str],
}

impl Capability {
    /// Returns what most methods offer: all numbers of levels, any granularity, the estimator of a
    /// clamp, the normalisation of weights, and nothing else. A method's file adds what it offers
    /// in addition.
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
    /// Writes the cells of a row of [`methods_table`](crate::methods_table).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list =
            |names: Vec<String>| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
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
