//! All other layers.

use alloc::vec::Vec;

use quant_kernels::square_root;

use super::{quantize, value::Value};
use crate::model::{Op, Pool};

pub(super) fn value(op: &Op, inputs: &[&Value], shape: [usize; 3]) -> Value {
    let x = inputs[0];
    match op {
        Op::Input | Op::Conv(_) => x.clone(),
        Op::Quantize(quantizer) => quantize::values(quantizer, x),
        Op::Affine { scale, shift } => x.map(|c, x| x * scale[c] + shift[c]),
        Op::AddScalar(number) => x.map(|_, x| x + number),
        Op::MulScalar(number) => x.map(|_, x| x * number),
        Op::Relu => x.map(|_, x| relu(x)),
        Op::Relu6 => x.map(|_, x| if relu(x) > 6.0 { 6.0 } else { relu(x) }),
        Op::LeakyRelu(slope) => x.map(|_, x| if x > 0.0 { x } else { x * slope }),
        Op::RPRelu { before, slope, after } => x.map(|c, x| {
            let d = x - before[c];
            (if d > 0.0 { d } else { d * slope[c] }) + after[c]
        }),
        Op::GroupNorm(groups) => group_norm(x, *groups),
        Op::AveragePool(side) => {
            Value::from_fn(shape, |c, y, column| mean(x, c, [y * side, column * side], [*side; 2]))
        }
        Op::MaxPool(pool) => max_pool(x, pool, shape),
        Op::GlobalPool => {
            Value::from_fn(shape, |c, _, _| mean(x, c, [0, 0], [x.shape[1], x.shape[2]]))
        }
        Op::SpaceToDepth(side) => Value::from_fn(shape, |c, y, column| {
            let (dy, dx) = (c / side % side, c % side);
            x.at(c / (side * side), y * side + dy, column * side + dx)
        }),
        Op::DepthToSpace(side) => Value::from_fn(shape, |c, y, column| {
            let (dy, dx) = (y % side, column % side);
            x.at((c * side + dy) * side + dx, y / side, column / side)
        }),
        Op::Pad(padding) => Value::from_fn(shape, |c, y, column| {
            let place = |at: usize, size: usize| at.checked_sub(*padding).filter(|at| *at < size);
            match (place(y, x.shape[1]), place(column, x.shape[2])) {
                (Some(y), Some(column)) => x.at(c, y, column),
                _ => 0.0,
            }
        }),
        Op::Repeat(_) => Value::from_fn(shape, |c, y, column| x.at(c % x.shape[0], y, column)),
        Op::Concatenate => {
            let numbers = inputs.iter().flat_map(|input| input.numbers.iter().copied()).collect();
            Value { shape, numbers }
        }
        Op::Add => Value::from_fn(shape, |c, y, column| {
            let rest = inputs[1..].iter();
            rest.fold(x.at(c, y, column), |sum, input| sum + input.at(c, y, column))
        }),
        Op::Flatten => Value { shape, numbers: x.numbers.clone() },
    }
}

fn relu(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

/// Returns the mean over a rectangle.
fn mean(x: &Value, channel: usize, from: [usize; 2], size: [usize; 2]) -> f32 {
    let mut sum = None;
    for y in from[0]..from[0] + size[0] {
        for column in from[1]..from[1] + size[1] {
            let element = x.at(channel, y, column);
            sum = Some(sum.map_or(element, |sum: f32| sum + element));
        }
    }
    sum.unwrap_or(0.0) / (size[0] * size[1]) as f32
}

fn max_pool(x: &Value, pool: &Pool, shape: [usize; 3]) -> Value {
    let range = |position: usize, size: usize| {
        let start = position * pool.stride;
        start.saturating_sub(pool.padding)..(start + pool.kernel - pool.padding).min(size)
    };
    Value::from_fn(shape, |c, y, column| {
        let mut largest: Option<f32> = None;
        for y in range(y, x.shape[1]) {
            for column in range(column, x.shape[2]) {
                let element = x.at(c, y, column);
                largest = Some(match largest {
                    Some(largest) if element > largest => element,
                    Some(largest) => largest,
                    None => element,
                });
            }
        }
        largest.unwrap_or(0.0)
    })
}

fn group_norm(x: &Value, groups: usize) -> Value {
    let length = x.numbers.len() / groups;
    let statistics: Vec<(f32, f32)> = (x.numbers.chunks(length))
        .map(|group| {
            let sum = group.iter().fold(0.0, |sum, x| sum + f64::from(*x));
            let mean = sum / length as f64;
            let square = |x: f32| (f64::from(x) - mean) * (f64::from(x) - mean);
            let squares = group.iter().fold(0.0, |sum, x| sum + square(*x));
            (mean as f32, (squares / length as f64) as f32)
        })
        .collect();
    let channels = x.shape[0] / groups;
    x.map(|c, x| {
        let (mean, variance) = statistics[c / channels];
        (x - mean) / square_root(variance + 1e-5)
    })
}
