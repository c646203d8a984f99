//! What became of a setting of QTool's, and the error where nothing can become of it.

use crate::error::TrainError;

/// What became of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its name, as in the configuration.
    pub setting: String,
    /// Its value.
    pub value: String,
    /// What it became.
    pub became: String,
}

/// The error of an option whose value cannot be used.
pub(super) fn unusable(option: &str, value: &str, accepted: &str) -> TrainError {
    TrainError::Qtool {
        place: format!("--{option}"),
        reason: format!("{value:?}: expected {accepted}"),
    }
}
