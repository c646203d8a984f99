//! What a convolution of a model multiplies: the values of its input's codes, and its weight.

use quant_infer::model::{Conv, Input, Quantizer, Weight};

/// How far products may be from those of a weight and values, relative to the largest.
const TOLERANCE: f64 = 1e-4;

/// The numbers of a convolution, which may be a sum of convolutions of planes.
pub(super) struct Products<'a> {
    /// The quantizer of the input.
    pub(super) quantizer: Option<&'a Quantizer>,
    /// The values of its codes, `[groups, levels]`, up to a factor for each group.
    pub(super) values: Vec<f64>,
    /// The weight `[outputs, inputs/groups, height, width]`, divided by that factor of its input.
    pub(super) weight: Vec<f64>,
    /// Whether the weight has few values.
    pub(super) weight_is_quantized: bool,
    /// The integers of the weight, and what one of them times one unit of the values stands for, by
    /// output, where there is one plane and one group.
    pub(super) integers: Option<(Vec<i32>, Vec<f32>)>,
}

/// A product of planes: integers of the input, integers of the weight, and their factor.
struct Plane<'a> {
    /// `[groups, levels]`, or `[1, levels]`.
    input: &'a [i16],
    /// `[outputs, inputs/groups, height, width]`.
    weight: Vec<i16>,
    /// `[groups of the input, outputs]`.
    factors: Vec<f32>,
}

/// Returns the numbers of the convolution that is the sum of these.
///
/// # Errors
/// A text that says why the sum is no product of a weight and values.
pub(super) fn products<'a>(convs: &[&'a Conv]) -> Result<Products<'a>, String> {
    let conv = convs.first().ok_or("it has no weight")?;
    let quantizer = conv.quantizer.as_ref();
    let Some(quantizer) = quantizer.filter(|_| conv.integer_terms().is_some()) else {
        let (weight, weight_is_quantized) = match &conv.weight {
            Weight::Float(numbers) => (numbers.iter().copied().map(f64::from).collect(), false),
            Weight::Codes(codes) => {
                ((0..codes.codes.len()).map(|at| f64::from(codes.value_of(at))).collect(), true)
            }
        };
        let values = quantizer.map_or_else(Vec::new, |quantizer| {
            quantizer.values.iter().copied().map(f64::from).collect()
        });
        return Ok(Products { quantizer, values, weight, weight_is_quantized, integers: None });
    };
    let planes: Vec<Plane<'a>> = convs.iter().flat_map(|conv| planes(conv)).collect();
    if let [plane] = &planes[..]
        && quantizer.groups == 1
    {
        let outputs = conv.out_channels;
        let of_output = plane.weight.len() / outputs;
        let weight = (plane.weight.iter().enumerate())
            .map(|(at, i)| f64::from(*i) * f64::from(plane.factors[at / of_output]))
            .collect();
        return Ok(Products {
            quantizer: Some(quantizer),
            values: plane.input.iter().map(|i| f64::from(*i)).collect(),
            weight,
            weight_is_quantized: true,
            integers: Some((
                plane.weight.iter().map(|i| i32::from(*i)).collect(),
                plane.factors.clone(),
            )),
        });
    }
    let (values, weight) = separated(conv, quantizer, &planes)?;
    let quantizer = Some(quantizer);
    Ok(Products { quantizer, values, weight, weight_is_quantized: true, integers: None })
}

/// Returns the planes of a convolution of integers.
fn planes(conv: &Conv) -> Vec<Plane<'_>> {
    let (Some((of_input, of_weight)), Weight::Codes(codes)) = (conv.integer_terms(), &conv.weight)
    else {
        return Vec::new();
    };
    let outputs = conv.out_channels;
    let of_output = codes.codes.len() / outputs;
    let groups = conv.quantizer.as_ref().map_or(1, |quantizer| quantizer.groups);
    let pairs = of_input.0.iter().flat_map(|input| of_weight.0.iter().map(move |w| (input, w)));
    pairs
        .map(|(input, weight)| {
            let integer = |(at, code): (usize, &u8)| {
                let group = codes.group_of(at / of_output * of_output);
                weight.integers_of(group, codes.levels)[usize::from(*code)]
            };
            let factor = |at: usize| {
                let group = codes.group_of(at % outputs * of_output);
                input.scale_of(at / outputs) * weight.scale_of(group)
            };
            Plane {
                input: &input.integers,
                weight: codes.codes.iter().enumerate().map(integer).collect(),
                factors: (0..groups * outputs).map(factor).collect(),
            }
        })
        .collect()
}

