//! Models as bytes.

use alloc::vec::Vec;

use super::{integers, pack::Packing, rows, tag, writer::Writer};
use crate::model::{
    Conv, Dynamic, Input, Model, Op, Quantizer, Terms, Weight, WeightCodes, levels,
};

/// Writes a model, with formulas of version 2 if they are allowed.
pub(super) fn model(model: &Model, allows_formulas: bool) -> Writer {
    let mut writer = Writer { allows_formulas, ..Writer::default() };
    writer.text(&model.name);
    writer.text(&model.producer);
    writer.number(model.classes.len());
    model.classes.iter().for_each(|class| writer.text(class));
    let Input { size, shorter_side, scale, shift } = &model.input;
    size.iter().for_each(|&side| writer.number(side));
    writer.floats(scale);
    writer.floats(shift);
    writer.number(shorter_side.unwrap_or(0));
    writer.number(model.nodes.len());
    let mut previous = "";
    for (index, node) in model.nodes.iter().enumerate() {
        let shared = shared(previous, &node.name);
        writer.byte(shared as u8);
        writer.text(&node.name[shared..]);
        previous = &node.name;
        writer.number(node.inputs.len());
        // An input that does not come before its node is refused by the reader.
        node.inputs.iter().for_each(|&input| writer.number(index.wrapping_sub(input)));
        op(&mut writer, &node.op);
    }
    writer
}

/// The bytes with which both names begin, at most 255 and whole characters.
fn shared(previous: &str, name: &str) -> usize {
    let pairs = previous.bytes().zip(name.bytes()).take(usize::from(u8::MAX));
    let mut count = pairs.take_while(|(a, b)| a == b).count();
    while !name.is_char_boundary(count) {
        count -= 1;
    }
    count
}

fn op(writer: &mut Writer, op: &Op) {
    let mut with_number = |tag: u8, number: usize| {
        writer.byte(tag);
        writer.number(number);
    };
    match op {
        Op::GroupNorm(groups) => with_number(tag::GROUP_NORM, *groups),
        Op::AveragePool(side) => with_number(tag::AVERAGE_POOL, *side),
        Op::SpaceToDepth(side) => with_number(tag::SPACE_TO_DEPTH, *side),
        Op::DepthToSpace(side) => with_number(tag::DEPTH_TO_SPACE, *side),
        Op::Pad(width) => with_number(tag::PAD, *width),
        Op::Repeat(times) => with_number(tag::REPEAT, *times),
        Op::MaxPool(pool) => {
            with_number(tag::MAX_POOL, pool.kernel);
            writer.number(pool.stride);
            writer.number(pool.padding);
            writer.byte(u8::from(pool.ceil));
        }
        Op::Conv(layer) => {
            writer.byte(tag::CONV);
            conv(writer, layer);
        }
        Op::Quantize(layer) => {
            writer.byte(tag::QUANTIZE);
            quantizer(writer, layer);
        }
        Op::Affine { scale, shift } => with_lists(writer, tag::AFFINE, &[scale, shift]),
        Op::RPRelu { before, slope, after } => {
            with_lists(writer, tag::RPRELU, &[before, slope, after]);
        }
        Op::AddScalar(number) => with_float(writer, tag::ADD_SCALAR, *number),
        Op::MulScalar(number) => with_float(writer, tag::MUL_SCALAR, *number),
        Op::LeakyRelu(slope) => with_float(writer, tag::LEAKY_RELU, *slope),
        Op::Input => writer.byte(tag::INPUT),
        Op::Relu => writer.byte(tag::RELU),
        Op::Relu6 => writer.byte(tag::RELU6),
        Op::GlobalPool => writer.byte(tag::GLOBAL_POOL),
        Op::Concatenate => writer.byte(tag::CONCATENATE),
        Op::Add => writer.byte(tag::ADD),
        Op::Flatten => writer.byte(tag::FLATTEN),
    }
}

fn with_float(writer: &mut Writer, tag: u8, number: f32) {
    writer.byte(tag);
    writer.float(number);
}

fn with_lists(writer: &mut Writer, tag: u8, lists: &[&[f32]]) {
    writer.byte(tag);
    lists.iter().for_each(|list| writer.floats(list));
}

fn conv(writer: &mut Writer, conv: &Conv) {
    let flag = |flag, is_set| if is_set { flag } else { 0 };
    writer.byte(
        flag(tag::HAS_QUANTIZER, conv.quantizer.is_some())
            | flag(tag::PADS_CODES, conv.pads_codes)
            | flag(tag::HAS_BIAS, conv.bias.is_some())
            | flag(tag::HAS_CODES, matches!(conv.weight, Weight::Codes(_))),
    );
    writer.number(conv.in_channels);
    writer.number(conv.out_channels);
    let pairs = [conv.kernel, conv.stride, conv.padding, conv.dilation];
    pairs.into_iter().flatten().for_each(|number| writer.number(number));
    writer.number(conv.groups);
    if let Some(layer) = &conv.quantizer {
        quantizer(writer, layer);
    }
    if let Some(bias) = &conv.bias {
        writer.floats(bias);
    }
    match &conv.weight {
        Weight::Float(weight) => {
            writer.number(weight.len());
            writer.align();
            let bytes = weight.iter().flat_map(|number| number.to_le_bytes());
            writer.weights.extend(bytes);
        }
        Weight::Codes(weight) => codes(writer, weight),
    }
}

fn codes(writer: &mut Writer, weight: &WeightCodes) {
    writer.number(weight.levels);
    writer.number(weight.codes.len());
    writer.number(weight.groups);
    writer.number(weight.run);
    if terms(writer, weight.terms.as_ref(), &weight.values, weight.levels) {
        writer.byte(rows::TERMS);
    } else {
        rows::write_values(writer, &weight.values, weight.levels);
    }
    writer.align();
    // The reader refuses other numbers of levels.
    if let Some(packing) = Packing::new(weight.levels) {
        packing.pack(&weight.codes, &mut writer.weights);
    }
}

fn quantizer(writer: &mut Writer, quantizer: &Quantizer) {
    writer.byte(match quantizer.dynamic {
        Dynamic::None => tag::STATIC,
        Dynamic::MeanOverChannels => tag::MEAN_OVER_CHANNELS,
        Dynamic::MeanOverPositions => tag::MEAN_OVER_POSITIONS,
        Dynamic::Mean => tag::MEAN,
        Dynamic::Deviation => tag::DEVIATION,
    });
    writer.number(quantizer.groups);
    writer.number(quantizer.levels);
    let Quantizer { thresholds, values, levels, .. } = quantizer;
    let list = quantizer.terms.as_ref();
    let write_terms = |writer: &mut Writer| terms(writer, list, values, *levels);
    let all = list.map_or(&[][..], |terms| &terms.0);
    rows::write_quantizer(writer, [thresholds, values], *levels, all, write_terms);
}

/// Writes terms. Returns whether the values of codes are their sums.
fn terms(writer: &mut Writer, terms: Option<&Terms>, values: &[f32], count: usize) -> bool {
    let list = terms.map_or(&[][..], |terms| &terms.0);
    writer.number(list.len());
    for term in list {
        writer.floats(&term.scales);
        integers::write(writer, &term.integers, count);
    }
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    levels::values(list, count).is_some_and(|sums| bits(&sums) == bits(values))
}
