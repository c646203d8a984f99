//! Convolutions in integers.

use burn::tensor::{Device, Tensor, TensorData, ops::ConvOptions};
use quant_infer::model::{Conv, Quantizer, Term, Weight, WeightCodes};
use quant_nn::ops::conv2d;
use rayon::prelude::*;

use super::{
    array::{Array, padded},
    digits::{Digits, EXACT, split},
};

/// The bits of a weight's digits where its integers are too large to be convolved at once.
const WEIGHT_DIGIT: u32 = 4;

/// The terms of a convolution, ready for the device.
#[derive(Debug)]
pub(super) struct IntegerConv {
    device: Device,
    /// The digits of the weight's integers, for each of its terms.
    weights: Vec<Vec<WeightPlace>>,
    /// Which channels count in one sum: for each sum, whether a channel counts, or nothing where
    /// all do.
    parts: Vec<Option<Vec<bool>>>,
    /// The group of the input's terms that output channel o reads in each sum, `[sums][o]`.
    groups: Vec<Vec<Option<usize>>>,
}

/// The digits of one place of a weight's term.
#[derive(Debug)]
struct WeightPlace {
    power: u32,
    /// `[out, in / groups, height, width]`.
    digits: Tensor<4>,
    /// The bits that the digits of the input may have.
    input_bits: u32,
}

impl IntegerConv {
    /// Prepares a convolution; `None` where it computes in floats.
    pub(super) fn new(conv: &Conv, device: &Device) -> Option<Self> {
        let input = conv.quantizer.as_ref()?.terms.as_ref()?;
        let Weight::Codes(codes) = &conv.weight else { return None };
        let terms = codes.terms.as_ref()?;
        let weights = terms.0.iter().map(|term| places(conv, codes, term, device)).collect();
        let (parts, groups) = sums(conv, input.0[0].scales.len());
        Some(Self { device: device.clone(), weights, parts, groups })
    }

    /// The convolution of an input of these codes.
    pub(super) fn forward(&self, conv: &Conv, x: &Array, codes: &[u8], shape: [usize; 3]) -> Array {
        let (Some(quantizer), Weight::Codes(weight)) = (&conv.quantizer, &conv.weight) else {
            unreachable!("prepared from both");
        };
        let (Some(input), Some(of_weight)) = (&quantizer.terms, &weight.terms) else {
            unreachable!("prepared from both");
        };
        let (codes, size) = padded_codes(conv, quantizer, x, codes);
        let positions = shape[1] * shape[2];
        let elements = shape[0] * positions;
        let mut y: Option<Vec<f32>> = None;
        for input_term in &input.0 {
            for (sum, part) in self.parts.iter().enumerate() {
                for (weight_term, places) in of_weight.0.iter().zip(&self.weights) {
                    let integers = Integers { conv, quantizer, term: input_term, part };
                    let sums = self.integer_sums(&integers, &codes, size, x.images, places);
                    let scale = |output: usize| {
                        let group = self.groups[sum][output]?;
                        let weight_scale =
                            scale_of(weight_term, weight_group(conv, weight, output));
                        Some(scale_of(input_term, group) * weight_scale)
                    };
                    let scales: Vec<Option<f32>> = (0..shape[0]).map(scale).collect();
                    let first = y.is_none();
                    let total = y.get_or_insert_with(|| vec![0.0; sums.len()]);
                    total.par_chunks_mut(elements).zip(sums.par_chunks(elements)).for_each(
                        |(total, sums)| {
                            let planes = total.chunks_mut(positions).zip(sums.chunks(positions));
                            for ((total, sums), scale) in planes.zip(&scales) {
                                let Some(scale) = scale else { continue };
                                for (total, sum) in total.iter_mut().zip(sums) {
                                    let summand = *sum as f32 * scale;
                                    *total = if first { summand } else { *total + summand };
                                }
                            }
                        },
                    );
                }
            }
        }
        let mut values = y.unwrap_or_else(|| vec![0.0; x.images * elements]);
        if let Some(bias) = &conv.bias {
            for image in values.chunks_mut(elements) {
                for (plane, bias) in image.chunks_mut(positions).zip(bias) {
                    plane.iter_mut().for_each(|y| *y += bias);
                }
            }
        }
        Array { images: x.images, shape, values }
    }

    /// The sums of products of the integers of a pair of terms: exact.
    fn integer_sums(
        &self,
        integers: &Integers<'_>,
        codes: &[u8],
        size: [usize; 2],
        images: usize,
        places: &[WeightPlace],
    ) -> Vec<i64> {
        let conv = integers.conv;
        let shape = [images, conv.in_channels, size[0], size[1]];
        let padding = if conv.pads_codes { [0, 0] } else { conv.padding };
        let options = ConvOptions::new(conv.stride, padding, conv.dilation, conv.groups);
        let mut total: Vec<i64> = Vec::new();
        for place in places {
            for (power, digits) in integers.digits(codes, size, place.input_bits) {
                let x = Tensor::<4>::from_data(TensorData::new(digits, shape), &self.device);
                let y = conv2d(x, place.digits.clone(), options.clone());
                let y: Vec<f32> = y.into_data().iter().collect();
                total.resize(y.len(), 0);
                let power = power + place.power;
                let pairs = total.par_iter_mut().zip(y.par_iter());
                pairs.for_each(|(total, y)| *total += (*y as i64) << power);
            }
        }
        total
    }
}

/// The integers of one term of the input, of the channels that count.
struct Integers<'a> {
    conv: &'a Conv,
    quantizer: &'a Quantizer,
    term: &'a Term,
    part: &'a Option<Vec<bool>>,
}

