//! Reads values back from the device. These are the places where a program waits for the device; a
//! training step has none of them. Only the exchange of statistics between processes
//! (`mapped_on_host` in `ops/tensor_ops.rs`) reads values beside them.

use std::cell::Cell;

use burn::tensor::{Int, Tensor, TensorData};

thread_local! {
    static READS: Cell<usize> = const { Cell::new(0) };
}

/// Returns how often this crate has read values back from a device on this thread. Quantizing,
/// training and updating running values never read values back; calibrating, describing, checking
/// and probing do.
pub fn reads() -> usize {
    READS.get()
}

/// Returns the values in the type of the tensor.
pub(crate) fn data<const D: usize>(tensor: Tensor<D>) -> TensorData {
    READS.set(READS.get() + 1);
    tensor.into_data()
}

/// Returns codes, row-major.
pub(crate) fn codes<const D: usize>(codes: Tensor<D, Int>) -> Vec<u8> {
    READS.set(READS.get() + 1);
    codes.into_data().iter::<i64>().map(|code| code as u8).collect()
}

/// Returns the highest code.
pub(crate) fn highest<const D: usize>(codes: Tensor<D, Int>) -> usize {
    READS.set(READS.get() + 1);
    codes.into_data().iter::<i64>().max().map_or(0, |code| code as usize)
}

/// Returns the values, row-major.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    data(tensor).convert::<f32>().iter().collect()
}
