//! Sessions: the memory in which one image after another is computed.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use super::{
    conv::StripSums,
    layout::{Layout, strip, terms},
    links::Link,
    network::{Content, Network, Producer, Sink, Step},
    per_channel::chunk,
    produce::{self, Statistics, Stored},
    store,
};
use crate::{Error, Image};

/// Runs a network on one image after another. A session owns the memory that this needs, and
/// allocates only for the first image of each size that follows another size.
#[derive(Debug, Clone)]
pub struct Session<'n> {
    network: &'n Network,
    layout: Option<Layout>,
    memory: Memory,
    /// The nodes whose codes are kept, with the codes of the last image.
    watched: Vec<(usize, Vec<u8>)>,
}

/// All numbers of an image.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) floats: Vec<Vec<f32>>,
    pub(super) words: Vec<Vec<u32>>,
    /// The operand that a convolution stored again, and a row of it.
    unrolled: Vec<u32>,
    row: Vec<u32>,
    /// The sums of the kernels at the positions of a strip: those of each group and pass, one after
    /// another.
    sums: Vec<i32>,
    float_sums: Vec<f32>,
    /// The sums of the numbers of each element of an operand, for each pass that needs them.
    elements: Vec<i32>,
    /// The sums of the numbers that a position reads.
    extra: Vec<i32>,
    /// The sums of all groups of a convolution at the positions of a chunk, `[positions, channels]`.
    all_sums: Vec<i32>,
    /// The numbers of the positions of a chunk, `[positions, channels]`.
    pub(super) chunk: Vec<f32>,
    pub(super) statistics: Statistics,
    /// The numbers of the 256 bytes of each channel of the input.
    bytes: Vec<[f32; 256]>,
}

impl<'n> Session<'n> {
    pub(super) fn new(network: &'n Network) -> Self {
        let input = &network.model.input;
        let bytes = (0..input.scale.len())
            .map(|channel| core::array::from_fn(|byte| input.number(channel, byte as u8)))
            .collect();
        let memory = Memory { bytes, ..Memory::default() };
        Self { network, layout: None, memory, watched: Vec::new() }
    }

    /// Returns the class scores of an image. They are valid until the next image.
    ///
    /// # Errors
    /// [`Error::Image`] if the image does not fit the network.
    pub fn run(&mut self, image: &Image<'_>) -> Result<&[f32], Error> {
        self.run_with(image, |_| {})
    }

    /// Runs an image, and returns the name of each step's first layer with the time that the step
    /// took. A step has the layers that are computed together.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    #[cfg(feature = "std")]
    pub fn profile(
        &mut self,
        image: &Image<'_>,
    ) -> Result<Vec<(&'n str, std::time::Duration)>, Error> {
        let network = self.network;
        let mut times: Vec<(&str, std::time::Duration)> = Vec::new();
        let mut last = std::time::Instant::now();
        self.run_with(image, |step| {
            let now = std::time::Instant::now();
            times.push((&network.model.nodes[network.steps[step].node].name, now - last));
            last = now;
        })?;
        Ok(times)
    }

    /// Runs an image, and calls `done` after each step.
    fn run_with(
        &mut self,
        image: &Image<'_>,
        mut done: impl FnMut(usize),
    ) -> Result<&[f32], Error> {
        image.check(&self.network.model.input)?;
        let layout = match self.layout.take() {
            Some(layout) if layout.size == image.size() => layout,
            _ => {
                let layout = Layout::new(self.network, image.size())?;
                self.memory.prepare(self.network, &layout);
                layout
            }
        };
        let mut run = Run {
            network: self.network,
            layout: &layout,
            memory: &mut self.memory,
            watched: &mut self.watched,
        };
        for index in 0..self.network.steps.len() {
            run.step(index, image);
            done(index);
        }
        let scores = layout.buffers[self.network.scores];
        let classes = layout.sizes[self.network.scores].channels;
        self.layout = Some(layout);
        Ok(&self.memory.floats[scores][..classes])
    }

    /// Keeps the codes of a layer for the next images: those of the input of a quantized
    /// convolution, or of a quantizer that stands alone. `layer` is its index in
    /// [`Network::layers`].
    pub fn watch(&mut self, layer: usize) {
        if !self.watched.iter().any(|(watched, _)| *watched == layer) {
            self.watched.push((layer, Vec::new()));
        }
    }

