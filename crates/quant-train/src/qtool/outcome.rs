//! What a setting of QTool became, and the error for a setting that cannot be imported.

use crate::error::TrainError;

/// What a setting became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The name of the setting, as in the configuration.
    pub setting: String,
    /// The value of the setting.
    pub value: String,
    /// The field of the recipe that it became, or the reason why it has no effect.
    pub became: String,
}

/// Returns the error of an option whose value cannot be used.
pub(super) fn unusable(option: &str, value: &str, accepted: &str) -> TrainError {
    TrainError::Qtool {
        place: format!("--{option}"),
        reason: format!("{value:?}: expected {accepted}"),
    }
}
