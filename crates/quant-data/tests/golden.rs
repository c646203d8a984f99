//! Compares the preprocessing for evaluation with torchvision's.

use std::process::ExitCode;

use quant_data::{Pipeline, RgbImage, Truncated, random::Random};
use quant_golden::{Check, Folder, Report, Values};
use serde::Deserialize;

#[derive(Deserialize)]
struct Images {
    images: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    file: String,
    width: usize,
    height: usize,
    mean: [f64; 3],
    std: [f64; 3],
}

/// The largest mean absolute difference in normalised units. Resampling may differ by one grey
/// level, and JPEG decoders by a few.
const PNG: f64 = 0.02;
const JPEG: f64 = 0.05;

const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

fn main() -> ExitCode {
    let checks: &[Check] = &[("images/imagenet_val.json", images)];
    quant_golden::run(env!("CARGO_MANIFEST_DIR"), checks)
}

fn images(folder: &Folder) -> Option<Report> {
    let images: Images = folder.json("images/imagenet_val.json")?;
    let pixels = folder.tensors("images/imagenet_val.safetensors")?;
    let mut report = Report::default();
    for case in &images.images {
        let result = match pixels.get(&case.name) {
            Some(expected) => check(case, folder, expected),
            None => Err("its pixels are missing".into()),
        };
        report.case(&case.name, result);
    }
    Some(report)
}

fn check(case: &Case, folder: &Folder, expected: &Values) -> Result<(), String> {
    let path = folder.existing(&format!("images/{}", case.file)).ok_or("the file is missing")?;
    let image = RgbImage::read(&path, Truncated::Refuse).map_err(|error| error.to_string())?;
    if (image.width, image.height) != (case.width, case.height) {
        return Err(format!("{}x{} pixels", image.width, image.height));
    }
    let image = Pipeline::imagenet_eval(224).apply(image, &mut Random::new(&[]));
    let side = image.width;
    let normalised = |channel: usize, y: usize, x: usize| {
        let byte = image.pixels[(y * side + x) * 3 + channel];
        (f64::from(byte) / 255.0 - MEAN[channel]) / STD[channel]
    };
    let tolerance = if case.file.ends_with(".png") { PNG } else { JPEG };
    let rows = side / 4;
    let mut difference = 0.0;
    for (index, expected) in expected.values.iter().enumerate() {
        let (channel, y, x) = (index / (rows * rows), index / rows % rows, index % rows);
        difference += (normalised(channel, 4 * y, 4 * x) - f64::from(*expected)).abs();
    }
    difference /= expected.values.len() as f64;
    if difference > tolerance || difference.is_nan() {
        return Err(format!("mean absolute difference {difference:.4}, at most {tolerance}"));
    }
    for channel in 0..3 {
        let values = (0..side * side).map(|index| normalised(channel, index / side, index % side));
        let values: Vec<f64> = values.collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        let std = (variance / values.len() as f64).sqrt();
        if (mean - case.mean[channel]).abs() > tolerance
            || (std - case.std[channel]).abs() > tolerance
        {
            return Err(format!("channel {channel}: mean {mean:.4} and deviation {std:.4}"));
        }
    }
    Ok(())
}
