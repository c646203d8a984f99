//! The operations on each number of a step that is computed in one pass.

use core::array;

use quant_kernels::elementwise::{Operation, is_supported};

use super::{
    integers::Integers,
    links::Link,
    packing::Packing,
    step::{Content, Producer, Sink},
};

/// The largest number of operations of a step.
const MOST_OPERATIONS: usize = 16;

/// The largest number of sinks of a step.
pub(super) const MOST_SINKS: usize = 4;

/// Operations in an array, so that none is allocated for an image.
pub(super) struct Operations<'a> {
    array: [Operation<'a>; MOST_OPERATIONS],
    count: usize,
}

impl<'a> Operations<'a> {
    pub(super) fn new() -> Self {
        Self { array: array::from_fn(|_| Operation::Relu), count: 0 }
    }

    /// Adds an operation. [`suffice`] has counted them.
    pub(super) fn push(&mut self, operation: Operation<'a>) {
        self.array[self.count] = operation;
        self.count += 1;
    }

    /// Returns those that were added, in this order.
    pub(super) fn all(&mut self) -> &mut [Operation<'a>] {
        &mut self.array[..self.count]
    }
}

/// Returns whether operations suffice for a step, so that it can be computed in one pass over its
/// numbers.
pub(super) fn suffice(
    channels: usize,
    (producer, is_folded): (&Producer, bool),
    links: &[Link],
    sinks: &[Sink],
) -> bool {
    let of_producer = match producer {
        Producer::Input => return false,
        Producer::Integer { conv, .. } => conv.passes().count(),
        _ => 1,
    };
    let mut stores = 0;
    for sink in sinks {
        match &sink.content {
            Content::Floats { coder, .. } => {
                if coder.is_some() {
                    return false;
                }
                stores += 1;
            }
            Content::Integers { coder, terms, folded, .. } => {
                let fits = |term: &Integers| {
                    let needs_words = matches!(term.packing(), Packing::Signs | Packing::Ternary);
                    term.is_constant()
                        || (is_supported(channels, needs_words)
                            && (folded.is_some() || term.rule(coder).is_some()))
                };
                if !terms.iter().all(fits) {
                    return false;
                }
                stores += terms.len();
            }
        }
    }
    is_supported(channels, false)
        && sinks.len() <= MOST_SINKS
        && of_producer + stores + links.len() <= MOST_OPERATIONS
        && (is_folded || links.iter().all(|link| !matches!(link, Link::Quantize(_))))
}

impl Link {
    /// Returns the operation. `other` has the other numbers of a sum.
    pub(super) fn operation<'a>(&'a self, other: &'a [f32]) -> Option<Operation<'a>> {
        Some(match self {
            Self::Bias(bias) => Operation::AddChannels(bias.all_repeated()),
            Self::Affine { scale, shift } => {
                Operation::Affine { scale: scale.all_repeated(), shift: shift.all_repeated() }
            }
            Self::AddScalar(number) => Operation::AddScalar(*number),
            Self::MulScalar(number) => Operation::MultiplyScalar(*number),
            Self::Relu => Operation::Relu,
            Self::Relu6 => Operation::Relu6,
            Self::LeakyRelu(slope) => Operation::LeakyRelu(*slope),
            Self::RPRelu { before, slope, after } => Operation::RPRelu {
                before: before.all_repeated(),
                slope: slope.all_repeated(),
                after: after.all_repeated(),
            },
            Self::Add(_) => Operation::Add(other),
            Self::Quantize(_) => return None,
        })
    }
}
