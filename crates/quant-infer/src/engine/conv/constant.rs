//! Sums of terms whose integers are all equal, such as the offset of a quantizer. They do not
//! depend on the image, but only on which taps lie beyond its edges.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use quant_kernels::Aligned;

use super::{
    integer::{IntegerConv, Pass},
    taps::{Geometry, OperandSize, Places},
};

/// The sums of the passes whose term is constant, by group and pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Constants(Vec<Vec<Option<ConstantSums>>>);

/// The sums of a pass.
#[derive(Debug, Clone)]
pub(crate) struct ConstantSums {
    /// The sums of each class of positions, whose taps lie beyond the same edges.
    sums: Aligned<i32>,
    /// The sums times the scales of the pass.
    summands: Aligned<f32>,
    stride: usize,
    /// The index of each position's first sum.
    starts: Vec<u32>,
}

impl Constants {
    /// Returns the sums of a pass of a group, if they are constant.
    pub(crate) fn of(&self, group: usize, pass: usize) -> Option<&ConstantSums> {
        self.0.get(group)?.get(pass)?.as_ref()
    }

    /// Computes the sums. `operand` returns the operand of a term that is constant, with its
    /// padding.
    pub(crate) fn new(
        conv: &IntegerConv,
        (size, output): (&OperandSize, [usize; 2]),
        places: &Places,
        operand: impl Fn(usize) -> Option<Vec<u32>>,
    ) -> Self {
        let classes = [0, 1].map(|axis| classes(&conv.geometry, size, output, axis));
        let [(rows, first_rows), (columns, first_columns)] = classes;
        let starts = first_rows.iter().flat_map(|row| {
            let row = &places.starts[row * output[1]..][..output[1]];
            first_columns.iter().map(|column| row[*column])
        });
        let positions = Places {
            starts: starts.collect(),
            runs: places.runs.clone(),
            taps: places.taps.clone(),
            words: places.words,
            elements: places.elements.clone(),
            unrolled: places.unrolled,
        };
        let count = positions.starts.len();
        let of_pass = |pass: &Pass| {
            let operand = operand(pass.term)?;
            let operand = match conv.unrolled_size(size, output) {
                Some(unrolled) => {
                    let mut to = vec![0; unrolled.elements()];
                    conv.unroll(&operand, (size, output), &mut Vec::new(), &mut to);
                    to
                }
                None => operand,
            };
            let stride = conv.stride(pass);
            let mut sums = Aligned::filled(count * stride, 0);
            let to = (&mut sums[..], &mut Vec::new());
            let size = positions.unrolled.unwrap_or(*size);
            let mut elements = Vec::new();
            if pass.extra != 0 {
                elements.resize(size.height * size.width, 0);
                conv.add_elements(pass, &operand, &size, &mut elements);
            }
            conv.run(pass, (&operand, &elements), &positions, 0..count, to);
            let of_row = |row: &usize| {
                let first = row * first_columns.len();
                columns.iter().map(move |column| ((first + column) * stride) as u32)
            };
            let starts = rows.iter().flat_map(of_row).collect();
            let scales = pass.scales.channels();
            let of_class = |sums: &[i32]| -> Vec<f32> {
                // The places of a vector that belong to no channel have the factor 0.
                let scales = scales.iter().copied().chain(core::iter::repeat(0.0));
                sums.iter().zip(scales).map(|(sum, scale)| *sum as f32 * scale).collect()
            };
            let summands: Vec<f32> = sums.chunks_exact(stride).flat_map(of_class).collect();
            let summands = Aligned::from(&summands[..]);
            Some(ConstantSums { sums, summands, stride, starts })
        };
        Self((conv.groups.iter()).map(|group| group.passes.iter().map(of_pass).collect()).collect())
    }
}

impl ConstantSums {
    /// Returns the sums of a position.
    #[inline(always)]
    pub(crate) fn sums(&self, position: usize) -> &[i32] {
        &self.sums[self.starts[position] as usize..][..self.stride]
    }

    /// Returns the sums times the scales of the pass, of all classes, and the index of the first
    /// one of each position of a range.
    pub(crate) fn rows(&self, positions: Range<usize>) -> (&[f32], &[u32]) {
        (&self.summands, &self.starts[positions])
    }
}

/// Adds what up to three passes of a group add to the numbers `[positions, channels]`, one pass
/// after another, from the channel `first` on.
#[inline(always)]
pub(super) fn add_constants(
    passes: [Option<&ConstantSums>; 3],
    positions: Range<usize>,
    numbers: &mut [f32],
    (first, outputs, channels): (usize, usize, usize),
) {
    let Some(constant) = passes[0] else { return };
    // The passes have the same classes and strides.
    let (_, starts) = constant.rows(positions);
    for (numbers, start) in numbers.chunks_exact_mut(channels).zip(starts) {
        let numbers = numbers[first..][..outputs].iter_mut();
        let of = |_: &ConstantSums| *start as usize..*start as usize + outputs;
        match passes {
            [Some(a), Some(b), Some(c)] => {
                let each = numbers.zip(&a.summands[of(a)]).zip(&b.summands[of(b)]);
                each.zip(&c.summands[of(c)]).for_each(|(((y, a), b), c)| *y = *y + a + b + c);
            }
            [Some(a), Some(b), _] => {
                let each = numbers.zip(&a.summands[of(a)]).zip(&b.summands[of(b)]);
                each.for_each(|((y, a), b)| *y = *y + a + b);
            }
            [Some(a), ..] => numbers.zip(&a.summands[of(a)]).for_each(|(y, a)| *y += a),
            _ => {}
        }
    }
}

/// Returns the class of each position along an axis, and the first position of each class.
fn classes(
    conv: &Geometry,
    size: &OperandSize,
    output: [usize; 2],
    axis: usize,
) -> (Vec<usize>, Vec<usize>) {
    let inside = [size.height, size.width][axis] - 2 * size.padding[axis];
    // The number of taps before the image, and the number of those before its end.
    let class = |position: usize| {
        let start = position * conv.stride[axis];
        let taps_before = |edge: usize| {
            edge.saturating_sub(start).div_ceil(conv.dilation[axis]).min(conv.kernel[axis])
        };
        [taps_before(conv.padding[axis]), taps_before(conv.padding[axis] + inside)]
    };
    let mut firsts: Vec<usize> = Vec::new();
    let all = (0..output[axis])
        .map(|position| {
            let found = firsts.iter().position(|first| class(*first) == class(position));
            found.unwrap_or_else(|| {
                firsts.push(position);
                firsts.len() - 1
            })
        })
        .collect();
    (all, firsts)
}
