//! The integers of a convolution's weight.

use core::ops::Range;

use crate::model::{Conv, Terms, WeightCodes};

/// The integers of a weight. They are looked up where they are needed, since a list of them would
/// take twice the memory of the codes.
#[derive(Clone, Copy)]
pub(super) struct WeightIntegers<'a> {
    codes: &'a WeightCodes,
    pub(super) terms: &'a Terms,
    channels: usize,
    /// The number of places of the kernel.
    pub(super) places: usize,
    /// Whether those of each output channel are negated.
    negate: &'a [bool],
}

impl<'a> WeightIntegers<'a> {
    pub(super) fn new(
        conv: &Conv,
        terms: &'a Terms,
        codes: &'a WeightCodes,
        negate: &'a [bool],
    ) -> Self {
        let places = conv.kernel[0] * conv.kernel[1];
        Self { codes, terms, channels: conv.in_channels / conv.groups, places, negate }
    }

    /// Returns the number of codes.
    pub(super) fn levels(&self) -> usize {
        self.codes.levels
    }

    fn group(&self, output: usize) -> usize {
        // All elements of an output channel belong to one group.
        self.codes.group_of(output * self.channels * self.places)
    }

    pub(super) fn scale(&self, term: usize, output: usize) -> f32 {
        self.terms.0[term].scale_of(self.group(output))
    }

    /// Returns the integer of each code of an output channel.
    pub(super) fn table(&self, term: usize, output: usize) -> [i16; 256] {
        let sign = if self.negate[output] { -1 } else { 1 };
        let integers = self.terms.0[term].integers_of(self.group(output), self.codes.levels);
        let mut table = [0; 256];
        for (to, integer) in table.iter_mut().zip(integers) {
            *to = sign * integer;
        }
        table
    }

    /// Returns the codes of an output channel, `[channels, places]`.
    pub(super) fn codes(&self, output: usize) -> &'a [u8] {
        let per_output = self.channels * self.places;
        &self.codes.codes[output * per_output..][..per_output]
    }

    /// Returns the sum of the integers of some channels of an output channel.
    pub(super) fn sum(&self, term: usize, output: usize, channels: &Range<usize>) -> i32 {
        let table = self.table(term, output);
        let codes = &self.codes(output)[channels.start * self.places..channels.end * self.places];
        codes.iter().map(|code| i32::from(table[usize::from(*code)])).sum()
    }
}
