//! Sizes of a convolution, and where its taps read.

use core::{error, fmt};

/// A convolution's sizes: equal strides, padding and dilation in both directions, kernels of any
/// size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Height and width of the input.
    pub input_size: [usize; 2],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Distance between neighbouring output pixels in the input, in both directions.
    pub stride: usize,
    /// Pixels added on every side.
    pub padding: usize,
    /// The value of these pixels: 0, except where a quantizer turns zeros into something else.
    pub padding_value: f32,
    /// Distance between neighbouring taps in the input.
    pub dilation: usize,
    /// Groups, each of which convolves its share of the inputs to its share of the outputs.
    pub groups: usize,
}

/// Why sizes do not describe a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeometryError {
    /// A size is zero that must not be.
    Zero {
        /// Its name.
        field: &'static str,
    },
    /// Groups that do not divide the channels.
    Groups {
        /// Groups.
        groups: usize,
        /// Input channels.
        in_channels: usize,
        /// Output channels.
        out_channels: usize,
    },
    /// A kernel that does not fit.
    KernelSize {
        /// Pixels that the kernel covers in each direction, dilation included.
        reach: [usize; 2],
        /// Pixels of the input in each direction, padding included.
        padded: [usize; 2],
    },
    /// A slice of the wrong length.
    Length {
        /// Its name.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The length that the sizes ask for.
        expected: usize,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { field } => write!(f, "{field} is 0; at least 1 is needed"),
            Self::Groups { groups, in_channels, out_channels } => write!(
                f,
                "{groups} groups do not divide both {in_channels} input and {out_channels} output channels"
            ),
            Self::KernelSize { reach, padded } => write!(
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
    /// Checks that the sizes describe a convolution.
    ///
    /// # Errors
    /// [`GeometryError`], except for lengths.
    pub fn validate(&self) -> Result<(), GeometryError> {
        let sizes = [
            ("batch", self.batch),
            ("input channels", self.in_channels),
            ("output channels", self.out_channels),
            ("kernel height", self.kernel_size[0]),
            ("kernel width", self.kernel_size[1]),
            ("stride", self.stride),
            ("dilation", self.dilation),
            ("groups", self.groups),
        ];
        if let Some((field, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(GeometryError::Zero { field });
        }
        let Self { in_channels, out_channels, groups, .. } = *self;
        if !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            return Err(GeometryError::Groups { groups, in_channels, out_channels });
        }
        let reach = [0, 1].map(|axis| self.reach(axis) + 1);
        let padded = self.input_size.map(|size| size + 2 * self.padding);
        if reach[0] > padded[0] || reach[1] > padded[1] {
            return Err(GeometryError::KernelSize { reach, padded });
        }
        Ok(())
    }

    /// Distance from a kernel's first tap to its last.
    pub(crate) fn reach(&self, axis: usize) -> usize {
        self.dilation * (self.kernel_size[axis] - 1)
    }

    /// Height and width of the output: (size + 2·padding - dilation·(kernel - 1) - 1)/stride + 1.
    pub fn output_size(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            (self.input_size[axis] + 2 * self.padding - self.reach(axis) - 1) / self.stride + 1
        })
    }

    /// Elements of the input.
    pub fn input_elements(&self) -> usize {
        self.batch * self.in_channels * self.input_size[0] * self.input_size[1]
    }

    /// Elements of the output.
    pub fn output_elements(&self) -> usize {
        let [height, width] = self.output_size();
        self.batch * self.out_channels * height * width
    }

    /// Elements of the weight: output channels times input channels of a group times taps.
    pub fn weight_elements(&self) -> usize {
        self.out_channels * self.group_in_channels() * self.kernel_size[0] * self.kernel_size[1]
    }

    /// Input channels of a group.
    pub fn group_in_channels(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Output channels of a group.
    pub fn group_out_channels(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Taps of the kernel of one output and one input.
    pub(crate) fn taps(&self) -> usize {
        self.kernel_size[0] * self.kernel_size[1]
    }
}
