//! The memory in which an image is computed.

use alloc::{vec, vec::Vec};

use quant_kernels::Aligned;

use super::{
    layout::{Layout, strip, terms},
    network::Network,
    per_channel::chunk,
    produce::Statistics,
    step::Producer,
};

/// All numbers of an image.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) floats: Vec<Aligned<f32>>,
    pub(super) words: Vec<Aligned<u32>>,
    /// The operand that a convolution stored again, and a row of it.
    pub(super) unrolled: Aligned<u32>,
    pub(super) row: Vec<u32>,
    /// The sums of the kernels at the positions of a strip: those of each group and pass, one after
    /// another.
    pub(super) sums: Aligned<i32>,
    pub(super) float_sums: Aligned<f32>,
    /// The sums of the numbers of each element of an operand, for each pass that needs them.
    pub(super) elements: Vec<i32>,
    /// The sums of the numbers that a position reads.
    pub(super) extra: Vec<i32>,
    /// The sums of all groups of a convolution at the positions of a chunk, `[positions,
    /// channels]`.
    pub(super) all_sums: Aligned<i32>,
    /// The numbers of the positions of a chunk, `[positions, channels]`.
    pub(super) chunk: Aligned<f32>,
    pub(super) statistics: Statistics,
    /// The numbers of the 256 bytes of each channel of the input.
    pub(super) bytes: Vec<[f32; 256]>,
}

impl Memory {
    /// Makes the buffers as large as a layout needs them.
    pub(super) fn prepare(&mut self, network: &Network, layout: &Layout) {
        let [floats, words] = &layout.lengths;
        self.floats = floats.iter().map(|length| Aligned::filled(*length, 0.0)).collect();
        self.words = words.iter().map(|length| Aligned::filled(*length, 0)).collect();
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
        self.unrolled = Aligned::filled(unrolled, 0);
        self.elements = vec![0; elements];
        self.chunk = Aligned::filled(numbers, 0.0);
        self.sums = Aligned::filled(sums, 0);
        self.all_sums = Aligned::filled(all_sums, 0);
        self.extra = Vec::with_capacity(extra);
        self.float_sums = Aligned::filled(float_sums, 0.0);
    }
}
