//! Checks of convolutions.

use alloc::{format, vec::Vec};

use super::{
    super::{Conv, Dynamic, Term, Terms, Weight, WeightCodes},
    problem::{Problem, ensure},
    values::{self, check_extent},
};

/// The largest sum of the magnitudes of products that an accumulator may have. It leaves room for
/// the numbers just outside of its range.
const MAX_SUM: i64 = i32::MAX as i64 - 1;

pub(super) fn check(conv: &Conv) -> Result<(), Problem> {
    let (inputs, outputs, groups) = (conv.in_channels, conv.out_channels, conv.groups);
    ensure(inputs > 0 && outputs > 0, || "has no channels".into())?;
    ensure(groups > 0 && inputs % groups == 0 && outputs % groups == 0, || {
        format!("has {groups} groups, which do not divide {inputs} and {outputs} channels")
    })?;
    for axis in 0..2 {
        check_extent("kernel size", conv.kernel[axis], 1)?;
        check_extent("stride", conv.stride[axis], 1)?;
        check_extent("dilation", conv.dilation[axis], 1)?;
        check_extent("padding", conv.padding[axis], 0)?;
    }
    let elements = values::product(&[outputs, inputs / groups, conv.kernel[0], conv.kernel[1]])?;
    // Distances below the kernel are stored in 32 bits.
    ensure(elements <= u32::MAX as usize / 8, || format!("has {elements} weights, too many"))?;
    match &conv.weight {
        Weight::Float(weights) => {
            values::check_length("weights", weights.len(), elements)?;
            values::check_finite("weight", weights)?;
        }
        Weight::Codes(codes) => check_codes(codes, elements, elements / outputs)?,
    }
    if let Some(bias) = &conv.bias {
        values::check_length("numbers in its bias", bias.len(), outputs)?;
        values::check_finite("bias", bias)?;
    }
    let Some(quantizer) = &conv.quantizer else {
        return ensure(!conv.pads_codes, || "pads codes, but has no quantizer".into());
    };
    values::check_quantizer(quantizer)?;
    ensure(inputs % quantizer.groups == 0, || {
        format!("has a quantizer of {} groups for {inputs} channels", quantizer.groups)
    })?;
    ensure(!conv.pads_codes || quantizer.dynamic == Dynamic::None, || {
        "pads codes, but its quantizer depends on the image".into()
    })?;
    match (&quantizer.terms, &conv.weight) {
        (Some(terms), Weight::Codes(codes)) => check_sums(conv, terms, quantizer.levels, codes),
        _ => Ok(()),
    }
}

fn check_codes(codes: &WeightCodes, elements: usize, per_channel: usize) -> Result<(), Problem> {
    let (levels, groups) = (codes.levels, codes.groups);
    values::check_levels(levels)?;
    values::check_length("codes of weights", codes.codes.len(), elements)?;
    // The largest of all is found in vectors, which a comparison of each is not.
    let largest = codes.codes.iter().copied().max().unwrap_or(0);
    ensure(usize::from(largest) < levels, || {
        format!("has a code of a weight that is not below {levels}")
    })?;
    ensure(groups > 0 && codes.run > 0, || {
        format!("has {groups} groups of weights in runs of {}", codes.run)
    })?;
    values::check_length("values of weights", codes.values.len(), {
        values::product(&[groups, levels])?
    })?;
    values::check_finite("value", &codes.values)?;
    let Some(terms) = &codes.terms else { return Ok(()) };
    values::check_terms(terms, groups, levels)?;
    let of_channels = terms.0[0].scales.len() == 1 || codes.run.is_multiple_of(per_channel);
    ensure(of_channels, || {
        format!("has scales for runs of {} weights, which are not whole channels", codes.run)
    })
}

/// Checks that no accumulator exceeds 32 bits, whatever the image.
fn check_sums(
    conv: &Conv,
    terms: &Terms,
    levels: usize,
    codes: &WeightCodes,
) -> Result<(), Problem> {
    let channels = conv.in_channels / conv.groups;
    let taps = conv.kernel[0] * conv.kernel[1];
    let weight_terms = codes.terms.as_ref().map(|terms| &terms.0[..]).unwrap_or_default();
    let groups = terms.0[0].scales.len();
    if largest_product(terms, weight_terms).saturating_mul((channels * taps) as i64) <= MAX_SUM {
        // Nearly all layers are so small that no sum of this many products is too large.
        return Ok(());
    }
    for term in &terms.0 {
        let largest: Vec<i64> = (term.integers.chunks(levels))
            .map(|row| row.iter().map(|x| i64::from(x.unsigned_abs())).max().unwrap_or(0))
            .collect();
        for weight_term in weight_terms {
            for (output, row) in codes.codes.chunks(channels * taps).enumerate() {
                let group = codes.group_of(output * channels * taps);
                let integers = weight_term.integers_of(group, codes.levels);
                let first = output / (conv.out_channels / conv.groups) * channels;
                // The channels of a group follow each other, so one sum at a time is enough.
                let (mut most, mut sum, mut current) = (0i64, 0i64, None);
                for (channel, row) in row.chunks(taps).enumerate() {
                    let group = (first + channel) * groups / conv.in_channels;
                    if current.replace(group) != Some(group) {
                        sum = 0;
                    }
                    let weights: i64 = row
                        .iter()
                        .map(|code| i64::from(integers[usize::from(*code)].unsigned_abs()))
                        .sum();
                    sum += weights * largest[if largest.len() == 1 { 0 } else { group }];
                    most = most.max(sum);
                }
                ensure(most <= MAX_SUM, || {
                    format!(
                        "can reach the sum {most} in output channel {output}, which exceeds 32 \
                         bits; a layer with fewer inputs or fewer bits fits"
                    )
                })?;
            }
        }
    }
    Ok(())
}

/// Returns the largest magnitude of a product of an integer of the input and one of the weight.
fn largest_product(terms: &Terms, weight_terms: &[Term]) -> i64 {
    let largest = |terms: &[Term]| {
        let integers = terms.iter().flat_map(|term| &term.integers);
        integers.map(|integer| i64::from(integer.unsigned_abs())).max().unwrap_or(0)
    };
    largest(&terms.0).saturating_mul(largest(weight_terms))
}
