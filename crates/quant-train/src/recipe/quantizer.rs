//! A single quantizer, as a recipe describes it.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use quant_core::{
    Accepted, Estimator, GradientScale, Granularity, Levels, Method, Normalization, OptionInfo,
    OptionValue, QuantizationLoss, QuantizerConfig, Range, Role, qtool::Compatibility,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value, json};

use crate::schema::{
    choices::Choice,
    node::field_names,
    stand_ins::{CompatibilityFields, GradientScaleFields, MethodField},
};

/// A quantizer, whose defaults depend on its role. `docs/quantizers.md` says which of these fields
/// each method has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantizerRecipe {
    /// The quantization method. `lsq` is the usual choice to start with.
    #[schemars(with = "MethodField")]
    pub method: Method,
    /// The number of bits. There are 2^bits levels. Give either `bits` or `levels`.
    #[schemars(range(min = 1, max = 8))]
    pub bits: Option<u32>,
    /// The number of levels, instead of bits. 3 gives ternary values.
    #[schemars(range(min = 2, max = 256))]
    pub levels: Option<usize>,
    /// Where the levels lie: from 0 up, or on both sides of 0. By default the range is unsigned for
    /// activations, and signed for weights and, if the method supports it, for outputs. Choose
    /// `signed` for activations that can be negative, such as those after a PReLU.
    #[schemars(with = "Option<Choice<Range>>")]
    pub range: Option<Range>,
    /// Which elements share one clipping value. By default all elements of a tensor do.
    /// `per-channel` suits weights with few bits.
    #[schemars(with = "Option<Choice<Granularity>>")]
    pub granularity: Option<Granularity>,
    /// The gradient estimator, which replaces the derivative of a clamp or sign. By default it is
    /// `clipped`, the straight-through estimator. `triangle` suits binary activations.
    #[schemars(with = "Option<Choice<Estimator>>")]
    pub estimator: Option<Estimator>,
    /// The scale of the gradient of clipping values. By default it is the scale of the paper for
    /// methods of LSQ's family, and none for other methods.
    #[schemars(with = "Option<GradientScaleFields>")]
    pub gradient_scale: Option<GradientScale>,
    /// The strength of the estimator `ewgs`. By default it is 0.001.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub ewgs_factor: Option<f64>,
    /// The initial clipping value, or the fixed one for methods that do not learn a clipping value.
    /// By default it is 1.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub boundary: Option<f64>,
    /// The normalisation before quantizing. By default it is `var-mean` for APoT weights, and none
    /// for other quantizers.
    #[schemars(with = "Option<Choice<Normalization>>")]
    pub normalization: Option<Normalization>,
    /// Whether the normalisation is over the whole weight, independent of the granularity. By
    /// default it is not.
    pub independent_norm: Option<bool>,
    /// Whether a normalised weight is multiplied by its deviation again after quantizing. By
    /// default it is not.
    pub restore_normalization: Option<bool>,
    /// Whether a factor on the quantized value is learned. By default none is.
    pub gamma: Option<bool>,
    /// Options to behave as QTool does where this program behaves otherwise. They are for imported
    /// recipes. By default none of them is on.
    #[schemars(with = "Option<CompatibilityFields>")]
    pub qtool: Option<Compatibility>,
    /// The options that belong to a single method.
    #[serde(flatten, deserialize_with = "options_beside_fields_of::<QuantizerRecipe, _>")]
    pub options: MethodOptions,
    /// A loss on the quantization error, added to the training loss. By default there is none.
    pub loss: Option<QuantizationLossRecipe>,
}

/// A loss on the quantization error of each quantizer of a role.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizationLossRecipe {
    /// The loss for x and its quantized value y: `l1` is mean |y - x|, `l2` is mean (y - x)², and
    /// `distribution` is |Σxy/Σy² - 1|.
    #[schemars(with = "Choice<QuantizationLoss>")]
    pub kind: QuantizationLoss,
    /// The factor on this loss. Choose it so small that the training loss stays the larger part.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub factor: f32,
}

/// Calls a macro with the names of the options that a recipe and a configuration have in common.
macro_rules! each_option {
    ($then:ident) => {
        $then!(
            range,
            granularity,
            estimator,
            gradient_scale,
            ewgs_factor,
            boundary,
            normalization,
            independent_norm,
            restore_normalization,
            gamma,
            qtool
        )
    };
}