/// Writes a sum of planes as the product of a weight and the values of codes.
fn separated(
    conv: &Conv,
    quantizer: &Quantizer,
    planes: &[Plane<'_>],
) -> Result<(Vec<f64>, Vec<f64>), String> {
    let (outputs, levels) = (conv.out_channels, quantizer.levels);
    let elements = planes.first().map_or(0, |plane| plane.weight.len());
    let of_output = elements / outputs;
    let group_of = group_of(conv, quantizer.groups);
    let product = |at: usize, code: usize| -> f64 {
        let (output, group) = (at / of_output, group_of(at));
        let of_plane = |plane: &Plane<'_>| {
            let row = if plane.input.len() == levels { 0 } else { group * levels };
            f64::from(plane.factors[group * outputs + output])
                * f64::from(plane.weight[at])
                * f64::from(plane.input[row + code])
        };
        planes.iter().map(of_plane).sum()
    };
    // For each group the element with the largest product at either end.
    let mut largest: Vec<(f64, usize)> = vec![(0.0, 0); quantizer.groups];
    for at in 0..elements {
        let size = product(at, 0).abs().max(product(at, levels - 1).abs());
        let most = &mut largest[group_of(at)];
        if size > most.0 {
            *most = (size, at);
        }
    }
    let mut values = Vec::with_capacity(quantizer.groups * levels);
    let mut ends = Vec::with_capacity(quantizer.groups);
    for (size, at) in &largest {
        let row: Vec<f64> = (0..levels).map(|code| product(*at, code)).collect();
        let end = if row[levels - 1].abs() >= row[0].abs() { levels - 1 } else { 0 };
        ends.push(end);
        if *size == 0.0 {
            values.extend((0..levels).map(|code| code as f64));
            continue;
        }
        // Values rise with codes.
        let sign = if row[levels - 1] >= row[0] { 1.0 } else { -1.0 };
        values.extend(row.iter().map(|product| sign * product / size));
    }
    let most = largest.iter().fold(0.0f64, |most, (size, _)| most.max(*size));
    let mut weight = Vec::with_capacity(elements);
    for at in 0..elements {
        let group = group_of(at);
        let row = &values[group * levels..][..levels];
        let number = product(at, ends[group]) / row[ends[group]];
        let other = levels - 1 - ends[group];
        if (product(at, other) - number * row[other]).abs() > TOLERANCE * most {
            return Err(
                "it is a sum of planes that is no product of one weight and the values of \
                        its input"
                    .into(),
            );
        }
        weight.push(number);
    }
    Ok((values, weight))
}

/// Returns which group of channels an element of a convolution's weight reads.
pub(super) fn group_of(conv: &Conv, groups: usize) -> impl Fn(usize) -> usize + use<> {
    let taps = conv.kernel[0] * conv.kernel[1];
    let channels = conv.in_channels;
    let of_group = channels / conv.groups;
    let of_output = of_group * taps;
    let outputs_of_group = conv.out_channels / conv.groups;
    move |at: usize| {
        let channel = at / of_output / outputs_of_group * of_group + at % of_output / taps;
        channel * groups / channels
    }
}

/// Whether the codes of a quantizer of the image are its bytes.
pub(super) fn reads_bytes(quantizer: &Quantizer, input: &Input) -> bool {
    let channels = input.scale.len();
    quantizer.levels == 256
        && (0..channels).all(|channel| {
            let group = quantizer.group_of(channel, channels);
            (0..=255).all(|byte| quantizer.code_of(group, input.number(channel, byte)) == byte)
        })
}
