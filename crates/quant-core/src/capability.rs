//! What goes with what: one table of methods, roles and options, from which configurations are
//! checked, the nearest possible one is found ([`nearest`](crate::QuantizerConfig::nearest)), and
//! the documentation's table is printed.

use std::fmt::{Debug, Write};

use crate::{
    config::{Levels, Method, Normalization, Range, Role},
    gradient::Estimator,
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
    pub learned: &'static [&'static str],
    /// What follows the data.
    pub running: &'static [&'static str],
}

/// Options of FATNN's activations and outputs.
const FATNN_OPTIONS: &[&str] =
    &["gradient_scale", "initial_slope", "boundary", "closed_form", "unused_clipping_value"];

/// What `method` offers in `role` with `range`; `None` where they do not go together.
pub fn capability(method: Method, role: Role, range: Range) -> Option<Capability> {
    use Estimator::{Clipped, Ewgs, Identity, SteScale, Triangle};
    use Normalization::{Mean, MeanVar, Var, VarMean};
    use Range::{Signed, Unsigned};
    use Role::{Activation, Weight};
    let weight = role == Weight;
    if weight && range == Unsigned {
        return None;
    }
    let base = Capability {
        levels: LevelSet::Between(2, 256),
        groups: true,
        estimators: &[Clipped],
        normalizations: if weight { &[VarMean] } else { &[] },
        options: &[],
        learned: &[],
        running: &[],
    };
    Some(match (method, role, range) {
        (Method::Lsq, ..) => Capability {
            estimators: &[Clipped, SteScale, Ewgs],
            options: match role {
                Activation => &["gradient_scale", "boundary"],
                _ => &["gradient_scale", "boundary", "gamma"],
            },
            learned: &["clip_val"],
            ..base
        },
        (Method::LsqStep, ..) => Capability {
            levels: LevelSet::Between(if range == Signed { 3 } else { 2 }, 256),
            estimators: &[Clipped, Ewgs],
            options: &["gradient_scale", "boundary"],
            learned: &["step_size"],
            ..base
        },
        (Method::LsqPlus, Weight, _) | (Method::LsqPlus, _, Signed) => return None,
        (Method::LsqPlus, ..) => Capability {
            estimators: &[Clipped, Ewgs],
            options: &["gradient_scale", "boundary"],
            learned: &["step_size", "offset"],
            ..base
        },
        (Method::Pact, Weight, _) => return None,
        (Method::Pact | Method::Dorefa, _, Signed) if !weight => return None,
        (Method::Pact, ..) => Capability {
            groups: false,
            estimators: &[Clipped, Ewgs],
            options: &["gradient_scale", "boundary"],
            learned: &["clip_val"],
            ..base
        },
        (Method::Dorefa, Weight, _) => {
            Capability { estimators: &[Clipped, Ewgs], options: &["boundary", "gamma"], ..base }
        }
        (Method::Dorefa, ..) => Capability {
            groups: false,
            estimators: &[Clipped, Ewgs],
            options: match role {
                Activation => &["boundary"],
                _ => &["boundary", "gamma"],
            },
            ..base
        },
        (Method::Xnor, Weight, _) => Capability {
            levels: LevelSet::Between(2, 2),
            estimators: &[Clipped, Identity, Triangle],
            options: &["gamma"],
            ..base
        },
        (Method::Xnor, ..) => Capability {
            levels: LevelSet::Between(2, 2),
            estimators: &[Clipped, Identity, Triangle],
            options: &["sign_scale", "shift"],
            ..base
        },
        (Method::Fatnn, _, Signed) => Capability {
            levels: LevelSet::Between(3, 3),
            options: match role {
                Weight => {
                    &["gradient_scale", "initial_slope", "closed_form", "unused_clipping_value"]
                }
                _ => FATNN_OPTIONS,
            },
            learned: &["alpha0", "alpha1"],
            ..base
        },
        (Method::Fatnn, ..) => Capability {
            levels: LevelSet::Between(2, 4),
            options: FATNN_OPTIONS,
            learned: &["alpha0", "alpha1", "alpha2"],
            ..base
        },
        (Method::LqNets, ..) => Capability {
            levels: LevelSet::TernaryOrPowersOfTwo,
            normalizations: if weight { &[Mean, Var, MeanVar] } else { &[Mean, Var] },
            options: &["threshold_position", "running_mean_basis"],
            running: &["basis"],
            ..base
        },
        (Method::Ttq, Weight, _) => Capability {
            levels: LevelSet::Between(3, 3),
            options: &["gradient_scale", "boundary", "ternary_threshold"],
            learned: &["positive", "negative"],
            ..base
        },
        (Method::Ttq, ..) => return None,
        (Method::Apot, ..) => Capability {
            levels: LevelSet::PowersOfTwo(if range == Signed { 4 } else { 2 }, 256),
            options: &["gradient_scale", "boundary"],
            learned: &["clip_val"],
            ..base
        },
        (Method::N2uq, Weight, _) => Capability {
            estimators: &[Clipped, SteScale, Ewgs],
            options: &["gradient_scale", "boundary"],
            learned: &["clip_val"],
            ..base
        },
        (Method::N2uq, _, Signed) => return None,
        (Method::N2uq, ..) => Capability {
            levels: LevelSet::Between(2, 16),
            options: &["gradient_scale", "boundary"],
            learned: &["scale", "start", "intervals"],
            ..base
        },
    })
}

/// A value as it is written in configuration files: `per-channel` rather than `PerChannel`,
/// `{ groups = 2 }` rather than `Groups(2)`, `4` rather than `Levels(4)`.
pub(crate) fn name(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let kebab = |text: &str| {
        let mut name = String::new();
        for (index, letter) in text.char_indices() {
            if letter.is_ascii_uppercase() && index > 0 {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    };
    match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        None => kebab(&text),
        Some(("Levels", count)) => count.to_owned(),
        Some((choice, value)) => format!("{{ {} = {value} }}", kebab(choice)),
    }
}

/// The table of methods, roles and options as Markdown: what
/// [`validate`](crate::QuantizerConfig::validate) accepts. Roles
/// and ranges with the same offer share a row.
pub fn table() -> String {
    let mut table = String::from(
        "| method | role | levels | granularity | estimators | normalisation | options | learns |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for method in Method::ALL {
        let mut rows: Vec<(Vec<String>, Capability)> = Vec::new();
        for role in Role::ALL {
            for range in [Range::Unsigned, Range::Signed] {
                let Some(offer) = capability(method, role, range) else {
                    continue;
                };
                let label = format!("{} {}", name(&range), name(&role));
                match rows.iter_mut().find(|(_, other)| *other == offer) {
                    Some((labels, _)) => labels.push(label),
                    None => rows.push((vec![label], offer)),
                }
            }
        }
        for (labels, offer) in rows {
            let _ = writeln!(table, "| `{}` | {} | {offer} |", name(&method), labels.join(", "));
        }
    }
    table
}

impl std::fmt::Display for Capability {
    /// The cells of [`table`].
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: Vec<String>| match names.is_empty() {
            true => "-".to_owned(),
            false => names.join(", "),
        };
        let owned = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect();
        write!(
            f,
            "{} | {} | {} | {} | {} | {}",
            self.levels,
            if self.groups { "any" } else { "per tensor" },
            list(self.estimators.iter().map(name).collect()),
            list(self.normalizations.iter().map(name).collect()),
            list(owned(self.options)),
            list(owned(&[self.learned, self.running].concat())),
        )
    }
}
