//! Models from bytes.

use alloc::{boxed::Box, format, vec::Vec};

use super::{
    integers,
    reader::Reader,
    rows::{self, Values},
    tag,
    weights::{Blobs, Elements, NodeBytes},
};
use crate::{
    Error,
    model::{
        Conv, Dynamic, Input, Model, Node, Op, Pool, Quantizer, Term, Terms, Weight, WeightCodes,
        levels as sums,
    },
};

/// A network whose weights are where they are.
#[derive(Debug)]
pub(super) struct Description<'a> {
    /// The network. Its weights have no elements.
    pub(super) model: Model,
    /// What each node takes of the file.
    pub(super) nodes: Vec<NodeBytes<'a>>,
}

/// Reads the description of a network, and finds its weights.
pub(super) fn description<'a>(
    mut reader: Reader<'a>,
    weights: Blobs<'a>,
) -> Result<Description<'a>, Error> {
    let name = reader.text()?;
    let producer = reader.text()?;
    let classes = reader.list(1, Reader::text)?;
    let size = [reader.number()?, reader.number()?];
    let (scale, shift) = (reader.floats()?, reader.floats()?);
    let shorter_side = Some(reader.number()?).filter(|side| *side > 0);
    let input = Input { size, shorter_side, scale, shift };
    let mut decoder = Decoder { reader, weights };
    let mut model = Model { name, producer, classes, input, nodes: Vec::new() };
    let mut nodes = Vec::new();
    // The shortest node has two bytes of a name, no inputs and a kind.
    let count = decoder.reader.length(4)?;
    for index in 0..count {
        let begin = decoder.reader.position();
        let previous = model.nodes.last().map_or("", |node: &Node| &node.name);
        let (node, weight) = decoder.node(index, previous)?;
        let description = decoder.reader.position() - begin;
        model.nodes.push(node);
        nodes.push(NodeBytes { description, weight });
    }
    if !decoder.reader.is_at_end() {
        return Err(decoder.reader.error("bytes that belong to no node follow"));
    }
    Ok(Description { model, nodes })
}

#[derive(Debug)]
struct Decoder<'a> {
    reader: Reader<'a>,
    weights: Blobs<'a>,
}

impl<'a> Decoder<'a> {
    fn node(
        &mut self,
        index: usize,
        previous: &str,
    ) -> Result<(Node, Option<Elements<'a>>), Error> {
        let reader = &mut self.reader;
        let shared = previous.get(..usize::from(reader.byte()?));
        let shared = shared.ok_or_else(|| reader.error("a name goes on from a shorter one"))?;
        let name = format!("{shared}{}", reader.text()?);
        let inputs = reader.list(1, |reader| {
            let distance = reader.number()?;
            let input = index.checked_sub(distance).filter(|&input| input < index);
            input.ok_or_else(|| reader.error("an input does not come before its node"))
        })?;
        let tag = reader.byte()?;
        let mut weight = None;
        let op = if tag == tag::CONV {
            let (conv, elements) = self.conv()?;
            weight = Some(elements);
            Op::Conv(Box::new(conv))
        } else {
            op(reader, tag)?
        };
        Ok((Node { name, op, inputs }, weight))
    }

    fn conv(&mut self) -> Result<(Conv, Elements<'a>), Error> {
        let reader = &mut self.reader;
        let flags = reader.byte()?;
        let known = tag::HAS_QUANTIZER | tag::PADS_CODES | tag::HAS_BIAS | tag::HAS_CODES;
        if flags & !known != 0 {
            return Err(reader.error(format!("a convolution has the unknown flags {flags:#x}")));
        }
        let has = |flag| flags & flag != 0;
        let in_channels = reader.number()?;
        let out_channels = reader.number()?;
        let mut pair = || Ok([reader.number()?, reader.number()?]);
        let [kernel, stride, padding, dilation] = [pair()?, pair()?, pair()?, pair()?];
        let groups = reader.number()?;
        let quantizer = has(tag::HAS_QUANTIZER).then(|| quantizer(reader)).transpose()?;
        let bias = has(tag::HAS_BIAS).then(|| reader.floats()).transpose()?;
        let (weight, elements) =
            if has(tag::HAS_CODES) { self.codes()? } else { self.float_weight()? };
        let pads_codes = has(tag::PADS_CODES);
        let conv = Conv {
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            quantizer,
            pads_codes,
            weight,
            bias,
        };
        Ok((conv, elements))
    }

    fn float_weight(&mut self) -> Result<(Weight, Elements<'a>), Error> {
        let count = self.reader.number()?;
        let elements = self.elements(None, count)?;
        Ok((Weight::Float(Vec::new()), elements))
    }

    fn codes(&mut self) -> Result<(Weight, Elements<'a>), Error> {
        let reader = &mut self.reader;
        let levels = levels(reader)?;
        let count = reader.number()?;
        let groups = reader.number()?;
        let run = reader.number()?;
        let (terms, values) = values(reader, levels)?;
        let values = values.numbers;
        let elements = self.elements(Some(levels), count)?;
        let codes = Vec::new();
        Ok((Weight::Codes(WeightCodes { levels, codes, groups, run, values, terms }), elements))
    }

