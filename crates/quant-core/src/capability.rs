//! What goes with what: one table of methods, roles and options, from which configurations are
//! checked, the nearest possible one is found, and the documentation's table is printed.

use std::fmt::{Debug, Write};

use crate::{
    config::{Granularity, Levels, Method, Normalization, QuantizerConfig, Range, Role},
    error::QuantizerError,
    gradient::{Estimator, GradientScaleRule},
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

    fn nearest(self, levels: Levels) -> Levels {
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

impl QuantizerConfig {
    /// The configuration itself where its fields go together; else the nearest one where they do:
    /// fields that the method does not have at their defaults, choices among those it offers.
    pub fn nearest(&self) -> QuantizerConfig {
        let mut near = self.clone();
        if self.role == Role::Weight {
            near.range = Range::Signed;
        }
        let other = |range| if range == Range::Signed { Range::Unsigned } else { Range::Signed };
        let of = |near: &QuantizerConfig| capability(near.method, near.role, near.range);
        if of(&near).is_none() && self.role != Role::Weight {
            near.range = other(near.range);
        }
        if of(&near).is_none() {
            near.method = match (self.method, self.role) {
                (Method::Pact, _) => Method::Dorefa,
                (Method::Ttq, _) => Method::Fatnn,
                _ => Method::LsqStep,
            };
            near.range = QuantizerConfig::new(near.method, near.role, near.levels).range;
        }
        let Some(offer) = of(&near) else {
            return near;
        };
        near.levels = match offer.levels.contains(near.levels.count()) {
            true => near.levels,
            false => offer.levels.nearest(near.levels),
        };
        near.estimator = nearest_of(near.estimator, offer.estimators);
        if near.normalization != Normalization::None {
            near.normalization = match offer.normalizations {
                [] => Normalization::None,
                offered => nearest_of(near.normalization, offered),
            };
        }
        near = near.without_idle_options();
        let normalized = near.normalization != Normalization::None;
        // What has one value per group: without any, groups would change nothing.
        let grouped = match near.method {
            Method::Dorefa => near.gamma || normalized && !near.independent_norm,
            Method::Xnor => near.role == Role::Weight || near.shift,
            _ => true,
        };
        if !offer.groups || near.closed_form || !grouped {
            near.granularity = Granularity::PerTensor;
        }
        let defaults = QuantizerConfig::new(near.method, near.role, near.levels);
        for (value, default, lowest, highest) in [
            (&mut near.threshold_position, defaults.threshold_position, 0.0, 1.0),
            (&mut near.ternary_threshold, defaults.ternary_threshold, 0.0, 0.999),
            (&mut near.ewgs_factor, defaults.ewgs_factor, 0.0, f64::MAX),
        ] {
            *value = if value.is_nan() { default } else { value.clamp(lowest, highest) };
        }
        near
    }

    /// The same with the options that nothing would act on at their defaults: those that the method
    /// does not have, and those that belong to another choice, such as the factor of `ewgs`. For
    /// configurations from elsewhere; [`validate`](Self::validate) refuses such options.
    #[must_use]
    pub fn without_idle_options(&self) -> QuantizerConfig {
        let Some(offer) = capability(self.method, self.role, self.range) else {
            return self.clone();
        };
        let defaults = QuantizerConfig::new(self.method, self.role, self.levels);
        let mut config = self.clone();
        let has = |option| offer.options.contains(&option);
        macro_rules! default_unless {
            ($($had:expr => $($field:ident).+),*) => {
                $(if !$had { config.$($field).+ = defaults.$($field).+; })*
            };
        }
        let rule = self.gradient_scale.rule;
        let has_factor = has("gradient_scale")
            && !matches!(rule, GradientScaleRule::None | GradientScaleRule::Lsq);
        let normalized = self.normalization != Normalization::None;
        default_unless!(
            has("gradient_scale") => gradient_scale.rule,
            has_factor => gradient_scale.factor,
            self.estimator == Estimator::Ewgs => ewgs_factor,
            has("boundary") => boundary,
            has("initial_slope") => initial_slope,
            has("threshold_position") => threshold_position,
            has("ternary_threshold") => ternary_threshold,
            has("sign_scale") => sign_scale
        );
        // Of activations, each image is normalised by itself.
        config.independent_norm &= normalized && self.role == Role::Weight;
        config.restore_normalization &= self.normalization == Normalization::VarMean;
        config.gamma &= has("gamma");
        config.closed_form &= has("closed_form");
        config.unused_clipping_value &= has("unused_clipping_value");
        config.running_mean_basis &= has("running_mean_basis");
        config.shift &= has("shift");
        config
    }

    /// Checks that the fields go together, and that something acts on each of them.
    /// [`init`](Self::init) calls it.
    ///
    /// # Errors
    /// [`QuantizerError::Unsupported`], which shows the [`nearest`](Self::nearest) configuration, and
    /// [`QuantizerError::NotPositive`], with `layer` in the message.
    pub fn validate(&self, layer: &str) -> Result<(), QuantizerError> {
        for (field, value) in [
            ("boundary", self.boundary),
            ("gradient_scale.factor", self.gradient_scale.factor),
            ("initial_slope", self.initial_slope),
        ] {
            if !(value.is_finite() && value > 0.0) {
                let layer = layer.to_owned();
                return Err(QuantizerError::NotPositive { layer, field, value });
            }
        }
        let changes = self.differences(&self.nearest());
        let Some((field, value, _)) = changes.first().cloned() else {
            return Ok(());
        };
        let mut nearest = String::new();
        for (index, (field, _, value)) in changes.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(nearest, "{comma}{field} = {value}");
        }
        Err(QuantizerError::Unsupported {
            layer: layer.to_owned(),
            field,
            value,
            method: self.method,
            role: self.role,
            nearest,
        })
    }

    /// The fields in which another configuration would make something else of the same inputs and
    /// parameters, with the values here and there: what gradients depend on, and initial values, are
    /// left aside.
    pub fn computes_otherwise(
        &self,
        other: &QuantizerConfig,
    ) -> Vec<(&'static str, String, String)> {
        let fixed = self.method == Method::Dorefa;
        let mut differing = self.differences(other);
        differing.retain(|(field, ..)| match *field {
            "boundary" => fixed,
            "estimator" | "ewgs_factor" | "initial_slope" | "unused_clipping_value" => false,
            field => !field.starts_with("gradient_scale"),
        });
        differing
    }

    /// The fields in which another configuration differs, with both values.
    fn differences(&self, other: &QuantizerConfig) -> Vec<(&'static str, String, String)> {
        macro_rules! compare {
            ($($field:ident),*) => {
                [$((stringify!($field), self.$field != other.$field,
                    name(&self.$field), name(&other.$field))),*]
            };
        }
        let rules = (self.gradient_scale.rule, other.gradient_scale.rule);
        let factors = (self.gradient_scale.factor, other.gradient_scale.factor);
        let fields = compare!(
            method,
            range,
            levels,
            granularity,
            estimator,
            normalization,
            independent_norm,
            restore_normalization,
            gamma,
            sign_scale,
            shift,
            closed_form,
            running_mean_basis,
            threshold_position,
            ternary_threshold,
            ewgs_factor,
            boundary,
            initial_slope,
            unused_clipping_value
        );
        let scale = [
            ("gradient_scale.rule", rules.0 != rules.1, name(&rules.0), name(&rules.1)),
            ("gradient_scale.factor", factors.0 != factors.1, name(&factors.0), name(&factors.1)),
        ];
        let differing = fields.into_iter().chain(scale).filter(|(_, differs, ..)| *differs);
        differing.map(|(field, _, ours, theirs)| (field, ours, theirs)).collect()
    }
}

fn nearest_of<T: Copy + PartialEq>(value: T, offered: &[T]) -> T {
    match offered.first() {
        Some(first) if !offered.contains(&value) => *first,
        _ => value,
    }
}

/// A value as it is written in configuration files: `per-channel` rather than `PerChannel`.
pub(crate) fn name(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let text = text.trim_start_matches("Levels(").to_owned();
    let text = if text.contains('(') { text } else { text.trim_end_matches(')').to_owned() };
    let mut name = String::new();
    for (index, letter) in text.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// The table of methods, roles and options as Markdown: what [`QuantizerConfig::validate`] accepts. Roles
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
