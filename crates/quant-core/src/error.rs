//! What can go wrong when a quantizer is configured, used or checked.

use crate::{method::Role, options::Accepted};

/// An invalid configuration, or a quantizer whose state has become invalid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizerError {
    /// The number of levels is outside 2 to 256.
    #[error("{levels} levels: a quantizer takes 2 to 256")]
    Levels {
        /// The levels asked for.
        levels: usize,
    },
    /// The number of bits is outside 1 to 8.
    #[error("{bits} bits: a quantizer takes 1 to 8")]
    Bits {
        /// The bits asked for.
        bits: u32,
    },
    /// The method does not offer this combination.
    #[error(
        "{layer}: {field} = {value} does not go with the method {method} as {role} quantizer; the \
         nearest possible: {nearest}"
    )]
    Unsupported {
        /// Name of the layer.
        layer: String,
        /// Configuration field at fault.
        field: &'static str,
        /// Its value.
        value: String,
        /// The method it was combined with.
        method: &'static str,
        /// The role it was combined with.
        role: Role,
        /// The fields to change, and what to, for the nearest configuration that works.
        nearest: String,
    },
    /// A numeric field is not a positive finite number.
    #[error("{layer}: {field} = {value}: expected a finite number above 0")]
    NotPositive {
        /// Name of the layer.
        layer: String,
        /// Configuration field at fault.
        field: &'static str,
        /// Its value.
        value: f64,
    },
    /// An option of the method has a value that it does not take.
    #[error("{layer}: {field} = {value}: expected {accepted}")]
    OutOfBounds {
        /// Name of the layer.
        layer: String,
        /// The option at fault.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would work.
        accepted: Accepted,
    },
    /// The groups do not divide what they are to group.
    #[error(
        "{layer}: {groups} groups do not divide {elements} (the product of the first dimensions of \
         {shape:?} that groups are cut from)"
    )]
    Groups {
        /// Name of the layer.
        layer: String,
        /// Number of groups, or of elements in a group.
        groups: usize,
        /// What they would have to divide.
        elements: usize,
        /// Shape of the tensor.
        shape: Vec<usize>,
    },
    /// No weight of a model is selected for quantizing, or the one that is named does not exist.
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
    /// The shape has too few dimensions, or an empty one.
    #[error("{layer}: shape {shape:?}: {expected}")]
    Shape {
        /// Name of the layer.
        layer: String,
        /// The shape.
        shape: Vec<usize>,
        /// What would work.
        expected: &'static str,
    },
    /// A learned step size or clipping value is zero, negative or not a number, or another learned
    /// parameter is not a finite number.
    #[error(
        "{layer}: {parameter}[{group}] = {value}: training has driven it away from {expected}; lower \
         its learning rate, give it a gradient scale, or calibrate it anew"
    )]
    Degenerate {
        /// Name of the layer.
        layer: String,
        /// Name of the parameter.
        parameter: &'static str,
        /// The group it belongs to.
        group: usize,
        /// Its value.
        value: f32,
        /// What it should be.
        expected: &'static str,
    },
    /// The number of levels of a quantizer cannot change while it trains.
    #[error("{layer}: the method {method} cannot go from {from} to {to} levels: {reason}")]
    LevelChange {
        /// Name of the layer.
        layer: String,
        /// Its method.
        method: &'static str,
        /// Its levels.
        from: usize,
        /// The levels asked for.
        to: usize,
        /// Why not.
        reason: String,
    },
    /// An option, keyword or field has a value that nothing can be made of.
    #[error("{option}{}: {accepted}", equals(.value))]
    Option {
        /// The option, keyword or field.
        option: String,
        /// Its value; empty where it is not about a value.
        value: String,
        /// What would work.
        accepted: &'static str,
    },
}

/// " = value", or nothing where there is none.
fn equals(value: &str) -> String {
    match value {
        "" => String::new(),
        value => format!(" = {value}"),
    }
}
