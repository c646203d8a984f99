//! The codes of watched layers, found from what the layers read.

use core::ops::Range;

use super::{
    integers::Integers,
    produce,
    run::{Run, stored},
    step::{CodesOf, Content, Producer, Step},
    store,
};
use crate::Image;

impl Run<'_> {
    /// Finds the codes that a step reads, or that it produces for a whole image.
    pub(super) fn watch_step(&mut self, index: usize, step: &Step) {
        let network = self.network;
        for watched in 0..self.watched.len() {
            match network.codes.get(self.watched[watched].0) {
                Some(Some(CodesOf::Operand { step, storage })) if *step == index => {
                    self.watch_operand(watched, *storage);
                }
                Some(Some(CodesOf::Dynamic { step: of })) if *of == index => {
                    self.watch_dynamic(watched, step);
                }
                _ => {}
            }
        }
    }

    fn watch_dynamic(&mut self, watched: usize, step: &Step) {
        let Producer::Dynamic { coder, value } = &step.producer else { return };
        let value = stored(self.network, self.layout, &self.memory.floats, *value);
        let [channels, height, width] = value.shape;
        let (pixels, codes) = (height * width, &mut self.watched[watched].1);
        codes.clear();
        codes.resize(channels * pixels, 0);
        let statistics = &self.memory.statistics;
        produce::dynamic_codes(coder, statistics, value, 0..pixels, |position, channel, code| {
            codes[channel * pixels + position] = code;
        });
    }

    /// Finds the codes of an operand.
    fn watch_operand(&mut self, watched: usize, storage: usize) {
        let (network, layout) = (self.network, self.layout);
        let [channels, height, width] = layout.shapes[network.storages[storage].shape];
        let pixels = height * width;
        let codes = &mut self.watched[watched].1;
        codes.clear();
        codes.resize(channels * pixels, 0);
        let sinks = network.steps.iter().flat_map(|step| &step.sinks);
        let Some(sink) = sinks.clone().find(|sink| sink.storage == storage) else { return };
        let (size, buffer) = (&layout.sizes[storage], layout.buffers[storage]);
        store::rows(size, 0..pixels, |position, count, at| {
            for index in 0..count * channels {
                let (position, channel) = (position + index / channels, index % channels);
                let at = at + index / channels * size.channels;
                codes[channel * pixels + position] = match &sink.content {
                    Content::Floats { coder: Some(coder), .. } => {
                        let number = self.memory.floats[buffer][at + channel];
                        coder.code_of_value(channel, number)
                    }
                    Content::Floats { .. } => 0,
                    Content::Integers { coder, terms, .. } => {
                        let number = |index: usize, term: &Integers| {
                            let words = &self.memory.words[buffer][index * size.elements()..];
                            term.read(&words[at..][..size.channels], channel)
                        };
                        let fits = |code: &u8| {
                            terms.iter().enumerate().all(|(index, term)| {
                                term.is_constant()
                                    || term.of_code(coder, channel, *code) == number(index, term)
                            })
                        };
                        (0..=255).take(coder.quantizer().levels).find(fits).unwrap_or(u8::MAX)
                    }
                };
            }
        });
    }

    /// Returns whether a quantizer is watched that stands alone and is a link of a step.
    pub(super) fn watches_links(&self, index: usize) -> bool {
        self.watched.iter().any(|(node, _)| {
            let codes = self.network.codes.get(*node);
            matches!(codes, Some(Some(CodesOf::Link { step, .. })) if *step == index)
        })
    }

    /// Computes what the thresholds of a folded step replace, for a chunk of a strip, to find the
    /// codes of its quantizers that stand alone.
    pub(super) fn watch_folded(
        &mut self,
        index: usize,
        step: &Step,
        image: &Image<'_>,
        (strip, positions): (&Range<usize>, Range<usize>),
    ) {
        let set = self.network.set;
        self.produce(index, step, image, (strip, positions.clone()));
        let channels = step.negated.len();
        let chunk = &mut self.memory.chunk[..positions.len() * channels];
        for numbers in chunk.chunks_exact_mut(channels) {
            let negated = numbers.iter_mut().zip(&step.negated);
            negated.filter(|(_, negated)| **negated).for_each(|(number, _)| *number = -*number);
        }
        for (after, link) in step.links.iter().enumerate() {
            let chunk = &mut self.memory.chunk[..positions.len() * channels];
            link.apply(set, chunk, &[]);
            self.watch_link(index, after, step, positions.clone());
        }
    }

    /// Finds the codes of a quantizer that stands alone, from its values in the chunk.
    pub(super) fn watch_link(
        &mut self,
        index: usize,
        after: usize,
        step: &Step,
        positions: Range<usize>,
    ) {
        let [channels, height, width] = self.layout.shapes[step.shape];
        let pixels = height * width;
        for (node, codes) in &mut *self.watched {
            match self.network.codes.get(*node) {
                Some(Some(CodesOf::Link { step, link })) if [*step, *link] == [index, after] => {}
                _ => continue,
            }
            let super::links::Link::Quantize(coder) = &step.links[after] else { continue };
            codes.resize(channels * pixels, 0);
            let numbers = self.memory.chunk.chunks_exact(channels);
            for (position, numbers) in positions.clone().zip(numbers) {
                for (channel, number) in numbers.iter().enumerate() {
                    codes[channel * pixels + position] = coder.code_of_value(channel, *number);
                }
            }
        }
    }
}