impl QuantizerRecipe {
    /// Returns the recipe of a configuration. Fields that have their default value are left out.
    pub fn from_config(config: &QuantizerConfig) -> Self {
        let usual = QuantizerConfig::new(config.method, config.role, config.levels);
        macro_rules! unusual {
            ($($field:ident),*) => {
                Self {
                    method: config.method,
                    bits: Levels::from_bits(config.levels.bits())
                        .is_ok_and(|levels| levels == config.levels)
                        .then(|| config.levels.bits()),
                    levels: None,
                    loss: None,
                    options: MethodOptions::of(&config.method),
                    $($field: (config.$field != usual.$field).then(|| config.$field.clone()),)*
                }
            };
        }
        let recipe = each_option!(unusual);
        let levels = recipe.bits.is_none().then(|| config.levels.count());
        Self { levels, ..recipe }
    }

    /// Returns the configuration, or the reason why there is none.
    pub(super) fn typed(&self, role: Role) -> Result<QuantizerConfig, String> {
        let levels = match (self.bits, self.levels) {
            (Some(bits), None) => Levels::from_bits(bits),
            (None, Some(levels)) => Levels::new(levels),
            (Some(_), Some(_)) => return Err("set either bits or levels, not both".into()),
            (None, None) => return Err("set either bits or levels".into()),
        };
        let levels = levels.map_err(|error| error.to_string())?;
        let mut method = self.method;
        self.options.give_to(&mut method)?;
        let mut config = QuantizerConfig::new(method, role, levels);
        macro_rules! given {
            ($($field:ident),*) => {
                $(if let Some(value) = self.$field { config.$field = value; })*
            };
        }
        each_option!(given);
        Ok(config)
    }
}

/// The options of a quantization method by their names.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct MethodOptions(BTreeMap<String, OptionValue>);

impl MethodOptions {
    /// Returns the options of a method that do not have their default value.
    fn of(method: &Method) -> Self {
        let options = method.own_options();
        let unusual = |info: OptionInfo| {
            let value = options.get(info.name).filter(|value| *value != info.default)?;
            Some((info.name.to_owned(), value))
        };
        Self(options.list().into_iter().filter_map(unusual).collect())
    }

    /// Sets the options of a method, or returns an error that names an option that the method does
    /// not have.
    pub(super) fn give_to(&self, method: &mut Method) -> Result<(), String> {
        method.set_options(&self.0)
    }
}

/// Reads the options of a method from the table that has them beside the fields of `T`. A name that
/// is neither a field nor an option is refused with the names that there are.
pub(super) fn options_beside_fields_of<'de, T: JsonSchema, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<MethodOptions, D::Error> {
    deserializer.deserialize_map(BesideFields(PhantomData::<T>))
}

struct BesideFields<T>(PhantomData<T>);

impl<'de, T: JsonSchema> Visitor<'de> for BesideFields<T> {
    type Value = MethodOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("options of a quantization method")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MethodOptions, A::Error> {
        let known: Vec<&str> = Method::all_options().iter().map(|option| option.name).collect();
        let mut options = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if !known.contains(&name.as_str()) {
                let fields = field_names::<T>().join("`, `");
                let message = format!("unknown field `{name}`, expected one of `{fields}`");
                return Err(A::Error::custom(message));
            }
            options.insert(name, map.next_value()?);
        }
        Ok(MethodOptions(options))
    }
}

impl JsonSchema for MethodOptions {
    fn schema_name() -> Cow<'static, str> {
        "MethodOptions".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let options = Method::all_options().into_iter();
        let properties: Map<String, Value> =
            options.map(|option| (option.name.to_owned(), schema_of(&option))).collect();
        json_schema!({ "type": "object", "properties": properties })
    }
}

fn schema_of(option: &OptionInfo) -> Value {
    let mut schema = match option.accepted {
        Accepted::Flag => json!({ "type": "boolean" }),
        Accepted::Above(lowest) => json!({ "type": "number", "exclusiveMinimum": lowest }),
        Accepted::Within(lowest, highest) => {
            json!({ "type": "number", "minimum": lowest, "maximum": highest })
        }
        Accepted::Below(lowest, highest) => {
            json!({ "type": "number", "minimum": lowest, "exclusiveMaximum": highest })
        }
        Accepted::OneOf(names) => json!({ "enum": names }),
    };
    schema["description"] = option.description.as_str().into();
    schema
}