    /// Returns the codes of a watched layer for the last image, `[channels, height, width]`.
    ///
    /// They are found from what the layer really read. Codes with the same integers, or the same
    /// value where the layer reads floats, cannot be told apart; the lowest of them is returned.
    /// There are none if the layer has no codes, or if they became thresholds of sums.
    pub fn codes(&self, layer: usize) -> Option<&[u8]> {
        let (_, codes) = self.watched.iter().find(|(watched, _)| *watched == layer)?;
        (!codes.is_empty()).then_some(codes)
    }
}

impl Memory {
    /// Makes the buffers as large as a layout needs them.
    fn prepare(&mut self, network: &Network, layout: &Layout) {
        let [floats, words] = &layout.lengths;
        self.floats = floats.iter().map(|length| vec![0.0; *length]).collect();
        self.words = words.iter().map(|length| vec![0; *length]).collect();
        let (mut numbers, mut sums, mut float_sums, mut all_sums, mut extra) = (0, 0, 0, 0, 0);
        let (mut unrolled, mut elements) = (0, 0);
        for (index, step) in network.steps.iter().enumerate() {
            let [channels, height, width] = layout.shapes[step.shape];
            let positions = strip(step.producer.sums(channels), height * width);
            let of_chunk = chunk(channels).min(positions) * channels;
            numbers = numbers.max(of_chunk);
            match &step.producer {
                Producer::Integer { conv, operand } => {
                    if let Some(size) = layout.places[index].unrolled {
                        let terms = terms(&network.storages[*operand].form);
                        unrolled = unrolled.max(terms * size.elements());
                    }
                    sums = sums.max(positions * conv.sums());
                    extra = extra.max(positions);
                    let size = layout.operand(index, *operand);
                    let passes = conv.passes_with_extra().count();
                    elements = elements.max(passes * size.height * size.width);
                    if step.is_folded && conv.groups.len() > 1 {
                        all_sums = all_sums.max(of_chunk);
                    }
                }
                Producer::Float { conv, .. } => {
                    float_sums = float_sums.max(positions * conv.sums())
                }
                _ => {}
            }
        }
        self.unrolled = vec![0; unrolled];
        self.elements = vec![0; elements];
        self.chunk = vec![0.0; numbers];
        self.sums = vec![0; sums];
        self.all_sums = vec![0; all_sums];
        self.extra = Vec::with_capacity(extra);
        self.float_sums = vec![0.0; float_sums];
    }
}

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
    floats: &'a [Vec<f32>],
    storage: usize,
) -> Stored<'a> {
    let shape = layout.shapes[network.storages[storage].shape];
    let length = shape[0] * shape[1] * shape[2];
    Stored { numbers: &floats[layout.buffers[storage]][..length], shape }
}

impl Run<'_> {
    fn step(&mut self, index: usize, image: &Image<'_>) {
        let step = &self.network.steps[index];
        self.prepare(step);
        self.unroll(index, step);
        self.add_elements(index, step);
        self.watch_step(index, step);
        let [channels, height, width] = self.layout.shapes[step.shape];
        let in_strip = strip(step.producer.sums(channels), height * width);
        let in_chunk = chunk(channels);
        for first in (0..height * width).step_by(in_strip) {
            let strip = first..(first + in_strip).min(height * width);
            let takes_bytes = matches!(step.producer, Producer::Input) && image.has_bytes();
            if takes_bytes {
                self.store_bytes(step, image, strip.clone());
                if step.sinks.iter().all(Sink::takes_bytes) {
                    continue;
                }
            }
            self.sum(index, step, strip.clone());
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
        let places = &layout.places[index];
        let (Producer::Integer { conv, operand }, Some(unrolled)) =
            (&step.producer, places.unrolled)
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
                conv.groups[group].passes[pass].term == term
                    && places.constants.of(group, pass).is_none()
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
                    let is_constant = places.constants.of(group, pass).is_some();
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
        let constants = &layout.places[index].constants;
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
    fn produce(
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
                let constants = &layout.places[index].constants;
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
