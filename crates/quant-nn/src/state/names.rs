//! Recognises kinds of entries by their names.

/// The names of entries that are computed from the data instead of being trained by a gradient, or
/// the beginnings of these names.
const RUNNING: [&str; 4] = ["running_", "basis", "iteration", "num_batches_tracked"];

/// Returns whether the entry with this name is computed from the data (running statistics, a
/// learned basis) instead of being trained by a gradient.
#[doc(hidden)]
pub fn is_running(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    RUNNING.iter().any(|start| last.starts_with(start))
}

/// Counters and constants that are entries in PyTorch's states, and that networks here do not have.
/// They are not reported as unused.
pub(super) const BOOKKEEPING: [&str; 3] = ["num_batches_tracked", "iteration", "level_num"];

/// Returns whether the parameter with this name belongs to a quantizer of one of this crate's
/// layers.
pub(super) fn is_quantizers(name: &str) -> bool {
    name.contains(".quant_") || name.starts_with("quant_")
}