    fn elements(&mut self, levels: Option<usize>, count: usize) -> Result<Elements<'a>, Error> {
        let size = Elements::size(levels, count);
        let bytes = size.and_then(|size| self.weights.next(size));
        let problem = || self.reader.error(format!("the {count} elements of a weight are missing"));
        Ok(Elements { levels, count, bytes: bytes.ok_or_else(problem)? })
    }
}

fn op(reader: &mut Reader<'_>, tag: u8) -> Result<Op, Error> {
    Ok(match tag {
        tag::INPUT => Op::Input,
        tag::QUANTIZE => Op::Quantize(Box::new(quantizer(reader)?)),
        tag::AFFINE => Op::Affine { scale: reader.floats()?, shift: reader.floats()? },
        tag::ADD_SCALAR => Op::AddScalar(reader.float()?),
        tag::MUL_SCALAR => Op::MulScalar(reader.float()?),
        tag::RELU => Op::Relu,
        tag::RELU6 => Op::Relu6,
        tag::LEAKY_RELU => Op::LeakyRelu(reader.float()?),
        tag::RPRELU => {
            let [before, slope, after] = [reader.floats()?, reader.floats()?, reader.floats()?];
            Op::RPRelu { before, slope, after }
        }
        tag::GROUP_NORM => Op::GroupNorm(reader.number()?),
        tag::AVERAGE_POOL => Op::AveragePool(reader.number()?),
        tag::MAX_POOL => Op::MaxPool(pool(reader)?),
        tag::GLOBAL_POOL => Op::GlobalPool,
        tag::SPACE_TO_DEPTH => Op::SpaceToDepth(reader.number()?),
        tag::DEPTH_TO_SPACE => Op::DepthToSpace(reader.number()?),
        tag::PAD => Op::Pad(reader.number()?),
        tag::REPEAT => Op::Repeat(reader.number()?),
        tag::CONCATENATE => Op::Concatenate,
        tag::ADD => Op::Add,
        tag::FLATTEN => Op::Flatten,
        _ => return Err(reader.error(format!("a node of the unknown kind {tag}"))),
    })
}

fn pool(reader: &mut Reader<'_>) -> Result<Pool, Error> {
    let [kernel, stride, padding] = [reader.number()?, reader.number()?, reader.number()?];
    let ceil = match reader.byte()? {
        0 => false,
        1 => true,
        other => return Err(reader.error(format!("{other} stands where 0 or 1 is expected"))),
    };
    Ok(Pool { kernel, stride, padding, ceil })
}

fn levels(reader: &mut Reader<'_>) -> Result<usize, Error> {
    let levels = reader.number()?;
    if (2..=256).contains(&levels) {
        return Ok(levels);
    }
    Err(reader.error(format!("{levels} levels, which can be from 2 to 256")))
}

fn quantizer(reader: &mut Reader<'_>) -> Result<Quantizer, Error> {
    let dynamic = match reader.byte()? {
        tag::STATIC => Dynamic::None,
        tag::MEAN_OVER_CHANNELS => Dynamic::MeanOverChannels,
        tag::MEAN_OVER_POSITIONS => Dynamic::MeanOverPositions,
        tag::MEAN => Dynamic::Mean,
        tag::DEVIATION => Dynamic::Deviation,
        other => return Err(reader.error(format!("a quantizer of the unknown kind {other}"))),
    };
    let groups = reader.number()?;
    let levels = levels(reader)?;
    let thresholds = rows::read_thresholds(reader, levels - 1)?;
    let (terms, values) = values(reader, levels)?;
    let thresholds = thresholds.numbers(levels - 1, &values);
    let thresholds = thresholds.ok_or_else(|| reader.error("thresholds without numbers"))?;
    Ok(Quantizer { groups, levels, thresholds, values: values.numbers, terms, dynamic })
}

/// Terms, and the values of codes.
fn values(reader: &mut Reader<'_>, levels: usize) -> Result<(Option<Terms>, Values), Error> {
    // The shortest term has no scale and an empty list of integers.
    let terms = reader.list(3, |reader| {
        Ok(Term { scales: reader.floats()?, integers: integers::read(reader, levels)? })
    })?;
    let values = match rows::read_values(reader, levels)? {
        // Where there are terms, thresholds follow from these.
        Some(values) if terms.is_empty() => values,
        Some(values) => Values::with_terms(values.numbers, &terms, levels),
        None => {
            let sums = sums::values(&terms, levels)
                .ok_or_else(|| reader.error("the lengths of terms do not fit each other"))?;
            Values::with_terms(sums, &terms, levels)
        }
    };
    Ok((Some(terms).filter(|terms| !terms.is_empty()).map(Terms), values))
}
