//! Recognises kinds of entries by their names.

/// Counters and constants that are entries in PyTorch's states, and that networks here do not have.
/// They are not reported as unused.
const BOOKKEEPING: [&str; 3] = ["num_batches_tracked", "iteration", "level_num"];

/// Returns whether the entry with this name is a counter or constant of PyTorch or QTool.
pub(super) fn is_bookkeeping(name: &str) -> bool {
    BOOKKEEPING.contains(&name.rsplit('.').next().unwrap_or_default())
}

/// The fields of this crate's layers that have quantizers.
const QUANTIZERS: [&str; 3] = ["quant_activation", "quant_weight", "quant_output"];

/// Returns whether the parameter with this name belongs to a quantizer of one of this crate's
/// layers.
pub(super) fn is_quantizers(name: &str) -> bool {
    let owner = name.rsplit_once('.').map_or("", |(owner, _)| owner);
    owner.split('.').any(|part| QUANTIZERS.contains(&part))
}
