//! Convolutions in floats: sums in the stated order.

use quant_infer::model::{Conv, Weight};
use quant_kernels::simd;

use super::{
    array::{Array, padded},
    quantize,
};

/// Positions whose sums are computed together.
const TOGETHER: usize = 4;

pub(super) fn forward(conv: &Conv, x: &Array, shape: [usize; 3]) -> Array {
    let quantized = conv.quantizer.as_ref().map(|quantizer| quantize::values(quantizer, x));
    let x = quantized.as_ref().unwrap_or(x);
    let weights = transposed(conv);
    let edge = |channel: usize| match &conv.quantizer {
        Some(quantizer) if conv.pads_codes => {
            let group = quantizer.group_of(channel, conv.in_channels);
            quantizer.value_of(group, quantizer.code_of(group, 0.0))
        }
        _ => 0.0,
    };
    x.with(shape, |image| {
        let [channels, height, width] = x.shape;
        let size = [height + 2 * conv.padding[0], width + 2 * conv.padding[1]];
        let image = padded(image, [channels, height, width], conv.padding, edge);
        let mut sums = Vec::with_capacity(shape.iter().product());
        for group in 0..conv.groups {
            let inputs = channels / conv.groups;
            let planes = &image[group * inputs * size[0] * size[1]..];
            let outputs = conv.out_channels / conv.groups;
            let weights = &weights[group * (weights.len() / conv.groups)..];
            let weights = &weights[..inputs * conv.kernel[0] * conv.kernel[1] * outputs];
            simd::vectorize(
                #[inline(always)]
                || group_sums(conv, planes, size, weights, [shape[1], shape[2]], &mut sums),
            );
        }
        if let Some(bias) = &conv.bias {
            for (plane, bias) in sums.chunks_mut(shape[1] * shape[2]).zip(bias) {
                plane.iter_mut().for_each(|y| *y += bias);
            }
        }
        sums
    })
}

/// The weights `[groups, elements, outputs of a group]`, where elements are in the order of the
/// sum.
fn transposed(conv: &Conv) -> Vec<f32> {
    let values: Vec<f32> = match &conv.weight {
        Weight::Float(values) => values.clone(),
        Weight::Codes(codes) => (codes.codes.iter().enumerate())
            .map(|(index, code)| {
                let group = index / codes.run % codes.groups;
                codes.values[group * codes.levels + usize::from(*code)]
            })
            .collect(),
    };
    let outputs = conv.out_channels / conv.groups;
    let elements = values.len() / conv.out_channels;
    let mut transposed = Vec::with_capacity(values.len());
    for group in values.chunks(elements * outputs) {
        for element in 0..elements {
            transposed.extend((0..outputs).map(|output| group[output * elements + element]));
        }
    }
    transposed
}

/// Appends the sums of the outputs of a group, `[outputs, rows, columns]`. Each of several outputs
/// adds its products one after another; vectors run over the outputs.
#[inline(always)]
fn group_sums(
    conv: &Conv,
    planes: &[f32],
    [height, width]: [usize; 2],
    weights: &[f32],
    [rows, columns]: [usize; 2],
    sums: &mut Vec<f32>,
) {
    let elements = conv.in_channels / conv.groups * conv.kernel[0] * conv.kernel[1];
    let outputs = weights.len() / elements;
    let positions = rows * columns;
    let start = sums.len();
    sums.resize(start + outputs * positions, 0.0);
    let mut offsets = Vec::with_capacity(elements);
    for channel in 0..conv.in_channels / conv.groups {
        for row in 0..conv.kernel[0] {
            for column in 0..conv.kernel[1] {
                let (y, x) = (row * conv.dilation[0], column * conv.dilation[1]);
                offsets.push((channel * height + y) * width + x);
            }
        }
    }
    let place = |position: usize| {
        position / columns * conv.stride[0] * width + position % columns * conv.stride[1]
    };
    let mut totals = vec![0.0f32; TOGETHER * outputs];
    for first in (0..positions).step_by(TOGETHER) {
        let count = TOGETHER.min(positions - first);
        totals.fill(0.0);
        for (offset, weights) in offsets.iter().zip(weights.chunks_exact(outputs)) {
            for (index, totals) in totals.chunks_exact_mut(outputs).take(count).enumerate() {
                let x = planes[place(first + index) + offset];
                totals.iter_mut().zip(weights).for_each(|(total, weight)| *total += x * weight);
            }
        }
        for (index, totals) in totals.chunks_exact(outputs).take(count).enumerate() {
            for (output, total) in totals.iter().enumerate() {
                sums[start + output * positions + first + index] = *total;
            }
        }
    }
}