impl Integers<'_> {
    /// The digits of the integers of codes, and the power of two that they are multiplied by.
    fn digits(&self, codes: &[u8], size: [usize; 2], bits: u32) -> Vec<(u32, Vec<f32>)> {
        let (levels, channels) = (self.quantizer.levels, self.conv.in_channels);
        let groups = self.term.integers.len() / levels;
        let positions = size[0] * size[1];
        let places = split(&self.term.integers, bits);
        let of_codes = |place: Digits| {
            let mut digits = vec![0.0f32; codes.len()];
            let planes = digits.par_chunks_mut(positions).zip(codes.par_chunks(positions));
            planes.enumerate().for_each(|(plane, (digits, codes))| {
                let channel = plane % channels;
                if self.part.as_ref().is_some_and(|part| !part[channel]) {
                    return;
                }
                let table = &place.digits[channel * groups / channels * levels..][..levels];
                for (digit, code) in digits.iter_mut().zip(codes) {
                    *digit = table[usize::from(*code)];
                }
            });
            (place.power, digits)
        };
        places.into_iter().map(of_codes).collect()
    }
}

fn scale_of(term: &Term, group: usize) -> f32 {
    term.scales[if term.scales.len() == 1 { 0 } else { group }]
}

/// The group of a weight's output channel.
fn weight_group(conv: &Conv, weight: &WeightCodes, output: usize) -> usize {
    let per_channel = weight.codes.len() / conv.out_channels;
    output * per_channel / weight.run % weight.groups
}

/// The codes with those of the padding, where this has codes, and their height and width.
fn padded_codes(
    conv: &Conv,
    quantizer: &Quantizer,
    x: &Array,
    codes: &[u8],
) -> (Vec<u8>, [usize; 2]) {
    let [channels, height, width] = x.shape;
    if !conv.pads_codes {
        return (codes.to_vec(), [height, width]);
    }
    let edge = |channel: usize| {
        let group = channel * quantizer.groups / channels;
        let count = quantizer.levels - 1;
        let thresholds = &quantizer.thresholds[group * count..][..count];
        thresholds.iter().filter(|threshold| 0.0 >= **threshold).count() as u8
    };
    let images = codes.chunks(x.elements());
    let padded = images.flat_map(|image| padded(image, x.shape, conv.padding, edge));
    (padded.collect(), [height + 2 * conv.padding[0], width + 2 * conv.padding[1]])
}

/// The digits of the integers of a weight's term. Those of the input may have as many bits as keep
/// every sum exact.
fn places(conv: &Conv, codes: &WeightCodes, term: &Term, device: &Device) -> Vec<WeightPlace> {
    let per_channel = codes.codes.len() / conv.out_channels;
    let groups = term.integers.len() / codes.levels;
    let integers: Vec<i16> = (codes.codes.iter().enumerate())
        .map(|(index, code)| {
            let group = if groups == 1 { 0 } else { index / codes.run % codes.groups };
            term.integers[group * codes.levels + usize::from(*code)]
        })
        .collect();
    let magnitudes = |digits: &[f32]| {
        let sum = |row: &[f32]| row.iter().map(|digit| digit.abs() as u64).sum::<u64>();
        digits.chunks(per_channel).map(sum).max().unwrap_or(0).max(1)
    };
    let whole = split(&integers, 16);
    // Digits of the input with at least four bits.
    let places = if magnitudes(&whole[0].digits) <= EXACT >> 4 {
        whole
    } else {
        split(&integers, WEIGHT_DIGIT)
    };
    let shape = [conv.out_channels, conv.in_channels / conv.groups, conv.kernel[0], conv.kernel[1]];
    let place = |Digits { power, digits }: Digits| {
        let sum = magnitudes(&digits);
        assert!(sum <= EXACT, "an output channel has more weights than can be summed exactly");
        // Digits below 2^11, which devices that multiply in 19 bits hold too.
        let input_bits = (EXACT / sum).max(2).ilog2().min(11);
        let digits = Tensor::from_data(TensorData::new(digits, shape), device);
        WeightPlace { power, digits, input_bits }
    };
    places.into_iter().map(place).collect()
}

/// Which channels count in each of the sums of an output channel, and which group of the input's
/// terms they belong to: the first group that the output channel reads, then the second.
#[expect(clippy::type_complexity, reason = "the two fields that it makes")]
fn sums(conv: &Conv, groups: usize) -> (Vec<Option<Vec<bool>>>, Vec<Vec<Option<usize>>>) {
    if groups == 1 {
        return (vec![None], vec![vec![Some(0); conv.out_channels]]);
    }
    let of_group = conv.in_channels / conv.groups;
    let group_of = |channel: usize| channel * groups / conv.in_channels;
    let range = |conv_group: usize| {
        group_of(conv_group * of_group)..group_of((conv_group + 1) * of_group - 1) + 1
    };
    let count = (0..conv.groups).map(|group| range(group).len()).max().unwrap_or(1);
    let outputs = conv.out_channels / conv.groups;
    let nth = |sum: usize, conv_group: usize| range(conv_group).nth(sum);
    let part = |sum: usize| {
        let counts = |channel: usize| nth(sum, channel / of_group) == Some(group_of(channel));
        Some((0..conv.in_channels).map(counts).collect())
    };
    let of_outputs =
        |sum: usize| (0..conv.out_channels).map(|output| nth(sum, output / outputs)).collect();
    ((0..count).map(part).collect(), (0..count).map(of_outputs).collect())
}
