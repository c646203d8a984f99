//! Sizes of a convolution, and where its taps read.

use core::{error, fmt};

/// A convolution's sizes: square strides, padding and dilation, kernels of any size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Distance of two outputs in the input, in both directions.
    pub stride: usize,
    /// Pixels added on every side.
    pub padding: usize,
    /// What they are: 0, but where a quantizer makes something else of zeros.
    pub fill: f32,
    /// Distance of two taps in the input.
    pub dilation: usize,
    /// Groups, each of which convolves its share of the inputs to its share of the outputs.
    pub groups: usize,
}

/// Why there is no such convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeometryError {
    /// A size that must not be zero is.
    Zero {
        /// Which.
        field: &'static str,
    },
    /// Groups that do not divide the channels.
    Groups {
        /// Groups.
        groups: usize,
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
    },
    /// A kernel that does not fit.
    Kernel {
        /// What the kernel covers, dilation included.
        reach: [usize; 2],
        /// What there is.
        padded: [usize; 2],
    },
    /// A slice of the wrong length.
    Length {
        /// Which.
        field: &'static str,
        /// Its length.
        length: usize,
        /// What it should be.
        expected: usize,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { field } => write!(f, "{field} is 0; at least 1 is needed"),
            Self::Groups { groups, inputs, outputs } => write!(
                f,
                "{groups} groups do not divide both {inputs} input and {outputs} output channels"
            ),
            Self::Kernel { reach, padded } => write!(
                f,
                "a kernel of {reach:?} does not fit into {padded:?} pixels, padding included"
            ),
            Self::Length { field, length, expected } => {
                write!(f, "{field} has {length} elements, not {expected}")
            }
        }
    }
}

impl error::Error for GeometryError {}

impl Geometry {
    /// Checks that there is such a convolution.
    ///
    /// # Errors
    /// [`GeometryError`], except for lengths.
    pub fn validate(&self) -> Result<(), GeometryError> {
        let sizes = [
            ("batch", self.batch),
            ("inputs", self.inputs),
            ("outputs", self.outputs),
            ("kernel height", self.kernel[0]),
            ("kernel width", self.kernel[1]),
            ("stride", self.stride),
            ("dilation", self.dilation),
            ("groups", self.groups),
        ];
        if let Some((field, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(GeometryError::Zero { field });
        }
        let Self { inputs, outputs, groups, .. } = *self;
        if !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            return Err(GeometryError::Groups { groups, inputs, outputs });
        }
        let reach = [0, 1].map(|axis| self.reach(axis) + 1);
        let padded = self.size.map(|size| size + 2 * self.padding);
        match reach[0] > padded[0] || reach[1] > padded[1] {
            true => Err(GeometryError::Kernel { reach, padded }),
            false => Ok(()),
        }
    }

    /// Distance from a kernel's first tap to its last.
    pub(crate) fn reach(&self, axis: usize) -> usize {
        self.dilation * (self.kernel[axis] - 1)
    }

    /// Height and width of the output: (size + 2·padding - dilation·(kernel - 1) - 1)/stride + 1.
    pub fn output_size(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            (self.size[axis] + 2 * self.padding - self.reach(axis) - 1) / self.stride + 1
        })
    }

    /// Elements of the input.
    pub fn input_elements(&self) -> usize {
        self.batch * self.inputs * self.size[0] * self.size[1]
    }

    /// Elements of the output.
    pub fn output_elements(&self) -> usize {
        let [height, width] = self.output_size();
        self.batch * self.outputs * height * width
    }

    /// Elements of the weight: outputs, inputs of a group, kernel.
    pub fn weight_elements(&self) -> usize {
        self.outputs * self.group_inputs() * self.kernel[0] * self.kernel[1]
    }

    /// Input channels of a group.
    pub fn group_inputs(&self) -> usize {
        self.inputs / self.groups
    }

    /// Output channels of a group.
    pub fn group_outputs(&self) -> usize {
        self.outputs / self.groups
    }

    /// Taps of the kernel of one output and one input.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}
