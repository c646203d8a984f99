//! The operations of nodes.

use alloc::{boxed::Box, vec::Vec};

use super::{Conv, Quantizer};

/// The operation by which a node is computed from its inputs.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The image, as floats.
    Input,
    /// A convolution or a linear layer.
    Conv(Box<Conv>),
    /// The values of a quantizer that stands alone, such as one of a layer's output.
    Quantize(Box<Quantizer>),
    /// x·scale + shift per channel, with two roundings: a batch norm in evaluation.
    Affine {
        /// The factor of each channel.
        scale: Vec<f32>,
        /// The number that is added, of each channel.
        shift: Vec<f32>,
    },
    /// x + number.
    AddScalar(f32),
    /// x·number.
    MulScalar(f32),
    /// x where x > 0, else 0.
    Relu,
    /// Relu, then 6 where the result is above 6.
    Relu6,
    /// x where x > 0, else x·slope: leaky ReLU and PReLU.
    LeakyRelu(f32),
    /// With d = x - before: d where d > 0, else d·slope; then plus after. Per channel.
    RPRelu {
        /// The number that is subtracted before, of each channel.
        before: Vec<f32>,
        /// The slope below 0, of each channel.
        slope: Vec<f32>,
        /// The number that is added after, of each channel.
        after: Vec<f32>,
    },
    /// (x - mean)/sqrt(variance + 1e-5) over each of this many groups of channels of an image. The
    /// sum of the elements, and that of (x - mean)², are sums of 64-bit floats in the order
    /// channel, row, column; each is divided by the number of elements. (x - mean)² uses the mean
    /// before it is rounded to 32 bits. Then both are rounded to 32 bits.
    GroupNorm(usize),
    /// The mean over squares of this side, which is also the stride; what is left at the edge is
    /// ignored. The sum runs by row and column, beginning with the first element, and is divided
    /// by the number of elements.
    AveragePool(usize),
    /// The maximum over each square.
    MaxPool(Pool),
    /// The mean over all positions, summed as in `AveragePool`.
    GlobalPool,
    /// r x r positions become channels: channel c of position (dy, dx) in its square becomes
    /// channel c·r² + dy·r + dx.
    SpaceToDepth(usize),
    /// The inverse of `SpaceToDepth`.
    DepthToSpace(usize),
    /// Zeros on every side.
    Pad(usize),
    /// The channels are repeated this many times.
    Repeat(usize),
    /// The channels of all inputs, one input after another.
    Concatenate,
    /// The sum of all inputs, from the first to the last.
    Add,
    /// `[channels, height, width]` becomes `[channels·height·width, 1, 1]`, row-major.
    Flatten,
}

/// Squares over which maxima are taken. Elements beyond the edge are ignored. The maximum begins
/// with the first element by row and column, and is replaced by a later one that is greater; so
/// 0 and -0 count as equal, and NaN is never greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// The side of the squares.
    pub kernel: usize,
    /// The stride.
    pub stride: usize,
    /// The padding on every side, at most half of the side.
    pub padding: usize,
    /// Whether the number of positions, (size + 2·padding - kernel)/stride + 1, is rounded up: then
    /// a last square may overlap the edge. One that would begin beyond the image is left out.
    pub ceil: bool,
}
