//! Quantizers of activations and outputs.

use burn::tensor::Device;
use quant_core::{ImageScale, Quantizer};
use quant_infer::model::{Dynamic, Op, Quantizer as Lowered};

use super::thresholds::thresholds;
use crate::error::LowerError;

/// A quantizer that was lowered, with what has to be computed before and after it.
#[derive(Debug)]
pub(super) struct Steps {
    /// What is done to x first.
    pub(super) before: Option<Op>,
    /// The quantizer, without terms.
    pub(super) quantizer: Lowered,
    /// What is done to its values. There is nothing for ascending values.
    pub(super) after: Option<Op>,
}

/// Lowers an enabled quantizer.
pub(super) fn steps(
    layer: &str,
    quantizer: &Quantizer,
    device: &Device,
) -> Result<Steps, LowerError> {
    let (quantizer, scale) = quantizer.without_image_scale();
    let channels = quantizer.channels();
    let (dynamic, shift) = match scale {
        None => (Dynamic::None, None),
        Some(ImageScale::MeanOverChannels { shift }) => (Dynamic::MeanOverChannels, shift),
        Some(ImageScale::MeanOverPositions { shift }) => (Dynamic::MeanOverPositions, shift),
        Some(ImageScale::Mean) => (Dynamic::Mean, None),
        Some(ImageScale::Deviation) => (Dynamic::Deviation, None),
    };
    let mut values = quantizer.values_by_group(device);
    let signs = ascend(layer, &mut values)?;
    let levels = values[0].len();
    let mut lowered = Lowered {
        groups: values.len(),
        levels,
        thresholds: thresholds(layer, &quantizer, levels, device)?,
        values: values.concat(),
        terms: None,
        dynamic,
    };
    merge_equal_groups(&mut lowered);
    let per_channel = |groups: &[f32]| -> Vec<f32> {
        (0..channels).map(|channel| groups[channel * groups.len() / channels]).collect()
    };
    let before = shift.map(|shift| Op::Affine {
        scale: vec![1.0; channels],
        shift: per_channel(&shift).into_iter().map(|shift| -shift).collect(),
    });
    let after =
        signs.map(|signs| Op::Affine { scale: per_channel(&signs), shift: vec![0.0; channels] });
    Ok(Steps { before, quantizer: lowered, after })
}

/// Negates the values of groups whose values descend, which a negative learned factor makes them
/// do. Returns the sign of each group if there is such a group.
fn ascend(layer: &str, values: &mut [Vec<f32>]) -> Result<Option<Vec<f32>>, LowerError> {
    let mut signs = vec![1.0; values.len()];
    for (values, sign) in values.iter_mut().zip(&mut signs) {
        if !values.is_sorted() {
            values.iter_mut().for_each(|value| *value = -*value);
            *sign = -1.0;
        }
        if !values.is_sorted() || values.iter().any(|value| !value.is_finite()) {
            let values = values.iter().map(|value| value * *sign).collect();
            return Err(LowerError::Values { layer: layer.to_owned(), values });
        }
    }
    Ok(signs.contains(&-1.0).then_some(signs))
}

/// Keeps one group where all have the same thresholds and values.
fn merge_equal_groups(quantizer: &mut Lowered) {
    let Lowered { levels, thresholds, values, .. } = quantizer;
    let same = |numbers: &[f32], length: usize| {
        let first = &numbers[..length];
        numbers.chunks(length).all(|numbers| numbers == first)
    };
    if same(thresholds, *levels - 1) && same(values, *levels) {
        thresholds.truncate(*levels - 1);
        values.truncate(*levels);
        quantizer.groups = 1;
    }
}
