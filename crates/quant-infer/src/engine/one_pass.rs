//! Steps whose numbers stay in registers, from the sums of a convolution to what is stored.

use alloc::vec::Vec;
use core::{array, mem, ops::Range};

use quant_kernels::elementwise::{Operation, apply, is_supported};

use super::{
    coder::Integers,
    conv::{IntegerConv, OperandSize},
    links::Link,
    network::{Content, Producer, Sink, Step},
    packing::Packing,
    run::{Run, stored},
};
use crate::Image;

/// The largest number of operations of a step.
const MOST_OPERATIONS: usize = 16;

/// The largest number of sinks of a step.
const MOST_SINKS: usize = 4;

/// Operations in an array, so that none is allocated for an image.
struct Operations<'a> {
    array: [Operation<'a>; MOST_OPERATIONS],
    count: usize,
}

impl<'a> Operations<'a> {
    fn new() -> Self {
        Self { array: array::from_fn(|_| Operation::Relu), count: 0 }
    }

    /// Adds an operation. [`is_possible`] has counted them.
    fn push(&mut self, operation: Operation<'a>) {
        self.array[self.count] = operation;
        self.count += 1;
    }
}

/// Returns whether a step can be computed in one pass over its numbers.
pub(super) fn is_possible(
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

/// Returns whether each pass of a convolution writes its sums in the order of the numbers.
fn is_flat(conv: &IntegerConv, channels: usize) -> bool {
    conv.groups.len() == 1 && conv.stride(&conv.groups[0].passes[0]) == channels
}

impl Link {
    /// Returns the operation on `count` numbers of a chunk. `other` has the other numbers of a sum.
    fn operation<'a>(&'a self, count: usize, other: &'a [f32]) -> Option<Operation<'a>> {
        Some(match self {
            Self::Bias(bias) => Operation::Add(bias.repeated(count)),
            Self::Affine { scale, shift } => {
                Operation::Affine { scale: scale.repeated(count), shift: shift.repeated(count) }
            }
            Self::AddScalar(number) => Operation::AddScalar(*number),
            Self::MulScalar(number) => Operation::MultiplyScalar(*number),
            Self::Relu => Operation::Relu,
            Self::Relu6 => Operation::Relu6,
            Self::LeakyRelu(slope) => Operation::LeakyRelu(*slope),
            Self::RPRelu { before, slope, after } => Operation::RPRelu {
                before: before.repeated(count),
                slope: slope.repeated(count),
                after: after.repeated(count),
            },
            Self::Add(_) => Operation::Add(other),
            Self::Quantize(_) => return None,
        })
    }
}

impl Run<'_> {
    /// Returns whether the step is computed in one pass here: it is possible, and nobody watches
    /// the codes of a sum that has become thresholds.
    pub(super) fn takes_one_pass(&self, index: usize, step: &Step) -> bool {
        if !step.is_folded {
            return step.takes_one_pass;
        }
        let Producer::Integer { conv, .. } = &step.producer else { return false };
        let channels = self.layout.shapes[step.shape][0];
        let constants = &self.layout.places[index].constants;
        step.takes_one_pass && is_flat(conv, channels) && constants.of(0, 0).is_none()
    }

    /// Computes the numbers of a chunk of a strip, and stores what the sinks need of them.
    pub(super) fn pass(
        &mut self,
        index: usize,
        step: &Step,
        image: &Image<'_>,
        (strip, positions): (&Range<usize>, Range<usize>),
    ) {
        let (network, layout) = (self.network, self.layout);
        let [channels, _, width] = layout.shapes[step.shape];
        let constants = &layout.places[index].constants;
        let sums_of = match &step.producer {
            Producer::Integer { conv, .. } if is_flat(conv, channels) => {
                let mut passes = 0..conv.groups[0].passes.len();
                passes.all(|pass| constants.of(0, pass).is_none()).then_some(&conv.groups[0])
            }
            _ => None,
        };
        if sums_of.is_none() {
            self.produce(index, step, image, (strip, positions.clone()));
        }
        // What is written is taken out of the memory, so that the rest can be read meanwhile.
        let mut taken: [(Vec<f32>, Vec<u32>); MOST_SINKS] = Default::default();
        for (sink, taken) in step.sinks.iter().zip(&mut taken) {
            let buffer = layout.buffers[sink.storage];
            match &sink.content {
                Content::Floats { .. } => taken.0 = mem::take(&mut self.memory.floats[buffer]),
                Content::Integers { .. } => taken.1 = mem::take(&mut self.memory.words[buffer]),
            }
        }
        let pads = |sink: &Sink| layout.sizes[sink.storage].padding[1] > 0;
        let in_row = if step.sinks.iter().any(pads) { width } else { usize::MAX };
        let mut first = positions.start;
        while first < positions.end {
            let last = positions.end.min(first.saturating_add(in_row - first % in_row));
            let count = (last - first) * channels;
            let mut operations = Operations::new();
            if let Some(group) = sums_of {
                let mut rest = &self.memory.sums[..];
                for (pass, content) in group.passes.iter().enumerate() {
                    let (of_pass, after) = rest.split_at(strip.len() * channels);
                    rest = after;
                    let sums = &of_pass[(first - strip.start) * channels..][..count];
                    let scales = content.scales.repeated(count);
                    operations.push(match pass {
                        _ if step.is_folded => continue,
                        0 => Operation::Scale { sums, scales },
                        _ => Operation::AddScaled { sums, scales },
                    });
                }
            } else {
                let from = (first - positions.start) * channels;
                operations.push(Operation::Read(&self.memory.chunk[from..][..count]));
            }
            let mut sinks = step.sinks.iter().zip(&mut taken).peekable();
            for after in 0..=step.links.len() {
                while let Some((sink, taken)) =
                    sinks.next_if(|(sink, _)| step.is_folded || sink.after == after)
                {
                    let size = &layout.sizes[sink.storage];
                    let at = place(size, first);
                    match &sink.content {
                        Content::Floats { .. } => {
                            operations.push(Operation::Write(&mut taken.0[at..][..count]));
                        }
                        Content::Integers { coder, terms, folded, .. } => {
                            let words = (last - first) * size.channels;
                            let to = taken.1.chunks_exact_mut(size.elements());
                            for (to, term) in to.zip(terms) {
                                if term.is_constant() {
                                    continue;
                                }
                                let to = term.stored(&mut to[at..][..words]);
                                if let Some(thresholds) = folded {
                                    let first = (first - strip.start) * channels;
                                    let sums = &self.memory.sums[first..][..count];
                                    let [steps, lowest] = term.steps();
                                    let thresholds = thresholds.table();
                                    operations.push(Operation::StoreSums {
                                        sums,
                                        thresholds,
                                        steps,
                                        lowest,
                                        to,
                                    });
                                } else if let Some(rule) = term.rule(coder) {
                                    operations.push(Operation::Store(rule, to));
                                }
                            }
                        }
                    }
                }
                let Some(link) = step.links.get(after).filter(|_| !step.is_folded) else {
                    continue;
                };
                let other = match link {
                    Link::Add(storage) => {
                        let value = stored(network, layout, &self.memory.floats, *storage);
                        &value.numbers[first * channels..][..count]
                    }
                    _ => &[],
                };
                if let Some(operation) = link.operation(count, other) {
                    operations.push(operation);
                }
            }
            let Operations { array, count: used } = &mut operations;
            apply(network.set, count, channels, &mut array[..*used]);
            first = last;
        }
        for (sink, taken) in step.sinks.iter().zip(&mut taken) {
            let buffer = layout.buffers[sink.storage];
            match &sink.content {
                Content::Floats { .. } => self.memory.floats[buffer] = mem::take(&mut taken.0),
                Content::Integers { .. } => self.memory.words[buffer] = mem::take(&mut taken.1),
            }
        }
    }
}

/// Returns the index of a position in a storage.
fn place(size: &OperandSize, position: usize) -> usize {
    let [above, left] = size.padding;
    let width = size.width - 2 * left;
    let (y, x) = (position / width, position % width);
    ((y + above) * size.width + x + left) * size.channels
}
