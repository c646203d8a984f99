//! [`QuantizerConfig`] in files: one flat table, which holds the options of the method beside the
//! fields that all methods have. Fields that are left out have the values of
//! [`QuantizerConfig::new`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    config::{Granularity, Levels, Normalization, QuantizerConfig, Range},
    gradient::{Estimator, GradientScale, GradientScaleRule},
    method::{Method, Role},
    methods::facts,
    options::OptionValue,
    qtool::compatibility::Compatibility,
};

impl QuantizerConfig {
    /// Returns the usual form of a method in a role: unsigned activations, signed weights, outputs
    /// that are signed where the method supports it, one clipping value per tensor, the gradient of
    /// a plain clamp, and the clipping value 1. LSQ and its variants have the gradient scale of
    /// their paper, and APoT's weights have its normalisation.
    pub fn new(method: Method, role: Role, levels: Levels) -> Self {
        let facts = facts(&method);
        Self {
            method,
            role,
            levels,
            range: match role {
                Role::Weight => Range::Signed,
                Role::Output => facts.output_range(levels),
                Role::Activation => Range::Unsigned,
            },
            granularity: Granularity::PerTensor,
            estimator: Estimator::default(),
            gradient_scale: GradientScale {
                rule: facts.gradient_scale(),
                ..GradientScale::default()
            },
            ewgs_factor: 1e-3,
            boundary: 1.0,
            normalization: facts.normalization(role),
            independent_norm: false,
            restore_normalization: false,
            gamma: false,
            qtool: Compatibility::default(),
        }
    }
}

/// Calls a macro with the fields that all methods have, and with what it has to do with them.
macro_rules! each_field {
    ($then:ident) => {
        $then!(
            range: Range,
            granularity: Granularity,
            estimator: Estimator,
            ewgs_factor: f64,
            boundary: f64,
            normalization: Normalization,
            independent_norm: bool,
            restore_normalization: bool,
            gamma: bool,
            qtool: Compatibility
        );
    };
}

macro_rules! file_forms {
    ($($field:ident: $type:ty),*) => {
        #[derive(Serialize)]
        struct Written<'a> {
            method: Method,
            role: Role,
            levels: Levels,
            gradient_scale: GradientScale,
            $($field: &'a $type,)*
            #[serde(flatten)]
            options: BTreeMap<&'static str, OptionValue>,
        }

        impl Serialize for QuantizerConfig {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let value = |name| Some((name, self.method.option(name)?));
                let options = self.method.own_options().list().into_iter();
                let written = Written {
                    method: self.method,
                    role: self.role,
                    levels: self.levels,
                    gradient_scale: self.gradient_scale,
                    $($field: &self.$field,)*
                    options: options.filter_map(|option| value(option.name)).collect(),
                };
                written.serialize(serializer)
            }
        }

        #[derive(Deserialize)]
        struct Given {
            method: Method,
            role: Role,
            levels: Levels,
            gradient_scale: Option<GivenScale>,
            $($field: Option<$type>,)*
            #[serde(flatten)]
            options: BTreeMap<String, OptionValue>,
        }

        impl<'de> Deserialize<'de> for QuantizerConfig {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut given = Given::deserialize(deserializer)?;
                let mut method = given.method;
                let earlier = Earlier::take(&mut given.options, given.gradient_scale);
                drop_options_of_others(&method, &mut given.options);
                method.set_options(&given.options).map_err(D::Error::custom)?;
                let usual = QuantizerConfig::new(method, given.role, given.levels);
                let mut config = QuantizerConfig {
                    gradient_scale: given
                        .gradient_scale
                        .map_or(usual.gradient_scale, GivenScale::scale),
                    $($field: given.$field.unwrap_or(usual.$field),)*
                    ..usual
                };
                earlier.apply(&mut config);
                Ok(config)
            }
        }
    };
}
each_field!(file_forms);

/// Removes the options of other methods where a file of an earlier version holds them: such a file
/// holds the options of all methods. In any other file an option of another method stays, and is
/// then refused, unless it has its default.
fn drop_options_of_others(method: &Method, options: &mut BTreeMap<String, OptionValue>) {
    let all = Method::all_options();
    let holds_all = all.iter().all(|option| options.contains_key(option.name));
    for option in all.iter().filter(|option| method.option(option.name).is_none()) {
        if holds_all || options.get(option.name) == Some(&option.default) {
            options.remove(option.name);
        }
    }
}

/// [`GradientScale`], with the flag that it had in files of earlier versions.
#[derive(Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GivenScale {
    rule: GradientScaleRule,
    factor: f64,
    skip_integer_one: bool,
}

impl Default for GivenScale {
    fn default() -> Self {
        let GradientScale { rule, factor } = GradientScale::default();
        Self { rule, factor, skip_integer_one: false }
    }
}

impl GivenScale {
    fn scale(self) -> GradientScale {
        GradientScale { rule: self.rule, factor: self.factor }
    }
}

/// The flags of [`Compatibility`] that were fields of the configuration in files of earlier
/// versions.
struct Earlier {
    group_fallback: bool,
    skip_integer_one: bool,
    unused_clipping_value: bool,
}

impl Earlier {
    fn take(options: &mut BTreeMap<String, OptionValue>, scale: Option<GivenScale>) -> Self {
        let mut flag = |name| options.remove(name) == Some(OptionValue::Flag(true));
        Self {
            group_fallback: flag("group_fallback"),
            skip_integer_one: scale.is_some_and(|scale| scale.skip_integer_one),
            unused_clipping_value: flag("unused_clipping_value"),
        }
    }

    fn apply(self, config: &mut QuantizerConfig) {
        config.qtool.group_fallback |= self.group_fallback;
        config.qtool.skip_integer_one |= self.skip_integer_one;
        config.qtool.unused_clipping_value |= self.unused_clipping_value;
    }
}
