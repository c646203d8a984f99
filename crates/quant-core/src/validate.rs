//! Checks configurations against [what their method offers](crate::capability).

use std::fmt::Write;

use crate::{
    config::{Granularity, Normalization, QuantizerConfig, Range},
    error::QuantizerError,
    gradient::{Estimator, GradientScaleRule},
    method::Role,
    methods::facts,
    options::{Accepted, OptionInfo, OptionValue},
    table::capability,
    text::name,
};

impl QuantizerConfig {
    /// Returns the configuration itself where its fields are supported together, and otherwise the
    /// nearest one that is. In that one, fields that the method does not have are at their
    /// defaults, and choices are among those that the method offers.
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
            near.method = facts(&self.method).alternative();
            near.range = QuantizerConfig::new(near.method, near.role, near.levels).range;
        }
        let Some(offer) = of(&near) else {
            return near;
        };
        near.levels = if offer.levels.contains(near.levels.count()) {
            near.levels
        } else {
            offer.levels.nearest(near.levels)
        };
        near.estimator = nearest_of(near.estimator, offer.estimators);
        if near.normalization != Normalization::None {
            near.normalization = match offer.normalizations {
                [] => Normalization::None,
                offered => nearest_of(near.normalization, offered),
            };
        }
        near = near.without_idle_options();
        if !offer.groups || !facts(&near.method).is_grouped(&near) {
            near.granularity = Granularity::PerTensor;
        }
        let usual = QuantizerConfig::new(near.method, near.role, near.levels);
        near.ewgs_factor =
            if near.ewgs_factor.is_nan() { usual.ewgs_factor } else { near.ewgs_factor.max(0.0) };
        for option in near.options_out_of_bounds() {
            near.method.set_option(option.name, &option.default);
        }
        near
    }

    fn options_out_of_bounds(&self) -> Vec<OptionInfo> {
        let mut options = self.method.own_options().list();
        options.retain(|option| {
            let value = self.method.option(option.name);
            value.is_some_and(|value| !option.accepted.contains(&value))
        });
        options
    }

    /// Returns the same configuration with every option that would have no effect at its default.
    /// These are the options that the method does not have, and those that only act with another
    /// choice, such as `ewgs_factor` with another estimator. It serves configurations that come
    /// from elsewhere; [`validate`](Self::validate) refuses such options.
    #[must_use]
    pub fn without_idle_options(&self) -> QuantizerConfig {
        let Some(offer) = capability(self.method, self.role, self.range) else {
            return self.clone();
        };
        let usual = QuantizerConfig::new(self.method, self.role, self.levels);
        let has = |option| offer.options.contains(&option);
        let mut config = self.clone();
        let rule = self.gradient_scale.rule;
        if !has("gradient_scale") {
            config.gradient_scale = usual.gradient_scale;
        }
        if matches!(rule, GradientScaleRule::None | GradientScaleRule::Lsq) {
            config.gradient_scale.factor = usual.gradient_scale.factor;
        }
        if self.estimator != Estimator::Ewgs {
            config.ewgs_factor = usual.ewgs_factor;
        }
        if !has("boundary") {
            config.boundary = usual.boundary;
        }
        // An activation is normalised image by image.
        let normalized = self.normalization != Normalization::None;
        config.independent_norm &= normalized && self.role == Role::Weight;
        config.restore_normalization &= self.normalization == Normalization::VarMean;
        config.gamma &= has("gamma");
        for option in self.method.own_options().list() {
            if !has(option.name) {
                config.method.set_option(option.name, &option.default);
            }
        }
        config
    }

    /// Checks that the fields are supported together, and that each of them has an effect.
    /// [`init`](Self::init) calls it.
    ///
    /// # Errors
    /// [`QuantizerError::Unsupported`], which shows the [`nearest`](Self::nearest) configuration,
    /// and [`QuantizerError::OutOfBounds`], each with `layer` in the message.
    pub fn validate(&self, layer: &str) -> Result<(), QuantizerError> {
        for (field, value) in
            [("boundary", self.boundary), ("gradient_scale.factor", self.gradient_scale.factor)]
        {
            let (accepted, number) = (Accepted::Above(0.0), OptionValue::Number(value));
            if !accepted.contains(&number) {
                let (layer, value) = (layer.to_owned(), number.to_string());
                return Err(QuantizerError::OutOfBounds { layer, field, value, accepted });
            }
        }
        if let Some(option) = self.options_out_of_bounds().first() {
            return Err(QuantizerError::OutOfBounds {
                layer: layer.to_owned(),
                field: option.name,
                value: self.method.option(option.name).map_or(String::new(), |v| v.to_string()),
                accepted: option.accepted,
            });
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
            method: self.method.name(),
            role: self.role,
            nearest,
        })
    }

    /// Returns the fields in which `other` differs such that it would compute other values from the
    /// same inputs and parameters, each with the value in `self` and in `other`. Fields that only
    /// gradients or initial values depend on are left out.
    pub fn computes_otherwise(
        &self,
        other: &QuantizerConfig,
    ) -> Vec<(&'static str, String, String)> {
        let fixed = facts(&self.method).has_fixed_boundary();
        let mut initial = self.method.own_options().list();
        initial.retain(|option| option.only_initial);
        let mut differing = self.differences(other);
        differing.retain(|(field, ..)| match *field {
            "boundary" => fixed,
            "estimator" | "ewgs_factor" | "qtool" => false,
            field if initial.iter().any(|option| option.name == field) => false,
            field => !field.starts_with("gradient_scale"),
        });
        differing
    }

    /// Returns the fields in which `other` differs, with both values.
    fn differences(&self, other: &QuantizerConfig) -> Vec<(&'static str, String, String)> {
        let mut differing = Vec::new();
        if !self.method.is(&other.method) {
            differing.push(("method", self.method.to_string(), other.method.to_string()));
        }
        macro_rules! compare {
            ($($($field:ident).+),*) => {
                $(if self.$($field).+ != other.$($field).+ {
                    let (ours, theirs) = (name(&self.$($field).+), name(&other.$($field).+));
                    differing.push((stringify!($($field).+), ours, theirs));
                })*
            };
        }
        compare!(
            range,
            levels,
            granularity,
            estimator,
            normalization,
            independent_norm,
            restore_normalization,
            gamma
        );
        let own = self.method.own_options().list();
        for option in own.iter().filter(|_| self.method.is(&other.method)) {
            let values = (self.method.option(option.name), other.method.option(option.name));
            if let (Some(ours), Some(theirs)) = values
                && ours != theirs
            {
                differing.push((option.name, ours.to_string(), theirs.to_string()));
            }
        }
        compare!(ewgs_factor, boundary, qtool, gradient_scale.rule, gradient_scale.factor);
        differing
    }
}

fn nearest_of<T: Copy + PartialEq>(value: T, offered: &[T]) -> T {
    match offered.first() {
        Some(first) if !offered.contains(&value) => *first,
        _ => value,
    }
}
