//! Sessions: the memory in which one image after another is computed.

use alloc::{vec, vec::Vec};

use super::{
    layout::{Layout, strip, terms},
    network::{Network, Producer},
    per_channel::chunk,
    produce::Statistics,
    run::Run,
};
use crate::{Error, Image};

/// Runs a network on one image after another. A session owns the memory that this needs, and
/// allocates only for the first image of each size that follows another size.
///
/// ```
/// use quant_infer::{Image, Network};
/// # use quant_infer::model::{Input, Model, Node, Op};
/// # let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
/// # let model = Model {
/// #     name: "average".into(),
/// #     producer: "example".into(),
/// #     classes: vec!["red".into(), "green".into()],
/// #     input: Input { size: [1, 2], shorter_side: None, scale: vec![0.5; 2], shift: vec![0.0; 2]
/// },
/// #     nodes: vec![
/// #         node("input", Op::Input, vec![]),
/// #         node("pool", Op::GlobalPool, vec![0]),
/// #     ],
/// # };
///
/// // A network that averages each of two channels.
/// let network = Network::new(&model)?;
/// let mut session = network.session();
/// for (bytes, expected) in [([0, 8, 2, 8], [0.5, 4.0]), ([4, 0, 4, 2], [2.0, 0.5])] {
///     assert_eq!(session.run(&Image::interleaved(&bytes, [1, 2]))?, expected);
/// }
/// # Ok::<(), quant_infer::Error>(())
/// ```
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
    pub(super) unrolled: Vec<u32>,
    pub(super) row: Vec<u32>,
    /// The sums of the kernels at the positions of a strip: those of each group and pass, one after
    /// another.
    pub(super) sums: Vec<i32>,
    pub(super) float_sums: Vec<f32>,
    /// The sums of the numbers of each element of an operand, for each pass that needs them.
    pub(super) elements: Vec<i32>,
    /// The sums of the numbers that a position reads.
    pub(super) extra: Vec<i32>,
    /// The sums of all groups of a convolution at the positions of a chunk, `[positions,
    /// channels]`.
    pub(super) all_sums: Vec<i32>,
    /// The numbers of the positions of a chunk, `[positions, channels]`.
    pub(super) chunk: Vec<f32>,
    pub(super) statistics: Statistics,
    /// The numbers of the 256 bytes of each channel of the input.
    pub(super) bytes: Vec<[f32; 256]>,
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
    /// The codes of a quantizer that became thresholds of a convolution's sums, together with what
    /// follows it, are computed from these sums. There are none if the layer has no quantizer.
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
