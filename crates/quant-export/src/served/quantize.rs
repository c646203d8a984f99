//! Codes and values of quantizers.

use quant_infer::model::{Dynamic, Quantizer};
use rayon::prelude::*;

use super::array::Array;

/// What depends on an image.
enum Factor {
    None,
    /// One number, which x is divided by first.
    Image(f32),
    /// One number for each position.
    Positions(Vec<f32>),
    /// One number for each channel.
    Channels(Vec<f32>),
}

fn mean_of(numbers: impl Iterator<Item = f32>, count: usize) -> f64 {
    numbers.fold(0.0, |sum, x| sum + f64::from(x)) / count as f64
}

fn factor(quantizer: &Quantizer, image: &[f32], positions: usize) -> Factor {
    let (count, channels) = (image.len(), image.len() / positions);
    let mean = || mean_of(image.iter().copied(), count);
    match quantizer.dynamic {
        Dynamic::None => Factor::None,
        Dynamic::MeanOverChannels => {
            let of_position = |position: usize| {
                let channels = image.iter().skip(position).step_by(positions);
                mean_of(channels.map(|x| x.abs()), image.len() / positions) as f32
            };
            debug_assert_eq!(channels * positions, count);
            Factor::Positions((0..positions).map(of_position).collect())
        }
        Dynamic::MeanOverPositions => {
            let planes = image.chunks(positions);
            let of_plane = |plane: &[f32]| mean_of(plane.iter().map(|x| x.abs()), positions) as f32;
            Factor::Channels(planes.map(of_plane).collect())
        }
        Dynamic::Mean => Factor::Image(mean() as f32 + 1e-5),
        Dynamic::Deviation if count == 1 => Factor::Image(0.0 + 1e-5),
        Dynamic::Deviation => {
            let mean = mean();
            let square = |x: &f32| (f64::from(*x) - mean) * (f64::from(*x) - mean);
            let sum = image.iter().fold(0.0, |sum, x| sum + square(x));
            Factor::Image(((sum / (count - 1) as f64) as f32).sqrt() + 1e-5)
        }
    }
}

/// The codes of an image, by a search among the thresholds of each element's group.
fn image_codes(quantizer: &Quantizer, image: &[f32], positions: usize, factor: &Factor) -> Vec<u8> {
    let channels = image.len() / positions;
    let count = quantizer.levels - 1;
    let mut codes = Vec::with_capacity(image.len());
    for (channel, plane) in image.chunks(positions).enumerate() {
        let group = channel * quantizer.groups / channels;
        let thresholds = &quantizer.thresholds[group * count..][..count];
        let code = |x: f32| match count {
            // So few that comparing with all of them takes less time than searching.
            ..16 => thresholds.iter().map(|threshold| u8::from(x >= *threshold)).sum(),
            _ => thresholds.partition_point(|threshold| x >= *threshold) as u8,
        };
        match factor {
            Factor::Image(factor) => codes.extend(plane.iter().map(|x| code(x / factor))),
            _ => codes.extend(plane.iter().map(|x| code(*x))),
        }
    }
    codes
}

/// The codes of all elements.
pub(super) fn codes(quantizer: &Quantizer, x: &Array) -> Vec<u8> {
    let positions = x.positions();
    let of_image = |image: &[f32]| {
        image_codes(quantizer, image, positions, &factor(quantizer, image, positions))
    };
    let codes: Vec<Vec<u8>> = x.each().map(of_image).collect();
    codes.concat()
}

/// The values of all elements.
pub(super) fn values(quantizer: &Quantizer, x: &Array) -> Array {
    let positions = x.positions();
    let channels = x.shape[0];
    x.with(x.shape, |image| {
        let factor = factor(quantizer, image, positions);
        let codes = image_codes(quantizer, image, positions, &factor);
        let elements = codes.into_iter().enumerate();
        let value = |(index, code): (usize, u8)| {
            let (channel, position) = (index / positions, index % positions);
            let group = channel * quantizer.groups / channels;
            let value = quantizer.values[group * quantizer.levels + usize::from(code)];
            match &factor {
                Factor::None => value,
                Factor::Image(factor) => value * factor,
                Factor::Positions(factors) => value * factors[position],
                Factor::Channels(factors) => value * factors[channel],
            }
        };
        elements.map(value).collect()
    })
}
