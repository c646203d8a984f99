//! Convolutions and linear layers.

use alloc::vec::Vec;

use super::{Quantizer, Terms};

/// A convolution, or a linear layer.
///
/// The value at an output position is computed from the elements of the input below the kernel,
/// `x[c]` with c over (input channel of the group, row of the kernel, column of the kernel) in this
/// order, and the weights `w[o][c]` of output channel o.
///
/// # In integers
///
/// This applies if the weight is [`Weight::Codes`] with terms, and the quantizer has terms. The
/// outer loop is over the terms t of the quantizer. Within it, a loop goes over the groups g of its
/// channels that have an element below the kernel, in ascending order. The inner loop is over the
/// terms u of the weight. Let acc\[t, g, u\] be the sum, over the elements c of group g, of the
/// products of the two integers. This sum is exact. Then
///
/// y = Σ float(acc\[t, g, u\])·m\[t, g, u\], where m is scale\[t\]\[g\]·scale\[u\]\[o\]
///
/// The products m are rounded to 32 bits, float() rounds to nearest, and the sum runs in this
/// order from its first summand. With one group there is one accumulator for each pair of terms.
///
/// # In floats
///
/// Otherwise y is the sum of `x[c]·w[o][c]` in the order of c, beginning with 0, where x are the
/// values of the quantizer if there is one, and w are the values of the codes or the floats.
///
/// # After the sum
///
/// If there is a bias, it is added to y.
///
/// # Padding
///
/// An element beyond the edge of the image has the value 0. If `pads_codes` is true, it has the
/// code of 0 instead, as if zeros had been added before quantizing: its integers and values are
/// those of this code. It is never true for quantizers with a dynamic part; for these, `lower`
/// writes an [`Op::Pad`](super::Op::Pad) instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Input channels. A linear layer takes `[features, 1, 1]`, see
    /// [`Op::Flatten`](super::Op::Flatten).
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Stride, by rows and by columns.
    pub stride: [usize; 2],
    /// Padding on both sides, of rows and of columns.
    pub padding: [usize; 2],
    /// Distance between two elements of the kernel, by rows and by columns.
    pub dilation: [usize; 2],
    /// Groups of channels that are convolved among themselves.
    pub groups: usize,
    /// The quantizer of the input.
    pub quantizer: Option<Quantizer>,
    /// Whether elements beyond the edge have the code of 0.
    pub pads_codes: bool,
    /// The weight.
    pub weight: Weight,
    /// The number that is added to each output channel.
    pub bias: Option<Vec<f32>>,
}

/// The weight of a convolution, `[out_channels, in_channels/groups, height, width]` row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Weight {
    /// Floats.
    Float(Vec<f32>),
    /// Codes, which are packed in a file.
    Codes(WeightCodes),
}

/// A weight as codes.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightCodes {
    /// The number of levels, from 2 to 256.
    pub levels: usize,
    /// The code of each element.
    pub codes: Vec<u8>,
    /// The number of groups of elements, each with its own values.
    pub groups: usize,
    /// The number of consecutive elements that belong to the same group: element i belongs to
    /// group (i / run) mod groups. With one group it is the number of elements; with a group for
    /// each output channel it is the number of elements of a channel.
    pub run: usize,
    /// The values of the codes, `[groups, levels]` row-major.
    pub values: Vec<f32>,
    /// The values as integers times scales. They are only present if a group is one output channel,
    /// several, or all of them, so that each output channel o has one scale per term.
    pub terms: Option<Terms>,
}

impl WeightCodes {
    /// Returns the group of an element.
    pub fn group_of(&self, element: usize) -> usize {
        element / self.run % self.groups
    }

    /// Returns the value of an element.
    pub fn value_of(&self, element: usize) -> f32 {
        self.values[self.group_of(element) * self.levels + usize::from(self.codes[element])]
    }
}

impl Conv {
    /// Returns the terms of the quantizer and of the weight if both have terms: then the sum runs
    /// over integers.
    pub fn integer_terms(&self) -> Option<(&Terms, &Terms)> {
        match (&self.quantizer, &self.weight) {
            (Some(Quantizer { terms: Some(input), .. }), Weight::Codes(codes)) => {
                codes.terms.as_ref().map(|weight| (input, weight))
            }
            _ => None,
        }
    }
}
