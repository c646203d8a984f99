//! Sessions: the memory in which one image after another is computed.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use super::{
    layout::{Layout, strip},
    links::Link,
    network::{Content, Network, Producer, Sink, Step},
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
    /// The numbers of the positions of a step that are computed at once, `[positions, channels]`.
    pub(super) strip: Vec<f32>,
    /// The sums of a kernel.
    sums: Vec<i32>,
    /// The sums of all groups of a convolution, `[positions, channels]`.
    all_sums: Vec<i32>,
    /// The sums of the numbers that a position reads.
    extra: Vec<i32>,
    float_sums: Vec<f32>,
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
        for step in &network.steps {
            let [channels, height, width] = layout.shapes[step.shape];
            let positions = strip(channels, height * width);
            numbers = numbers.max(positions * channels);
            match &step.producer {
                Producer::Integer { conv, .. } => {
                    sums = sums.max(positions * conv.most_sums());
                    extra = extra.max(positions);
                    if step.is_folded && conv.groups.len() > 1 {
                        all_sums = all_sums.max(positions * channels);
                    }
                }
                Producer::Float { conv, .. } => {
                    float_sums = float_sums.max(positions * conv.most_sums());
                }
                _ => {}
            }
        }
        self.strip = vec![0.0; numbers];
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
        self.watch_step(index, step);
        let [channels, height, width] = self.layout.shapes[step.shape];
        let count = strip(channels, height * width);
        for first in (0..height * width).step_by(count) {
            let positions = first..(first + count).min(height * width);
            if step.is_folded {
                self.run_folded(index, step, positions);
            } else {
                self.produce(index, step, image, positions.clone());
                self.follow(index, step, positions);
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

    /// Computes the sums of a range of positions, and stores integers by their thresholds.
    fn run_folded(&mut self, index: usize, step: &Step, positions: Range<usize>) {
        let (network, layout) = (self.network, self.layout);
        let Producer::Integer { conv, operand } = &step.producer else { return };
        let places = &layout.places[index];
        let size = &layout.sizes[*operand];
        let channels = layout.shapes[step.shape][0];
        let Memory { words, sums, all_sums, extra, .. } = &mut *self.memory;
        let mut stride = channels;
        for (at, group) in conv.groups.iter().enumerate() {
            let pass = &group.passes[0];
            stride = if let Some(constant) = places.constants.of(at, 0) {
                constant.write(positions.clone(), sums)
            } else {
                let from = &words[layout.buffers[*operand]][..size.elements()];
                conv.run(pass, from, places, positions.clone(), (&mut sums[..], &mut *extra))
            };
            if conv.groups.len() > 1 {
                let each = all_sums.chunks_exact_mut(channels).zip(sums.chunks_exact(stride));
                for (all, sums) in each.take(positions.len()) {
                    all[group.first..][..group.outputs].copy_from_slice(&sums[..group.outputs]);
                }
            }
        }
        let sums =
            if conv.groups.len() > 1 { (&all_sums[..], channels) } else { (&sums[..], stride) };
        for sink in &step.sinks {
            let Content::Integers { terms, folded: Some(thresholds), .. } = &sink.content else {
                continue;
            };
            let size = &layout.sizes[sink.storage];
            let to = words[layout.buffers[sink.storage]].chunks_exact_mut(size.elements());
            for (to, term) in to.zip(terms) {
                if !term.is_constant() {
                    let (how, place) = ((term, thresholds), (size, positions.clone()));
                    store::integers_of_sums(network.set, how, sums, channels, place, to);
                }
            }
        }
    }

    /// Computes the numbers of a range of positions into the strip.
    fn produce(&mut self, index: usize, step: &Step, image: &Image<'_>, positions: Range<usize>) {
        let (network, layout) = (self.network, self.layout);
        let shape = layout.shapes[step.shape];
        let channels = shape[0];
        let (first, count) = (positions.start, positions.len() * channels);
        let places = &layout.places[index];
        let Memory { floats, words, strip, sums, extra, float_sums, statistics, bytes, .. } =
            &mut *self.memory;
        let strip = &mut strip[..count];
        let value = |storage: usize| stored(network, layout, floats, storage);
        match &step.producer {
            Producer::Input => image.write(bytes, positions, strip),
            Producer::Integer { conv, operand } => {
                let size = &layout.sizes[*operand];
                for (at, group) in conv.groups.iter().enumerate() {
                    for (index, pass) in group.passes.iter().enumerate() {
                        if let Some(constant) = places.constants.of(at, index) {
                            let sums = |position: usize| constant.sums(first + position);
                            group.combine(network.set, index, sums, strip, channels);
                            continue;
                        }
                        let all = &words[layout.buffers[*operand]];
                        let from = &all[pass.term * size.elements()..][..size.elements()];
                        let to = (&mut sums[..], &mut *extra);
                        let stride = conv.run(pass, from, places, positions.clone(), to);
                        let sums = |position: usize| &sums[position * stride..][..stride];
                        group.combine(network.set, index, sums, strip, channels);
                    }
                }
            }
            Producer::Float { conv, operand } => {
                let size = &layout.sizes[*operand];
                let from = &floats[layout.buffers[*operand]][..size.elements()];
                conv.run(from, places, positions, float_sums, strip);
            }
            Producer::Value(from) => {
                strip.copy_from_slice(&value(*from).numbers[positions.start * channels..][..count]);
            }
            Producer::Dynamic { coder, value: from } => {
                produce::dynamic_values(coder, statistics, value(*from), positions, strip);
            }
            Producer::Layer { op, values } => {
                let of = |input: usize| value(values[input]);
                let place = (shape, positions);
                produce::layer(network.set, op, of, values.len(), statistics, place, strip);
            }
        }
    }

    /// Applies the links to the strip, and stores the results.
    fn follow(&mut self, index: usize, step: &Step, positions: Range<usize>) {
        let (network, layout) = (self.network, self.layout);
        let channels = layout.shapes[step.shape][0];
        let numbers = positions.start * channels..positions.end * channels;
        let mut sinks = step.sinks.iter().peekable();
        for after in 0..=step.links.len() {
            while let Some(sink) = sinks.next_if(|sink| sink.after == after) {
                self.store(sink, channels, positions.clone());
            }
            let Some(link) = step.links.get(after) else { continue };
            let strip = &mut self.memory.strip[..numbers.len()];
            let other = match link {
                Link::Add(storage) => {
                    let value = stored(network, layout, &self.memory.floats, *storage);
                    &value.numbers[numbers.clone()]
                }
                _ => &[],
            };
            link.apply(network.set, strip, channels, other);
            self.watch_link(index, after, step, positions.clone());
        }
    }

    fn store(&mut self, sink: &Sink, channels: usize, positions: Range<usize>) {
        let set = self.network.set;
        let size = &self.layout.sizes[sink.storage];
        let buffer = self.layout.buffers[sink.storage];
        let strip = &self.memory.strip[..positions.len() * channels];
        match &sink.content {
            Content::Floats { coder, .. } => {
                let to = &mut self.memory.floats[buffer][..size.elements()];
                store::floats(set, coder.as_ref(), strip, (size, positions), to);
            }
            Content::Integers { coder, terms, .. } => {
                let to = self.memory.words[buffer].chunks_exact_mut(size.elements());
                for (to, term) in to.zip(terms) {
                    if term.is_constant() {
                        continue;
                    }
                    let place = (size, positions.clone());
                    let numbers = (strip, channels);
                    store::integers_of_floats(set, (coder, term), numbers, place, to);
                }
            }
        }
    }
}
