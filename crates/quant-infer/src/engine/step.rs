//! Steps of a network, prepared: how their numbers are produced, what follows, and what is stored.

use alloc::{boxed::Box, vec::Vec};

use super::{
    coder::Coder,
    conv::{FloatConv, IntegerConv},
    integers::Integers,
    links::Link,
    per_threshold::PerThreshold,
    pixels::ByteWords,
};
use crate::model::Op;

/// A step of the plan, prepared.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The node of the model that is its first layer.
    pub(super) node: usize,
    pub(super) producer: Producer,
    pub(super) links: Vec<Link>,
    pub(super) sinks: Vec<Sink>,
    /// The node of the model that has the size of the numbers.
    pub(super) shape: usize,
    /// Whether the sinks read sums of integers, and no links are applied.
    pub(super) is_folded: bool,
    /// For each channel of a folded step whether its sums are negated.
    pub(super) negated: Vec<bool>,
    /// Whether the numbers can be computed and stored in one pass.
    pub(super) takes_one_pass: bool,
    /// Whether its rows are computed as soon as the step before has computed what they need.
    pub(super) follows_rows: bool,
}

impl Step {
    /// Returns the number of rows of the value that a pooling layer reads for its rows up to one.
    /// It is at least the number of these rows.
    pub(super) fn rows_needed(&self, row: usize) -> usize {
        match &self.producer {
            Producer::Layer { op: Op::MaxPool(pool), .. } => {
                (row * pool.stride + pool.kernel).saturating_sub(pool.padding)
            }
            Producer::Layer { op: Op::AveragePool(side), .. } => (row + 1) * side,
            _ => usize::MAX,
        }
    }

    /// Returns the number of rows that a pooling layer reads for one.
    pub(super) fn window(&self) -> usize {
        match &self.producer {
            Producer::Layer { op: Op::MaxPool(pool), .. } => pool.kernel,
            Producer::Layer { op: Op::AveragePool(side), .. } => *side,
            _ => usize::MAX,
        }
    }

    /// Returns whether the step pools what the step before stores, and reads nothing else of it.
    pub(super) fn can_follow(&self, before: &Self) -> bool {
        let Producer::Layer { op: Op::MaxPool(_) | Op::AveragePool(_), values } = &self.producer
        else {
            return false;
        };
        let stores = |storage: usize| before.sinks.iter().any(|sink| sink.storage == storage);
        let adds = |link: &Link| matches!(link, Link::Add(storage) if stores(*storage));
        stores(values[0]) && !self.links.iter().any(adds)
    }
}

/// How the numbers of a step are produced. Indices are those of storages.
#[derive(Debug, Clone)]
pub(super) enum Producer {
    Input,
    Integer {
        conv: Box<IntegerConv>,
        operand: usize,
    },
    Float {
        conv: Box<FloatConv>,
        operand: usize,
    },
    /// The numbers of a stored value.
    Value(usize),
    /// The values of a quantizer that depends on the image.
    Dynamic {
        coder: Box<Coder>,
        value: usize,
    },
    /// A layer with no numbers of its own.
    Layer {
        op: Op,
        values: Vec<usize>,
    },
}

impl Producer {
    /// Returns the number of sums of a position, of which `channels` numbers are made.
    pub(super) fn sums(&self, channels: usize) -> usize {
        match self {
            Self::Integer { conv, .. } => conv.sums().max(channels),
            _ => channels,
        }
    }
}

/// What is stored after some links.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    pub(super) after: usize,
    pub(super) storage: usize,
    pub(super) content: Content,
}

impl Sink {
    /// Returns whether the sink stores an image's bytes, without their numbers.
    pub(super) fn takes_bytes(&self) -> bool {
        matches!(&self.content, Content::Integers { bytes, .. } if !bytes.is_empty())
    }
}

/// In which form a sink stores numbers.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Floats. The padding has these values, per channel.
    Floats { coder: Option<Coder>, padding: Vec<f32> },
    /// Integers of each term. The padding has these words of a position, per term.
    Integers {
        coder: Coder,
        terms: Vec<Integers>,
        padding: Vec<Vec<u32>>,
        /// The thresholds of sums, if the step is folded.
        folded: Option<PerThreshold<i32>>,
        /// The words of an image's bytes for each term, if the numbers are those of the image.
        bytes: Vec<ByteWords>,
    },
}

/// Where the codes of a node are found.
#[derive(Debug, Clone, Copy)]
pub(super) enum CodesOf {
    /// In the operand that a step reads.
    Operand { step: usize, storage: usize },
    /// In the numbers that a step produces from a quantizer that depends on the image.
    Dynamic { step: usize },
    /// In the numbers after a link.
    Link { step: usize, link: usize },
}
