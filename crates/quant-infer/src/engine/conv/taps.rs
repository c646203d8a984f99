//! Where the taps of a kernel lie in a stored operand.

use alloc::vec::Vec;

use quant_kernels::channels_last::Run;

use crate::model::Conv;

/// The size of a stored operand, `[height, width, channels]` with its padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OperandSize {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Elements of a position.
    pub(crate) channels: usize,
    /// Rows and columns of padding on each side.
    pub(crate) padding: [usize; 2],
}

/// The places that a convolution reads for images of one size.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// The index of the first element of each output position.
    pub(crate) starts: Vec<u32>,
    /// The number of words of an element of the operand, where it has integers.
    pub(crate) words: usize,
    /// The distances of the kernel's elements from the first one, in elements of the operand.
    pub(crate) elements: Vec<usize>,
    /// The taps of each set of weights, from the start of a position.
    pub(crate) runs: Vec<Vec<Run>>,
    /// The distances of the kernel's positions, for depthwise convolutions.
    pub(crate) taps: Vec<u32>,
    /// The size of what a convolution stores again of its operand, if it does so.
    pub(crate) unrolled: Option<OperandSize>,
}

impl Places {
    /// Adds, for each position, the sum over the kernel's elements of the numbers of the elements
    /// below, times a factor. `starts` are those of the positions.
    #[inline(always)]
    pub(super) fn add_elements(
        &self,
        starts: &[u32],
        numbers: &[i32],
        factor: i32,
        sums: &mut [i32],
    ) {
        let words = self.words as u32;
        let mut position = 0;
        while position < starts.len() {
            let rest = &starts[position..];
            // The elements of neighbours lie side by side, so one loop runs over them.
            let neighbours =
                rest.windows(2).take_while(|pair| pair[1].wrapping_sub(pair[0]) == words);
            let count = neighbours.count() + 1;
            let first = (rest[0] / words) as usize;
            let sums = &mut sums[position..][..count];
            for distance in &self.elements {
                let numbers = &numbers[first + distance..][..count];
                for (sum, number) in sums.iter_mut().zip(numbers) {
                    *sum = sum.wrapping_add(number.wrapping_mul(factor));
                }
            }
            position += count;
        }
    }
}

impl OperandSize {
    /// Returns the number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Returns the distance of a kernel's position from its first.
    pub(super) fn tap(&self, conv: &Geometry, row: usize, column: usize) -> usize {
        (row * conv.dilation[0] * self.width + column * conv.dilation[1]) * self.channels
    }

    /// Returns the first element of each output position.
    pub(super) fn starts(&self, conv: &Geometry, [height, width]: [usize; 2]) -> Vec<u32> {
        // The operand may have more padding than this convolution.
        let skipped = [0, 1].map(|axis| self.padding[axis] - conv.padding[axis]);
        let mut starts = Vec::with_capacity(height * width);
        for y in 0..height {
            let row = (y * conv.stride[0] + skipped[0]) * self.width;
            starts.extend((0..width).map(|x| {
                let at = (row + x * conv.stride[1] + skipped[1]) * self.channels;
                at as u32
            }));
        }
        starts
    }
}

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

impl From<&Conv> for Geometry {
    fn from(conv: &Conv) -> Self {
        Self {
            kernel: conv.kernel,
            stride: conv.stride,
            padding: conv.padding,
            dilation: conv.dilation,
        }
    }
}

/// Returns the distances of taps as runs.
pub(super) fn runs(taps: impl Iterator<Item = usize>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for tap in taps {
        let tap = tap as u32;
        if let Some(run) = runs.last_mut() {
            if run.length == 1 && tap > run.start {
                run.step = tap - run.start;
            }
            if run.step > 0 && tap == run.start + run.length * run.step {
                run.length += 1;
                continue;
            }
        }
        runs.push(Run { start: tap, length: 1, step: 0 });
    }
    runs
}
