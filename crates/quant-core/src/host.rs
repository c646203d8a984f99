//! Values read back from the device: the places where a program waits for it. A training step has none.

use std::cell::Cell;

use burn::tensor::{Int, Tensor, TensorData};

thread_local! {
    static READS: Cell<usize> = const { Cell::new(0) };
}

/// How often this crate has read values back from a device on this thread: quantizing, training and following the data
/// never does; calibrating, describing, checking and probing do.
pub fn reads() -> usize {
    READS.get()
}

/// The values as they are.
pub(crate) fn data<const D: usize>(tensor: Tensor<D>) -> TensorData {
    READS.set(READS.get() + 1);
    tensor.into_data()
}

/// Codes, row-major.
pub(crate) fn codes<const D: usize>(codes: Tensor<D, Int>) -> Vec<u8> {
    READS.set(READS.get() + 1);
    codes.into_data().iter::<i64>().map(|code| code as u8).collect()
}

/// The values, row-major.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    data(tensor).convert::<f32>().iter().collect()
}
