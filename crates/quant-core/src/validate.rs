//! Configurations held to the [table of what goes with what](crate::capability).

use std::fmt::Write;

use crate::{
    capability::{capability, name},
    config::{Granularity, Method, Normalization, QuantizerConfig, Range, Role},
    error::QuantizerError,
    gradient::{Estimator, GradientScaleRule},
};

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
