//! Steps whose numbers stay in registers, from the sums of a convolution to what is stored.

use core::{mem, ops::Range};

use quant_kernels::{
    Aligned,
    elementwise::{Operation, Size, apply},
};

use super::{
    conv::{Group, IntegerConv},
    links::Link,
    operations::{MOST_SINKS, Operations},
    per_channel::chunk,
    run::{Run, stored},
    step::{Content, Producer, Sink, Step},
};
use crate::Image;

/// Returns whether each pass of a convolution writes its sums in the order of the numbers.
fn is_flat(conv: &IntegerConv, channels: usize) -> bool {
    conv.groups.len() == 1 && conv.stride(&conv.groups[0].passes[0]) == channels
}

impl Run<'_> {
    /// Returns whether the step is computed in one pass here: it is possible, and a convolution
    /// writes its sums in the order of the numbers.
    pub(super) fn takes_one_pass(&self, index: usize, step: &Step) -> bool {
        if !step.is_folded {
            return step.takes_one_pass;
        }
        let Producer::Integer { conv, .. } = &step.producer else { return false };
        let channels = self.layout.shapes[step.shape][0];
        let constants = &self.layout.constants[index];
        step.takes_one_pass && is_flat(conv, channels) && constants.of(0, 0).is_none()
    }

    /// Computes the numbers at positions of a strip, and stores what the sinks need of them.
    pub(super) fn pass(
        &mut self,
        index: usize,
        step: &Step,
        image: &Image<'_>,
        strip: &Range<usize>,
    ) {
        let channels = self.layout.shapes[step.shape][0];
        let group = match &step.producer {
            Producer::Integer { conv, .. } if is_flat(conv, channels) => Some(&conv.groups[0]),
            _ => None,
        };
        // The numbers of other steps are produced in chunks.
        let together = if group.is_some() { strip.len() } else { chunk(channels) };
        // What is written is taken out of the memory, so that the rest can be read meanwhile.
        let mut taken: [Taken; MOST_SINKS] = Default::default();
        for positions in parts(strip.clone(), together) {
            if group.is_none() {
                self.produce(index, step, image, (strip, positions.clone()));
            }
            for (sink, taken) in step.sinks.iter().zip(&mut taken) {
                self.exchange(sink, taken);
            }
            for part in self.rows(step, positions.clone()) {
                let mut operations = Operations::new();
                match group {
                    Some(group) if !step.is_folded => {
                        self.add_sums(index, group, (strip, &part), &mut operations);
                    }
                    Some(_) => {}
                    None => {
                        let from = (part.start - positions.start) * channels;
                        let numbers = &self.memory.chunk[from..][..part.len() * channels];
                        operations.push(Operation::Read(numbers));
                    }
                }
                self.add_links(step, (strip, &part), &mut taken, &mut operations);
                let size = Size {
                    count: part.len() * channels,
                    channels,
                    period: chunk(channels) * channels,
                };
                apply(self.network.set, size, operations.all());
            }
            for (sink, taken) in step.sinks.iter().zip(&mut taken) {
                self.exchange(sink, taken);
            }
        }
    }

    /// Exchanges the buffer of a sink with another one.
    fn exchange(&mut self, sink: &Sink, taken: &mut Taken) {
        let buffer = self.layout.buffers[sink.storage];
        match &sink.content {
            Content::Floats { .. } => mem::swap(&mut taken.floats, &mut self.memory.floats[buffer]),
            Content::Integers { .. } => mem::swap(&mut taken.words, &mut self.memory.words[buffer]),
        }
    }

    /// Returns the parts of positions that are contiguous in what every sink stores: rows, if one
    /// of them has padding beside them or keeps only the last ones.
    fn rows(&self, step: &Step, positions: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let layout = self.layout;
        let is_in_rows = |sink: &Sink| {
            layout.sizes[sink.storage].padding[1] > 0
                || layout.row_masks[sink.storage] != usize::MAX
        };
        let width = layout.shapes[step.shape][2];
        let in_row = if step.sinks.iter().any(is_in_rows) { width } else { positions.end.max(1) };
        let mut first = positions.start;
        core::iter::from_fn(move || {
            let last = positions.end.min(first + in_row - first % in_row);
            let part = first..last;
            first = last;
            (!part.is_empty()).then_some(part)
        })
    }

    /// Adds the sums of the passes of a convolution.
    fn add_sums<'a>(
        &'a self,
        index: usize,
        group: &'a Group,
        (strip, part): (&Range<usize>, &Range<usize>),
        operations: &mut Operations<'a>,
    ) {
        let constants = &self.layout.constants[index];
        let channels = group.outputs;
        let mut rest = &self.memory.sums[..];
        for (pass, content) in group.passes.iter().enumerate() {
            if let Some(constant) = constants.of(0, pass) {
                let (rows, starts) = constant.rows(part.clone());
                operations.push(Operation::AddRows { rows, starts });
                continue;
            }
            let (of_pass, after) = rest.split_at(strip.len() * channels);
            rest = after;
            let sums = &of_pass[(part.start - strip.start) * channels..][..part.len() * channels];
            operations.push(Operation::AddScaled { sums, scales: content.scales.all_repeated() });
        }
    }

    /// Adds the links, and what the sinks store after them.
    fn add_links<'a>(
        &'a self,
        step: &'a Step,
        (strip, part): (&Range<usize>, &Range<usize>),
        taken: &'a mut [Taken],
        operations: &mut Operations<'a>,
    ) {
        let channels = self.layout.shapes[step.shape][0];
        let numbers = part.start * channels..part.end * channels;
        let mut sinks = step.sinks.iter().zip(taken).peekable();
        for after in 0..=step.links.len() {
            while let Some((sink, taken)) =
                sinks.next_if(|(sink, _)| step.is_folded || sink.after == after)
            {
                let first = (part.start - strip.start) * channels;
                let sums = &self.memory.sums[..];
                let sums = if step.is_folded { &sums[first..][..numbers.len()] } else { &[] };
                self.add_sink(sink, (part, sums), taken, operations);
            }
            let Some(link) = step.links.get(after).filter(|_| !step.is_folded) else { continue };
            let other = match link {
                Link::Add(storage) => {
                    let floats = &self.memory.floats;
                    let value = stored(self.network, self.layout, floats, *storage);
                    &value.numbers[numbers.clone()]
                }
                _ => &[],
            };
            if let Some(operation) = link.operation(other) {
                operations.push(operation);
            }
        }
    }

    /// Adds what a sink stores. `sums` are those that its thresholds belong to, if it has such.
    fn add_sink<'a>(
        &'a self,
        sink: &'a Sink,
        (part, sums): (&Range<usize>, &'a [i32]),
        taken: &'a mut Taken,
        operations: &mut Operations<'a>,
    ) {
        let size = &self.layout.sizes[sink.storage];
        let [above, left] = size.padding;
        let width = size.width - 2 * left;
        let (y, x) = (part.start / width, part.start % width);
        let y = y & self.layout.row_masks[sink.storage];
        let at = ((y + above) * size.width + x + left) * size.channels;
        let elements = at..at + part.len() * size.channels;
        match &sink.content {
            Content::Floats { .. } => {
                operations.push(Operation::Write(&mut taken.floats[elements]));
            }
            Content::Integers { coder, terms, folded, .. } => {
                let to = taken.words.chunks_exact_mut(size.elements()).zip(terms);
                for (to, term) in to.filter(|(_, term)| !term.is_constant()) {
                    let to = term.stored(&mut to[elements.clone()]);
                    if let Some(thresholds) = folded {
                        let ([steps, lowest], thresholds) = (term.steps(), thresholds.table());
                        let sums = Operation::StoreSums { sums, thresholds, steps, lowest, to };
                        operations.push(sums);
                    } else if let Some(rule) = term.rule(coder) {
                        operations.push(Operation::Store(rule, to));
                    }
                }
            }
        }
    }
}

/// The buffers of a sink.
#[derive(Default)]
struct Taken {
    floats: Aligned<f32>,
    words: Aligned<u32>,
}

/// Returns parts of a range, of at most `most` each.
fn parts(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(most.max(1)).map(move |first| first..(first + most).min(end))
}
