//! Layers other than convolutions.

use quant_infer::model::{Op, Pool};
use rayon::prelude::*;

use super::array::{Array, Image, image, padded};

pub(super) fn forward(op: &Op, inputs: &[&Array], shape: [usize; 3]) -> Array {
    let x = inputs[0];
    let own = x.shape;
    let each = |f: &(dyn Fn(Image<'_>) -> Vec<f32> + Sync)| {
        x.with(shape, |values| f(Image { values, shape: own }))
    };
    match op {
        Op::Input | Op::Conv(_) | Op::Quantize(_) => unreachable!("computed elsewhere"),
        Op::Affine { scale, shift } => x.map(|channel, x| x * scale[channel] + shift[channel]),
        Op::AddScalar(number) => x.map(|_, x| x + number),
        Op::MulScalar(number) => x.map(|_, x| x * number),
        Op::Relu => x.map(|_, x| relu(x)),
        Op::Relu6 => x.map(|_, x| if relu(x) > 6.0 { 6.0 } else { relu(x) }),
        Op::LeakyRelu(slope) => x.map(|_, x| if x > 0.0 { x } else { x * slope }),
        Op::RPRelu { before, slope, after } => x.map(|channel, x| {
            let d = x - before[channel];
            (if d > 0.0 { d } else { d * slope[channel] }) + after[channel]
        }),
        Op::GroupNorm(groups) => x.with(shape, |image| group_norm(image, *groups)),
        Op::AveragePool(side) => each(&|x| {
            image(shape, |channel, y, column| mean(x, channel, [y * side, column * side], *side))
        }),
        Op::MaxPool(pool) => each(&|x| max_pool(x, *pool, shape)),
        Op::GlobalPool => {
            let positions = x.positions();
            x.with(shape, |image| {
                let mean = |plane: &[f32]| {
                    let sum = plane[1..].iter().fold(plane[0], |sum, x| sum + x);
                    sum / positions as f32
                };
                image.chunks(positions).map(mean).collect()
            })
        }
        Op::SpaceToDepth(r) => each(&|x| {
            image(shape, |channel, y, column| {
                let (dy, dx) = (channel % (r * r) / r, channel % r);
                x.at(channel / (r * r), y * r + dy, column * r + dx)
            })
        }),
        Op::DepthToSpace(r) => each(&|x| {
            image(shape, |channel, y, column| {
                x.at(channel * r * r + y % r * r + column % r, y / r, column / r)
            })
        }),
        Op::Pad(padding) => x.with(shape, |image| padded(image, own, [*padding; 2], |_| 0.0)),
        Op::Repeat(times) => x.with(shape, |image| image.repeat(*times)),
        Op::Concatenate => joined(inputs, shape, |parts| parts.concat()),
        Op::Add => joined(inputs, shape, |parts| {
            let rest = parts[1..].iter();
            rest.fold(parts[0].to_vec(), |mut sum, part| {
                sum.iter_mut().zip(*part).for_each(|(sum, x)| *sum += x);
                sum
            })
        }),
        Op::Flatten => Array { shape, ..x.clone() },
    }
}

fn joined(
    inputs: &[&Array],
    shape: [usize; 3],
    f: impl Fn(Vec<&[f32]>) -> Vec<f32> + Sync,
) -> Array {
    let images = inputs[0].images;
    let values: Vec<Vec<f32>> = (0..images)
        .into_par_iter()
        .map(|index| {
            let part = |input: &&Array| {
                let elements = input.elements();
                index * elements..(index + 1) * elements
            };
            f(inputs.iter().map(|input| &input.values[part(input)]).collect())
        })
        .collect();
    Array { images, shape, values: values.concat() }
}

fn relu(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

fn mean(x: Image<'_>, channel: usize, [top, left]: [usize; 2], side: usize) -> f32 {
    let mut sum = x.at(channel, top, left);
    for index in 1..side * side {
        sum += x.at(channel, top + index / side, left + index % side);
    }
    sum / (side * side) as f32
}

fn max_pool(x: Image<'_>, pool: Pool, shape: [usize; 3]) -> Vec<f32> {
    let [_, height, width] = x.shape;
    let covered = |position: usize, size: usize| {
        let from = (position * pool.stride) as isize - pool.padding as isize;
        let to = from + pool.kernel as isize;
        from.max(0) as usize..(to.max(0) as usize).min(size)
    };
    image(shape, |channel, y, column| {
        let rows = covered(y, height);
        let elements =
            rows.flat_map(|y| covered(column, width).map(move |column| x.at(channel, y, column)));
        elements.reduce(|largest, x| if x > largest { x } else { largest }).unwrap_or(0.0)
    })
}

fn group_norm(image: &[f32], groups: usize) -> Vec<f32> {
    let elements = image.len() / groups;
    let mut values = Vec::with_capacity(image.len());
    for group in image.chunks(elements) {
        let mean = group.iter().fold(0.0, |sum, x| sum + f64::from(*x)) / elements as f64;
        let square = |x: &f32| (f64::from(*x) - mean) * (f64::from(*x) - mean);
        let squares = group.iter().fold(0.0, |sum, x| sum + square(x));
        let variance = (squares / elements as f64) as f32;
        let deviation = (variance + 1e-5).sqrt();
        values.extend(group.iter().map(|x| (x - mean as f32) / deviation));
    }
    values
}
