//! The documentation of tables whose types belong to other crates. Tests check that both have the
//! same fields.

use std::borrow::Cow;

use quant_core::{GradientScaleRule, Granularity, Method};
use quant_nn::FirstLastQuantizers;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::choices::Choice;

// Stands for [`quant_data::dataset::shapes::ShapesConfig`].
/// The number of pictures that are rendered, and their size.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Rendered")]
#[serde(default)]
pub(crate) struct RenderedFields {
    /// The side of the pictures, in pixels. The pictures are cropped and resized to
    /// `data.input_size`, which is the side of the network's input.
    #[schemars(range(min = 8, max = 1024))]
    side: usize,
    /// The number of training pictures in each of the ten classes.
    #[schemars(range(min = 1, max = 100_000))]
    train_per_class: usize,
    /// The number of validation pictures in each class. Raise it if the scores of runs are
    /// compared: a score p of n pictures has a standard error of sqrt(p·(1 - p)/n).
    #[schemars(range(min = 1, max = 100_000))]
    val_per_class: usize,
    /// The seed of the pictures. Another seed renders other pictures, into another folder of the
    /// cache.
    #[schemars(range(min = 0, max = i64::MAX))]
    seed: u64,
}

impl Default for RenderedFields {
    fn default() -> Self {
        let usual = quant_data::dataset::shapes::ShapesConfig::default();
        Self {
            side: usual.side,
            train_per_class: usual.train_per_class,
            val_per_class: usual.val_per_class,
            seed: usual.seed,
        }
    }
}

// Stands for [`quant_core::GradientScale`].
/// The scale of the gradient of a clipping value. It does not change the clipping value itself.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "GradientScale")]
#[serde(default)]
pub(crate) struct GradientScaleFields {
    /// The rule, with a = `factor`: `none` is 1, `fan-scale` is sqrt(fan)·a, `scale-fan` is
    /// a/sqrt(fan), `element-scale` is sqrt(M)·a, `scale-element` is a/sqrt(M), and `lsq` is the
    /// scale of LSQ's paper. Here fan is the number of elements of an output channel, and M is the
    /// number of elements of a batch.
    #[schemars(with = "Choice<GradientScaleRule>")]
    rule: GradientScaleRule,
    /// The factor a of those rules that have one.
    #[schemars(extend("exclusiveMinimum" = 0))]
    factor: f64,
}

// Stands for [`quant_core::qtool::Compatibility`].
/// Options to behave as QTool does where this program behaves otherwise, for imported recipes.
#[derive(JsonSchema, Serialize, Default)]
#[schemars(rename = "Compatibility")]
#[serde(default)]
pub(crate) struct CompatibilityFields {
    /// Whether groups that do not fit the tensor are replaced by one group per output channel or by
    /// a single group.
    group_fallback: bool,
    /// Whether gradients are not scaled where the integer part of the gradient scale is 1.
    skip_integer_one: bool,
    /// Whether FATNN has a clipping value that nothing uses.
    unused_clipping_value: bool,
    /// The number of images that the gradient scale of an activation or output uses. By default it
    /// is the number of images of each batch.
    #[schemars(range(min = 1, max = 65_536))]
    images: Option<usize>,
    /// The number of positions (height times width) that this scale uses. By default it is that of
    /// each tensor.
    #[schemars(range(min = 1, max = 268_435_456))]
    positions: Option<usize>,
}

impl Default for GradientScaleFields {
    fn default() -> Self {
        let usual = quant_core::GradientScale::default();
        Self { rule: usual.rule, factor: usual.factor }
    }
}

/// Stands for the name of a method where fields are documented.
pub(crate) struct MethodField;

impl JsonSchema for MethodField {
    fn schema_name() -> Cow<'static, str> {
        "MethodField".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": Method::names() })
    }
}

/// Stands for [`quant_nn::FirstLast`]: a truth value, or a table.
pub(crate) struct FirstLastField;

impl JsonSchema for FirstLastField {
    fn schema_name() -> Cow<'static, str> {
        "FirstLastField".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<FirstLastFields>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, table] })
    }
}

// Stands for [`quant_nn::FirstLastQuantizers`].
/// LSQ quantizers of the first and the last layer, whatever the other layers have. The first layer
/// has one of its weight alone, because its input, the pixels of images, are bytes already. The
/// last layer has one of its weight and one of its input.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "FirstLast", extend("x-example" = "{ bits = 8 }"))]
pub(crate) struct FirstLastFields {
    /// The number of bits: 2^bits levels, or one fewer where they are signed. Choose 8, except to
    /// compare numbers of bits.
    #[schemars(range(min = 2, max = 8))]
    bits: u32,
    /// Which elements of a weight share one clipping value. The input of the last layer always has
    /// one.
    #[serde(default = "usual_granularity")]
    #[schemars(with = "Choice<Granularity>")]
    granularity: Granularity,
}

fn usual_granularity() -> Granularity {
    FirstLastQuantizers::new(8).granularity
}

macro_rules! number {
    ($(#[doc = $doc:literal] $name:ident: $($bound:literal = $value:literal),*;)*) => {$(
        #[doc = $doc]
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "number", $($bound: $value),* })
            }
        }
    )*};
}

number! {
    /// Stands for [`quant_core::Percentile`]: a percentage of the magnitudes.
    PercentileField: "exclusiveMinimum" = 0, "maximum" = 100;
    /// Stands for the deviations of channels with values from 0 to 1; 1 divides by nothing.
    DeviationField: "minimum" = 0.001, "maximum" = 1;
    /// Stands for the means of channels whose values are from 0 to 1.
    MeanField: "minimum" = 0, "maximum" = 1;
    /// Stands for the numbers of a list that are weights of earlier values.
    BelowOneField: "minimum" = 0, "exclusiveMaximum" = 1;
}

#[cfg(test)]
mod tests {
    use schemars::{JsonSchema, schema_for};
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::schema::choices::names;

    fn same_fields<Shadow: JsonSchema, Type: DeserializeOwned>() {
        let schema = schema_for!(Shadow).to_value();
        let mut documented: Vec<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut read = names::<Type>().to_vec();
        documented.sort_unstable();
        read.sort_unstable();
        assert_eq!(documented, read);
    }

    #[test]
    fn what_is_documented_has_the_fields_that_are_read() {
        same_fields::<RenderedFields, quant_data::dataset::shapes::ShapesConfig>();
        same_fields::<GradientScaleFields, quant_core::GradientScale>();
        same_fields::<CompatibilityFields, quant_core::qtool::Compatibility>();
        same_fields::<FirstLastFields, FirstLastQuantizers>();
    }
}
