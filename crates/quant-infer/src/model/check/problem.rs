//! What is wrong with a model, and with which of its layers.

use alloc::{format, string::String};

use crate::model::Node;

/// What is wrong with a layer.
pub(super) type Problem = String;

/// Returns a problem unless the condition holds.
pub(super) fn ensure(condition: bool, problem: impl FnOnce() -> Problem) -> Result<(), Problem> {
    if condition { Ok(()) } else { Err(problem()) }
}

/// Returns the name of a layer for messages.
pub(super) fn layer_name(index: usize, node: &Node) -> String {
    format!("layer {index} ({})", node.name)
}
