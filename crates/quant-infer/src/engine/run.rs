//! The computation of one image, step by step.

use alloc::vec::Vec;
use core::ops::Range;

use quant_kernels::Aligned;

use super::{
    conv::StripSums,
    layout::{Layout, strip},
    links::Link,
    memory::Memory,
    network::Network,
    per_channel::chunk,
    produce::{self, Stored},
    step::{Content, Producer, Sink, Step},
    store,
};
use crate::Image;

/// The computation of one image.
pub(super) struct Run<'a> {
    pub(super) network: &'a Network,
    pub(super) layout: &'a Layout,
    pub(super) memory: &'a mut Memory,
    pub(super) watched: &'a mut Vec<(usize, Vec<u8>)>,
}

/// Returns a stored value.
pub(super) fn stored<'a>(
    network: &Network,
    layout: &Layout,
    floats: &'a [Aligned<f32>],
    storage: usize,
) -> Stored<'a> {
    let shape = layout.shapes[network.storages[storage].shape];
    let length = layout.sizes[storage].elements();
    let row_mask = layout.row_masks[storage];
    Stored { numbers: &floats[layout.buffers[storage]][..length], shape, row_mask }
}

impl Run<'_> {
    /// Computes a step, and the one that follows it row by row, if there is such.
    pub(super) fn step(&mut self, index: usize, image: &Image<'_>) {
        let steps = &self.network.steps;
        let step = &steps[index];
        if step.follows_rows {
            return;
        }
        let next = index + 1;
        let follower = steps.get(next).filter(|step| step.follows_rows);
        // First, because pools have no statistics, and remove those that this step may need.
        if let Some(follower) = follower {
            self.begin(next, follower);
        }
        self.begin(index, step);
        let [channels, height, width] = self.layout.shapes[step.shape];
        let in_strip = strip(step.producer.sums(channels), height * width);
        let mut rows = 0;
        for first in (0..height * width).step_by(in_strip) {
            let strip = first..(first + in_strip).min(height * width);
            let rows_ready = strip.end / width;
            self.strip(index, step, image, strip);
            // Its rows are still in the cache.
            if let Some(follower) = follower {
                let [_, height, width] = self.layout.shapes[follower.shape];
                let first = rows;
                while rows < height && follower.rows_needed(rows) <= rows_ready {
                    rows += 1;
                }
                self.positions(next, follower, image, first * width..rows * width);
            }
        }
        if let Some(follower) = follower {
            let [_, height, width] = self.layout.shapes[follower.shape];
            self.positions(next, follower, image, rows * width..height * width);
        }
    }

    /// Prepares a step.
    fn begin(&mut self, index: usize, step: &Step) {
        self.prepare(step);
        self.unroll(index, step);
        self.add_elements(index, step);
        self.watch_step(index, step);
    }

    /// Computes positions of a step.
    fn positions(&mut self, index: usize, step: &Step, image: &Image<'_>, range: Range<usize>) {
        let [channels, height, width] = self.layout.shapes[step.shape];
        let in_strip = strip(step.producer.sums(channels), height * width);
        for first in range.clone().step_by(in_strip) {
            self.strip(index, step, image, first..(first + in_strip).min(range.end));
        }
    }

    /// Computes a strip of positions of a step.
    fn strip(&mut self, index: usize, step: &Step, image: &Image<'_>, strip: Range<usize>) {
        let takes_bytes = matches!(step.producer, Producer::Input) && image.has_bytes();
        if takes_bytes {
            self.store_bytes(step, image, strip.clone());
            if step.sinks.iter().all(Sink::takes_bytes) && !self.watches_links(index) {
                return;
            }
        }
        self.sum(index, step, strip.clone());
        let in_chunk = chunk(self.layout.shapes[step.shape][0]);
        if step.is_folded && self.watches_links(index) {
            for first in strip.clone().step_by(in_chunk) {
                let chunk = first..(first + in_chunk).min(strip.end);
                self.watch_folded(index, step, image, (&strip, chunk));
            }
        }
        if self.takes_one_pass(index, step) {
            return self.pass(index, step, image, &strip);
        }
        for first in strip.clone().step_by(in_chunk) {
            let chunk = first..(first + in_chunk).min(strip.end);
            if step.is_folded {
                self.store_folded(index, step, &strip, chunk);
            } else {
                self.produce(index, step, image, (&strip, chunk.clone()));
                self.follow(index, step, chunk, takes_bytes);
            }
        }
    }

    /// Fills paddings, and computes what depends on the whole image.
    fn prepare(&mut self, step: &Step) {
        let (network, layout) = (self.network, self.layout);
        for Sink { storage, content, .. } in &step.sinks {
            let (size, buffer) = (&layout.sizes[*storage], layout.buffers[*storage]);
            match content {
                Content::Floats { padding, .. } => {
                    let to = &mut self.memory.floats[buffer][..size.elements()];
                    store::fill_padding(size, to, padding);
                }
                Content::Integers { terms, padding, .. } => {
                    let to = self.memory.words[buffer].chunks_exact_mut(size.elements());
                    for ((to, term), padding) in to.zip(terms).zip(padding) {
                        if !term.is_constant() {
                            store::fill_padding(size, to, padding);
                        }
                    }
                }
            }
        }
        let value = |storage: usize| stored(network, layout, &self.memory.floats, storage);
        match &step.producer {
            Producer::Dynamic { coder, value: from } => {
                let dynamic = coder.quantizer().dynamic;
                self.memory.statistics.of_quantizer(dynamic, value(*from));
            }
            Producer::Layer { op, values } => {
                self.memory.statistics.of_layer(op, value(values[0]));
            }
            _ => {}
        }
    }

    /// Adds up the numbers of the elements of a convolution's operand, for the passes that need it.
    fn add_elements(&mut self, index: usize, step: &Step) {
        let layout = self.layout;
        let Producer::Integer { conv, operand } = &step.producer else { return };
        let size = layout.operand(index, *operand);
        let Memory { words, unrolled, elements, .. } = &mut *self.memory;
        let all = match layout.places[index].unrolled {
            Some(_) => &unrolled[..],
            None => &words[layout.buffers[*operand]],
        };
        let each = elements.chunks_exact_mut(size.height * size.width);
        for ((group, pass), sums) in conv.passes_with_extra().zip(each) {
            let pass = &conv.groups[group].passes[pass];
            let from = &all[pass.term * size.elements()..][..size.elements()];
            conv.add_elements(pass, from, &size, sums);
        }
    }

    /// Stores the operand of a convolution again, if it needs that.
    fn unroll(&mut self, index: usize, step: &Step) {
        let layout = self.layout;
        let constants = &layout.constants[index];
        let (Producer::Integer { conv, operand }, Some(unrolled)) =
            (&step.producer, layout.places[index].unrolled)
        else {
            return;
        };
        let [_, height, width] = layout.shapes[step.shape];
        let size = &layout.sizes[*operand];
        let Memory { words, unrolled: all, row, .. } = &mut *self.memory;
        let terms = words[layout.buffers[*operand]].chunks_exact(size.elements());
        let each = terms.zip(all.chunks_exact_mut(unrolled.elements())).enumerate();
        for (term, (from, to)) in each {
            let reads = |(group, pass): (usize, usize)| {
                conv.groups[group].passes[pass].term == term && constants.of(group, pass).is_none()
            };
            if conv.passes().any(reads) {
                conv.unroll(from, (size, [height, width]), row, to);
            }
        }
    }

    /// Stores the bytes of an image at the positions of a strip as operands.
    fn store_bytes(&mut self, step: &Step, image: &Image<'_>, strip: Range<usize>) {
        for sink in &step.sinks {
            let Content::Integers { terms, bytes, .. } = &sink.content else { continue };
            let size = &self.layout.sizes[sink.storage];
            let to = &mut self.memory.words[self.layout.buffers[sink.storage]];
            let to = to.chunks_exact_mut(size.elements());
            for ((to, term), bytes) in to.zip(terms).zip(bytes) {
                if !term.is_constant() {
                    bytes.store(self.network.set, image, (size, strip.clone()), to);
                }
            }
        }
    }

    /// Computes the sums of a convolution at the positions of a strip.
    fn sum(&mut self, index: usize, step: &Step, strip: Range<usize>) {
        let layout = self.layout;
        let places = &layout.places[index];
        let Memory { floats, words, unrolled, elements, sums, float_sums, extra, .. } =
            &mut *self.memory;
        match &step.producer {
            Producer::Integer { conv, operand } => {
                let size = layout.operand(index, *operand);
                let all = match places.unrolled {
                    Some(_) => &unrolled[..],
                    None => &words[layout.buffers[*operand]],
                };
                let mut each = elements.chunks_exact(size.height * size.width);
                let mut rest = &mut sums[..];
                for (group, pass) in conv.passes() {
                    let is_constant = layout.constants[index].of(group, pass).is_some();
                    let pass = &conv.groups[group].passes[pass];
                    let elements = if pass.extra != 0 { each.next() } else { None };
                    if is_constant {
                        continue;
                    }
                    let from = &all[pass.term * size.elements()..][..size.elements()];
                    let from = (from, elements.unwrap_or_default());
                    let (to, after) = rest.split_at_mut(strip.len() * conv.stride(pass));
                    rest = after;
                    conv.run(pass, from, places, strip.clone(), (to, extra));
                }
            }
            Producer::Float { conv, operand } => {
                let size = &layout.sizes[*operand];
                let from = &floats[layout.buffers[*operand]][..size.elements()];
                conv.run(from, places, strip, float_sums);
            }
            _ => {}
        }
    }

    /// Stores the integers of a chunk of a strip by the thresholds of its sums.
    fn store_folded(
        &mut self,
        index: usize,
        step: &Step,
        strip: &Range<usize>,
        chunk: Range<usize>,
    ) {
        let (network, layout) = (self.network, self.layout);
        let Producer::Integer { conv, .. } = &step.producer else { return };
        let constants = &layout.constants[index];
        let channels = layout.shapes[step.shape][0];
        let Memory { words, sums, all_sums, .. } = &mut *self.memory;
        let first = chunk.start - strip.start;
        let is_whole = conv.groups.len() == 1 && constants.of(0, 0).is_none();
        let mut rest = &sums[..];
        for (at, group) in conv.groups.iter().enumerate().filter(|_| !is_whole) {
            let constant = constants.of(at, 0);
            let stride = conv.stride(&group.passes[0]);
            let mut of_chunk = rest;
            if constant.is_none() {
                of_chunk = &rest[first * stride..];
                rest = &rest[strip.len() * stride..];
            }
            for (index, all) in all_sums.chunks_exact_mut(channels).take(chunk.len()).enumerate() {
                let sums = match constant {
                    Some(constant) => constant.sums(chunk.start + index),
                    None => &of_chunk[index * stride..],
                };
                all[group.first..][..group.outputs].copy_from_slice(&sums[..group.outputs]);
            }
        }
        let (from, stride) = if is_whole {
            let stride = conv.stride(&conv.groups[0].passes[0]);
            (&sums[first * stride..][..chunk.len() * stride], stride)
        } else {
            (&all_sums[..], channels)
        };
        for sink in &step.sinks {
            let Content::Integers { terms, folded: Some(thresholds), .. } = &sink.content else {
                continue;
            };
            let size = &layout.sizes[sink.storage];
            let to = words[layout.buffers[sink.storage]].chunks_exact_mut(size.elements());
            for (to, term) in to.zip(terms) {
                if !term.is_constant() {
                    let (how, place) = ((term, thresholds), (size, chunk.clone()));
                    store::integers_of_sums(network.set, how, (from, stride), channels, place, to);
                }
            }
        }
    }

    /// Computes the numbers of a chunk of a strip.
    pub(super) fn produce(
        &mut self,
        index: usize,
        step: &Step,
        image: &Image<'_>,
        (strip, positions): (&Range<usize>, Range<usize>),
    ) {
        let (network, layout) = (self.network, self.layout);
        let shape = layout.shapes[step.shape];
        let channels = shape[0];
        let count = positions.len() * channels;
        let in_strip = positions.start - strip.start..positions.end - strip.start;
        let Memory { floats, chunk, sums, float_sums, statistics, bytes, .. } = &mut *self.memory;
        let chunk = &mut chunk[..count];
        let value = |storage: usize| stored(network, layout, floats, storage);
        match &step.producer {
            Producer::Input => image.write(bytes, positions, chunk),
            Producer::Integer { conv, .. } => {
                let constants = &layout.constants[index];
                let strip = StripSums { sums, positions: strip.len(), constants };
                conv.combine(strip, (in_strip, positions), chunk, channels);
            }
            Producer::Float { conv, .. } => conv.write(float_sums, strip.len(), in_strip, chunk),
            Producer::Value(from) => {
                chunk.copy_from_slice(&value(*from).numbers[positions.start * channels..][..count]);
            }
            Producer::Dynamic { coder, value: from } => {
                produce::dynamic_values(coder, statistics, value(*from), positions, chunk);
            }
            Producer::Layer { op, values } => {
                let of = |input: usize| value(values[input]);
                let place = (shape, positions);
                produce::layer(network.set, op, of, values.len(), statistics, place, chunk);
            }
        }
    }

    /// Applies the links to the chunk, and stores the results. `takes_bytes` says that the bytes of
    /// the image are stored already.
    fn follow(&mut self, index: usize, step: &Step, positions: Range<usize>, takes_bytes: bool) {
        let (network, layout) = (self.network, self.layout);
        let channels = layout.shapes[step.shape][0];
        let numbers = positions.start * channels..positions.end * channels;
        let is_left = |sink: &&Sink| !(takes_bytes && sink.takes_bytes());
        let mut sinks = step.sinks.iter().filter(is_left).peekable();
        for after in 0..=step.links.len() {
            while let Some(sink) = sinks.next_if(|sink| sink.after == after) {
                self.store(sink, channels, positions.clone());
            }
            let Some(link) = step.links.get(after) else { continue };
            let chunk = &mut self.memory.chunk[..numbers.len()];
            let other = match link {
                Link::Add(storage) => {
                    let value = stored(network, layout, &self.memory.floats, *storage);
                    &value.numbers[numbers.clone()]
                }
                _ => &[],
            };
            link.apply(network.set, chunk, other);
            self.watch_link(index, after, step, positions.clone());
        }
    }

    fn store(&mut self, sink: &Sink, channels: usize, positions: Range<usize>) {
        let set = self.network.set;
        let size = &self.layout.sizes[sink.storage];
        let buffer = self.layout.buffers[sink.storage];
        let chunk = &self.memory.chunk[..positions.len() * channels];
        match &sink.content {
            Content::Floats { coder, .. } => {
                let to = &mut self.memory.floats[buffer][..size.elements()];
                store::floats(set, coder.as_ref(), chunk, (size, positions), to);
            }
            Content::Integers { coder, terms, .. } => {
                let to = self.memory.words[buffer].chunks_exact_mut(size.elements());
                for (to, term) in to.zip(terms) {
                    if term.is_constant() {
                        continue;
                    }
                    let place = (size, positions.clone());
                    let numbers = (chunk, channels);
                    store::integers_of_floats(set, (coder, term), numbers, place, to);
                }
            }
        }
    }
}
