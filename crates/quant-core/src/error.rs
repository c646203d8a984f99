//! The errors of configuring, using and checking a quantizer.

use crate::{method::Role, options::Accepted};

/// An invalid configuration, or a quantizer whose state has become invalid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizerError {
    /// The number of levels is outside 2 to 256.
    #[error("{levels} levels: expected 2 to 256")]
    Levels {
        /// The number of levels that was asked for.
        levels: usize,
    },
    /// The number of bits is outside 1 to 8.
    #[error("{bits} bits: expected 1 to 8")]
    Bits {
        /// The number of bits that was asked for.
        bits: u32,
    },
    /// The method does not support this value of a field in this role.
    #[error(
        "{layer}: {field} = {value} is not supported by the method {method} as {role} quantizer; \
         the nearest supported configuration has {nearest}"
    )]
    Unsupported {
        /// Name of the layer.
        layer: String,
        /// Name of the unsupported field.
        field: &'static str,
        /// Value of the field.
        value: String,
        /// Method of the configuration.
        method: &'static str,
        /// Role of the configuration.
        role: Role,
        /// The fields to change, with their new values, for the nearest configuration that works.
        nearest: String,
    },
    /// A number or an option has a value that it does not take.
    #[error("{layer}: {field} = {value}: expected {accepted}")]
    OutOfBounds {
        /// Name of the layer.
        layer: String,
        /// Name of the field or option.
        field: &'static str,
        /// The value that the field or option has.
        value: String,
        /// The values that it takes.
        accepted: Accepted,
    },
    /// The number or size of groups does not divide the channels that are grouped.
    #[error(
        "{layer}: the granularity asks for {groups}, which does not divide {elements}, the number \
         of channels or of input-output channel pairs in the shape {shape:?}; choose a divisor"
    )]
    Groups {
        /// Name of the layer.
        layer: String,
        /// The number of groups, or of elements in a group, that was asked for.
        groups: usize,
        /// The number that the groups have to divide.
        elements: usize,
        /// Shape of the tensor.
        shape: Vec<usize>,
    },
    /// No weight of a model is selected for quantizing, or the weight at the requested path does
    /// not exist.
    #[error(
        "{}; the model's weights are: {}",
        wanted.as_ref().map_or("no weight is selected".into(), |path| format!("no weight {path}")),
        weights.join(", ")
    )]
    NoWeight {
        /// The path that was asked for.
        wanted: Option<String>,
        /// Paths of the weights that can be quantized.
        weights: Vec<String>,
    },
    /// The shape has too few dimensions, or a dimension of size 0.
    #[error("{layer}: shape {shape:?}: {expected}")]
    Shape {
        /// Name of the layer.
        layer: String,
        /// The shape of the tensor.
        shape: Vec<usize>,
        /// The shapes that would work.
        expected: &'static str,
    },
    /// A learned step size or clipping value is zero, negative or not a number, or another learned
    /// parameter is not a finite number.
    #[error(
        "{layer}: {parameter}[{group}] = {value}: expected {expected}; training has moved it too \
         far: lower its learning rate, give it a gradient scale, or calibrate it again"
    )]
    Degenerate {
        /// Name of the layer.
        layer: String,
        /// Name of the parameter.
        parameter: &'static str,
        /// The group that the value belongs to.
        group: usize,
        /// The value of the parameter for this group.
        value: f32,
        /// The values that would be valid.
        expected: &'static str,
    },
    /// The number of levels of a quantizer cannot change while it trains.
    #[error("{layer}: the method {method} cannot change from {from} to {to} levels: {reason}")]
    LevelChange {
        /// Name of the layer.
        layer: String,
        /// The method of the quantizer.
        method: &'static str,
        /// The number of levels of the quantizer.
        from: usize,
        /// The number of levels that was asked for.
        to: usize,
        /// The reason for the refusal.
        reason: String,
    },
    /// An option, keyword or field has a value that cannot be used.
    #[error("{option}{}: {accepted}", equals(.value))]
    Option {
        /// Name of the option, keyword or field.
        option: String,
        /// The value, or an empty text where the error is not about a value.
        value: String,
        /// The values that would work.
        accepted: &'static str,
    },
}

/// Returns " = value", or nothing for an empty value.
fn equals(value: &str) -> String {
    match value {
        "" => String::new(),
        value => format!(" = {value}"),
    }
}
