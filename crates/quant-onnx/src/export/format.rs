//! The ways of writing a low-bit network as an ONNX file.

/// A way of writing a low-bit network as an ONNX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// QONNX: the quantizers are nodes `Quant`, `BipolarQuant` and `MultiThreshold` of the domain
    /// `qonnx.custom_op.general`, which the Python package `qonnx`, FINN and hls4ml read.
    /// Convolutions sum integers, and their scales follow as a multiplication, so that 32-bit
    /// floats hold every sum exactly.
    Qonnx,
    /// 8-bit integers with `QuantizeLinear` and `DequantizeLinear` around convolutions, as runtimes
    /// fuse them: activations are bytes, limited to fewer values where they have fewer bits, and
    /// weights are signed bytes. Batch norms become part of the weights' scales.
    Int8,
    /// As [`Int8`](Self::Int8) for what is not a weight, with weights of 2 and 4 bits in the file,
    /// and sums of integers as in [`Qonnx`](Self::Qonnx).
    Compact,
}

impl Format {
    /// The version of ONNX's own operators.
    pub(super) fn opset(self, two_bits: bool) -> i64 {
        match self {
            Self::Qonnx => 17,
            Self::Int8 => 21,
            Self::Compact => 21 + 4 * i64::from(two_bits),
        }
    }

    /// The version of the file's format that has these operators.
    pub(super) fn ir_version(self, two_bits: bool) -> i64 {
        match self {
            Self::Qonnx => 8,
            Self::Int8 => 10,
            Self::Compact => 10 + 3 * i64::from(two_bits),
        }
    }
}
