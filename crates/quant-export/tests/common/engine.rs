//! The engine of `quant-infer` compared with the served evaluation.

use quant_export::NodeCodes;
use quant_infer::{
    Image, Network,
    model::{Dynamic, Model, Op},
};
use quant_kernels::simd::InstructionSet;

/// Sums of each output channel whose thresholds are compared, beside those around each threshold.
/// `ROUNDS=4096` in the environment compares a million, which are all sums of most layers.
fn sums() -> u32 {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    256 * rounds.unwrap_or(1)
}

/// The lowest code that a layer cannot tell apart from a code of a channel: with the same integers,
/// or with the same value where it reads floats.
fn lowest_code(op: &Op, channels: usize, channel: usize, code: u8) -> u8 {
    let (quantizer, in_integers) = match op {
        Op::Conv(conv) => match &conv.quantizer {
            Some(quantizer) => (quantizer, conv.integer_terms().is_some()),
            None => return code,
        },
        Op::Quantize(quantizer) => (&**quantizer, false),
        _ => return code,
    };
    if quantizer.dynamic != Dynamic::None {
        return code;
    }
    let group = quantizer.group_of(channel, channels);
    let same = |other: &u8| match &quantizer.terms {
        Some(terms) if in_integers => terms.0.iter().all(|term| {
            let integers = term.integers_of(group, quantizer.levels);
            integers[usize::from(code)] == integers[usize::from(*other)]
        }),
        _ => quantizer.value_of(group, code) == quantizer.value_of(group, *other),
    };
    (0..=code).find(same).unwrap_or(code)
}

/// Checks that the engine has the bits of the served evaluation for an image, with these
/// instruction sets: in the scores, and in the codes of every quantizer. `codes` are those of
/// several images, of which this is the one of an index. Also checks that thresholds of sums give
/// the codes of what they replace, and returns how many convolutions have such thresholds.
pub(crate) fn check_engine(
    model: &Model,
    (image, index): (&Image<'_>, usize),
    (scores, codes): (&[f32], &[NodeCodes]),
    sets: impl Iterator<Item = InstructionSet>,
) -> Result<usize, String> {
    let text = |error: quant_infer::Error| error.to_string();
    let bits = |scores: &[f32]| scores.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut folded = 0;
    for set in sets {
        let engine = Network::with_instruction_set(model, set).map_err(text)?;
        let mut session = engine.session();
        codes.iter().for_each(|codes| session.watch(codes.node));
        let found = session.run(image).map_err(text)?;
        if bits(found) != bits(scores) {
            return Err(format!("{set:?}: scores {scores:?}, by the engine {found:?}"));
        }
        for NodeCodes { node, layer, shape, codes } in codes {
            let [images, channels, height, width] = *shape;
            let (positions, each) = (height * width, codes.len() / images);
            let op = &model.nodes[*node].op;
            let of_image = codes[index * each..][..each].iter().enumerate();
            let lowest = of_image
                .map(|(at, code)| lowest_code(op, channels, at / positions, *code))
                .collect::<Vec<u8>>();
            if session.codes(*node) != Some(&lowest[..]) {
                return Err(format!("{set:?}: the engine has other codes in {layer}"));
            }
        }
        if folded == 0 {
            // The thresholds themselves do not depend on the instruction set.
            folded = engine.compare_thresholds(model, sums())?.convolutions;
        }
    }
    Ok(folded)
}
