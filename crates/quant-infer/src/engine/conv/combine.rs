//! The numbers that are made of the sums of all passes of a convolution.

use core::{array, ops::Range};

use super::{
    constant::{ConstantSums, Constants, add_constants},
    integer::{Group, IntegerConv},
};

/// The sums of a convolution at the positions of a strip.
#[derive(Clone, Copy)]
pub(crate) struct StripSums<'a> {
    /// Those of each pass that depends on the image, one after another.
    pub(crate) sums: &'a [i32],
    /// The number of positions.
    pub(crate) positions: usize,
    pub(crate) constants: &'a Constants,
}

/// The most passes that one loop adds.
const TOGETHER: usize = 3;

impl IntegerConv {
    /// Writes the numbers `[positions, channels]` of some positions: for each output channel the
    /// sum over the passes, in their order, of the pass's sum times its scale. `in_strip` are the
    /// positions from the start of the strip.
    pub(crate) fn combine(
        &self,
        strip: StripSums<'_>,
        (in_strip, positions): (Range<usize>, Range<usize>),
        numbers: &mut [f32],
        channels: usize,
    ) {
        let mut rest = strip.sums;
        let mut next = |stride: usize| {
            let (of_pass, after) = rest.split_at(strip.positions * stride);
            rest = after;
            &of_pass[in_strip.start * stride..in_strip.end * stride]
        };
        for (at, group) in self.groups.iter().enumerate() {
            let count = group.passes.len();
            let constant = |pass: usize| strip.constants.of(at, pass);
            let is_flat = self.groups.len() == 1 && self.stride(&group.passes[0]) == channels;
            let mut pass = 0;
            while pass < count {
                // The passes that one loop adds are all constant or all computed.
                let is_constant = constant(pass).is_some();
                let same = (pass..count).take(TOGETHER);
                let same = same.take_while(|pass| constant(*pass).is_some() == is_constant).count();
                if is_constant {
                    let place = (group.first, group.outputs, channels);
                    let all: [Option<&ConstantSums>; TOGETHER] =
                        array::from_fn(|index| constant(pass + index).filter(|_| index < same));
                    self.set.vectorize(
                        #[inline(always)]
                        || {
                            if pass == 0 {
                                // A sum with -0 is the summand, to the last bit.
                                for numbers in numbers.chunks_exact_mut(channels) {
                                    numbers[group.first..][..group.outputs].fill(-0.0);
                                }
                            }
                            add_constants(all, positions.clone(), numbers, place);
                        },
                    );
                } else if is_flat {
                    let mut part = |index: usize| {
                        let scales = group.passes[pass + index].scales.repeated(numbers.len());
                        (next(channels), scales)
                    };
                    let first = part(0);
                    let second = (same > 1).then(|| part(1));
                    let third = (same > 2).then(|| part(2));
                    self.set.vectorize(
                        #[inline(always)]
                        || match (second, third) {
                            (Some(second), Some(third)) => {
                                add([first, second, third], numbers, pass);
                            }
                            (Some(second), None) => add([first, second], numbers, pass),
                            _ => add([first], numbers, pass),
                        },
                    );
                } else {
                    for pass in pass..pass + same {
                        let stride = self.stride(&group.passes[pass]);
                        let sums = next(stride);
                        self.set.vectorize(
                            #[inline(always)]
                            || group.add(pass, (sums, stride), numbers, channels),
                        );
                    }
                }
                pass += same;
            }
        }
    }
}

impl Group {
    /// Adds the sums of a pass, times its scales, position by position.
    #[inline(always)]
    fn add(
        &self,
        pass: usize,
        (sums, stride): (&[i32], usize),
        numbers: &mut [f32],
        channels: usize,
    ) {
        let scales = self.passes[pass].scales.channels();
        for (numbers, sums) in numbers.chunks_exact_mut(channels).zip(sums.chunks_exact(stride)) {
            let numbers = &mut numbers[self.first..][..self.outputs];
            add([(&sums[..self.outputs], scales)], numbers, pass);
        }
    }
}

/// Adds sums times scales to numbers, one pass after another. The first pass of all, which has the
/// index 0, replaces the numbers.
#[inline(always)]
fn add<const PASSES: usize>(passes: [(&[i32], &[f32]); PASSES], numbers: &mut [f32], first: usize) {
    let passes = passes.map(|(sums, scales)| (&sums[..numbers.len()], &scales[..numbers.len()]));
    let summand = |pass: usize, at: usize| passes[pass].0[at] as f32 * passes[pass].1[at];
    if first == 0 {
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = (1..PASSES).fold(summand(0, at), |sum, pass| sum + summand(pass, at));
        }
    } else {
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = (0..PASSES).fold(*number, |sum, pass| sum + summand(pass, at));
        }
    }
}
