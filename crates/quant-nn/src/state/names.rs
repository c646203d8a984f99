//! What the names of a state's entries say of them.

/// Names, or their beginnings, of what follows the data instead of a gradient.
const RUNNING: [&str; 4] = ["running_", "basis", "iteration", "num_batches_tracked"];

/// Whether the entry of this name follows the data (running statistics, a learned basis) instead of
/// being trained.
#[doc(hidden)]
pub fn is_running(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    RUNNING.iter().any(|start| last.starts_with(start))
}

/// Entries that PyTorch networks keep beside their state, and ours do without.
pub(super) const BOOKKEEPING: [&str; 3] = ["num_batches_tracked", "iteration", "level_num"];

/// Whether a parameter of this name belongs to a quantizer that is named as those of our layers
/// are.
pub(super) fn is_quantizers(name: &str) -> bool {
    name.contains(".quant_") || name.starts_with("quant_")
}
