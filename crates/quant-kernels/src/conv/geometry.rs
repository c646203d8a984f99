//! The sizes of a convolution.

use core::{error, fmt};

/// The sizes of a convolution. Stride, padding and dilation are the same in both directions;
/// kernels may have any size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Number of images.
    pub batch: usize,
    /// Number of input channels.
    pub in_channels: usize,
    /// Number of output channels.
    pub out_channels: usize,
    /// Height and width of the input.
    pub input_size: [usize; 2],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Distance in the input between neighbouring output pixels, in both directions.
    pub stride: usize,
    /// Number of pixels added on every side.
    pub padding: usize,
    /// The value of the added pixels: 0, unless a quantizer maps zero to another value.
    pub padding_value: f32,
    /// Distance in the input between neighbouring taps.
    pub dilation: usize,
    /// Number of groups. Each convolves its share of the input channels to its share of the output
    /// channels.
    pub groups: usize,
}

/// The reason why sizes do not describe a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeometryError {
    /// A size that must not be zero is zero.
    Zero {
        /// Name of the size.
        field: &'static str,
    },
    /// The number of groups does not divide the channels.
    Groups {
        /// Number of groups.
        groups: usize,
        /// Number of input channels.
        in_channels: usize,
        /// Number of output channels.
        out_channels: usize,
    },
    /// The kernel does not fit into the input.
    KernelSize {
        /// Height and width that the kernel covers, in pixels, dilation included.
        reach: [usize; 2],
        /// Height and width of the input, in pixels, padding included.
        padded: [usize; 2],
    },
    /// A slice has the wrong length.
    Length {
        /// Name of the slice.
        field: &'static str,
        /// Number of its elements.
        length: usize,
        /// Number of elements that the sizes require.
        expected: usize,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { field } => write!(f, "{field} is 0; at least 1 is needed"),
            Self::Groups { groups, in_channels, out_channels } => write!(
                f,
                "{groups} groups do not divide both {in_channels} input and {out_channels} output \
                 channels"
            ),
            Self::KernelSize { reach, padded } => write!(
                f,
                "a kernel of {reach:?} does not fit into {padded:?} pixels, padding included"
            ),
            Self::Length { field, length, expected } => {
                write!(f, "{field} has {length} elements: expected {expected}")
            }
        }
    }
}

impl error::Error for GeometryError {}

impl Geometry {
    /// Checks that the sizes describe a convolution.
    ///
    /// # Errors
    /// Any [`GeometryError`] except [`GeometryError::Length`].
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

    /// Returns the distance from a kernel's first tap to its last, in pixels of the input.
    pub(crate) fn reach(&self, axis: usize) -> usize {
        self.dilation * (self.kernel_size[axis] - 1)
    }

    /// Returns the height and width of the output: (size + 2·padding - dilation·(kernel - 1) -
    /// 1)/stride + 1.
    pub fn output_size(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            (self.input_size[axis] + 2 * self.padding - self.reach(axis) - 1) / self.stride + 1
        })
    }

    /// Returns the number of elements of the input.
    pub fn input_elements(&self) -> usize {
        self.batch * self.in_channels * self.input_size[0] * self.input_size[1]
    }

    /// Returns the number of elements of the output.
    pub fn output_elements(&self) -> usize {
        let [height, width] = self.output_size();
        self.batch * self.out_channels * height * width
    }

    /// Returns the number of elements of the weight: output channels times input channels of a
    /// group times taps.
    pub fn weight_elements(&self) -> usize {
        self.out_channels * self.group_in_channels() * self.kernel_size[0] * self.kernel_size[1]
    }

    /// Returns the number of input channels of a group.
    pub fn group_in_channels(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Returns the number of output channels of a group.
    pub fn group_out_channels(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Returns the number of taps of the kernel for one output and one input.
    pub(crate) fn taps(&self) -> usize {
        self.kernel_size[0] * self.kernel_size[1]
    }
}
