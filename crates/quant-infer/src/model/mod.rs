//! A network as data: the nodes in execution order, with all their numbers.
//!
//! The documentation of each type says what it computes, to the last rounding. This is the
//! *served arithmetic*: every program that runs a [`Model`] computes these bits, whatever
//! instructions it uses. Unless another type is named, all numbers are 32-bit floats. Every
//! addition, subtraction, multiplication and division is rounded on its own (to the nearest, ties
//! to even), in the order that the formula is written in, and none of them are fused.
//!
//! Every node has one value: for each image, floats `[channels, height, width]`. An implementation
//! may keep codes instead of floats, or skip values, if the results are the same.

mod check;
mod conv;
pub(crate) mod levels;
mod op;
mod quantizer;

pub use check::MAX_ELEMENTS;
pub use conv::{Conv, Weight, WeightCodes};
pub use levels::{Term, Terms};
pub use op::{Op, Pool};
pub use quantizer::{Dynamic, Quantizer};

use alloc::{string::String, vec::Vec};

/// A network that was lowered for serving.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The name of the network, such as `resnet18`.
    pub name: String,
    /// The program that made the model, with its version.
    pub producer: String,
    /// The names of the classes in the order of the scores. It is empty where they are not known.
    pub classes: Vec<String>,
    /// The images that the network takes.
    pub input: Input,
    /// The nodes in execution order. The first is [`Op::Input`], and the value of the last is the
    /// class scores, `[classes, 1, 1]`.
    pub nodes: Vec<Node>,
}

/// The images that a network takes: bytes, or floats that were normalised already.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// The height and width that the network was trained with. Others are accepted if every layer
    /// has a size for them.
    pub size: [usize; 2],
    /// The length in pixels to which the shorter side of a picture is resized, with antialiasing,
    /// before the centre of `size` is cut out. `None` if pictures are only cut. The network itself
    /// does neither: this says how its validation images were made.
    pub shorter_side: Option<usize>,
    /// The factor on the byte of each channel. Its length is the number of channels.
    pub scale: Vec<f32>,
    /// The number that is then added, per channel: a byte p becomes p·scale + shift, with two
    /// roundings.
    pub shift: Vec<f32>,
}

impl Input {
    /// Returns the input of a network that was trained with images of this height and width,
    /// normalised to (byte/255 - mean)/std in each channel: scale = 1/(255·std) and
    /// shift = -mean/std, computed in 64 bits and rounded to 32. Pictures are only cut.
    ///
    /// ```
    /// use quant_infer::model::Input;
    ///
    /// let input = Input::normalized([32, 32], &[0.5], &[0.25]);
    /// assert_eq!((input.scale[0], input.shift[0]), (1.0 / 63.75, -2.0));
    /// ```
    pub fn normalized(size: [usize; 2], mean: &[f64], std: &[f64]) -> Self {
        Self {
            size,
            shorter_side: None,
            scale: std.iter().map(|std| (1.0 / (255.0 * std)) as f32).collect(),
            shift: mean.iter().zip(std).map(|(mean, std)| (-mean / std) as f32).collect(),
        }
    }
}

/// One value of the network, and how it is computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The name of the layer, in PyTorch's names, or a description where it has none.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The indices of the nodes that it is computed from; each is smaller than its own.
    pub inputs: Vec<usize>,
}
