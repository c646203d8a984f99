//! Which layers became thresholds of sums, and, for tests, the comparison of these thresholds with
//! the layers that they replace.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use quant_kernels::elementwise::{Operation, Size, apply};

use super::{
    coder::Coder,
    conv::{OperandSize, largest_sums},
    integers::Integers,
    network::Network,
    packing::Packing,
    per_channel::chunk,
    per_threshold::PerThreshold,
    plan::{LayerOp, Plan},
    step::{Content, Step},
    store,
};
use crate::{
    Error,
    model::{Conv, Model, Op, Term, Weight},
    reference::{Value, codes_after},
};

/// What [`Network::compare_thresholds`] compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ComparedThresholds {
    /// The convolutions whose next layers became thresholds.
    pub convolutions: usize,
    /// The sums whose codes were compared, those of all channels.
    pub sums: u64,
    /// The largest magnitude of a sum.
    pub largest: i32,
}

/// The number of positions that are compared at once.
const POSITIONS: usize = 256;

/// The sums of an output channel that are compared: all that can occur if they are few enough, and
/// otherwise those around each threshold, the ends, and others in between.
struct Sums {
    largest: i32,
    /// Sums that are always compared, unless all are.
    special: Vec<i32>,
    /// The number of others.
    others: u64,
}

impl Sums {
    fn new(largest: i32, thresholds: impl Iterator<Item = i32>, others: u64) -> Self {
        let all = 2 * largest as u64 + 1;
        if all <= others {
            return Self { largest, special: Vec::new(), others: all };
        }
        let near = |sum: i32| (-3..=3).map(move |distance| sum.saturating_add(distance));
        let mut special: Vec<i32> =
            thresholds.chain([-largest, 0, largest]).flat_map(near).collect();
        special.retain(|sum| (-largest..=largest).contains(sum));
        special.sort_unstable();
        special.dedup();
        Self { largest, special, others }
    }

    fn count(&self) -> usize {
        self.special.len() + self.others as usize
    }

    /// Returns the sum of an index, which starts again after the last one.
    fn of(&self, index: usize) -> i32 {
        let index = index % self.count();
        if let Some(sum) = self.special.get(index) {
            return *sum;
        }
        // The range has as many parts as there are others, with one of each.
        let index = (index - self.special.len()) as u64;
        let all = 2 * self.largest as u64 + 1;
        let part = |index: u64| index * all / self.others;
        let (first, next) = (part(index), part(index + 1));
        let at = first + index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (next - first).max(1);
        (at as i64 - i64::from(self.largest)) as i32
    }
}

impl Network {
    /// Returns for each node of a model the convolution whose sums the engine compares with
    /// thresholds instead of computing the node, if it does so. The bias of such a convolution is
    /// a part of the thresholds too, and the convolution itself is among the nodes.
    ///
    /// # Errors
    /// Those of [`Model::check`].
    pub fn folded_layers(model: &Model) -> Result<Vec<Option<usize>>, Error> {
        let network = Self::new(model)?;
        let plan = Plan::new(model, network.set, None);
        let mut folded = vec![None; model.nodes.len()];
        let steps = network.steps.iter().zip(&plan.drafts);
        for (step, draft) in steps.filter(|(step, _)| step.is_folded) {
            folded[step.node] = Some(step.node);
            for layer in &draft.links {
                folded[plan.layers[*layer].node] = Some(step.node);
            }
        }
        Ok(folded)
    }

    /// Compares, for each convolution whose next layers became thresholds, the codes that the
    /// thresholds give sums with those of the layers as the reference computes them. `model` is the
    /// one that the network was made of. All sums that a channel's accumulator can have are
    /// compared if they are at most `most`, and otherwise those around each threshold and `most`
    /// others. The codes are stored as for images, by each way that the network has.
    ///
    /// # Errors
    /// The first sum with another code, and where it is.
    #[doc(hidden)]
    pub fn compare_thresholds(
        &self,
        model: &Model,
        most: u32,
    ) -> Result<ComparedThresholds, String> {
        let plan = Plan::new(model, self.set, None);
        let mut compared = ComparedThresholds::default();
        for (step, draft) in self.steps.iter().zip(&plan.drafts).filter(|(step, _)| step.is_folded)
        {
            let head = draft.head.map(|head| plan.layers[head].op);
            let Some(LayerOp::Conv(conv)) = head else {
                return Err("no convolution is where the network has one".to_string());
            };
            let layers = draft.links.iter().filter_map(|layer| match plan.layers[*layer].op {
                LayerOp::Op(op) => Some(op),
                _ => None,
            });
            let layers: Vec<&Op> = layers.collect();
            let name = &model.nodes[step.node].name;
            self.compare_step((step, conv, &layers), most.into(), &mut compared)
                .map_err(|what| format!("{name}: {what}"))?;
        }
        Ok(compared)
    }

    fn compare_step(
        &self,
        (step, conv, layers): (&Step, &Conv, &[&Op]),
        most: u64,
        compared: &mut ComparedThresholds,
    ) -> Result<(), String> {
        let (Some(terms), Weight::Codes(weights)) = (conv.integer_terms(), &conv.weight) else {
            return Err("it has no integers".to_string());
        };
        let channels = conv.out_channels;
        let scale = |channel: usize| {
            let group = weights.group_of(channel * (weights.codes.len() / channels));
            terms.0.0[0].scale_of(0) * terms.1.0[0].scale_of(group)
        };
        let scales: Vec<f32> = (0..channels).map(scale).collect();
        let sums: Vec<Sums> = (largest_sums(conv, terms, weights).into_iter().enumerate())
            .map(|(channel, largest)| Sums::new(largest, thresholds_of(step, channel), most))
            .collect();
        let count = sums.iter().map(Sums::count).max().unwrap_or(0);
        for first in (0..count).step_by(POSITIONS) {
            let positions = first..(first + POSITIONS).min(count);
            let of = |channel: usize| positions.clone().map(move |at| (channel, at));
            let number = |(channel, at): (usize, usize)| {
                let product = sums[channel].of(at) as f32 * scales[channel];
                conv.bias.as_ref().map_or(product, |bias| product + bias[channel])
            };
            let numbers = (0..channels).flat_map(of).map(number).collect();
            let value = Value { shape: [channels, 1, positions.len()], numbers };
            let at_position = |at: usize| sums.iter().map(move |sums| sums.of(at));
            let sums: Vec<i32> = positions.clone().flat_map(at_position).collect();
            self.compare_block(step, layers, &value, &sums)?;
        }
        compared.convolutions += 1;
        compared.sums += sums.iter().map(|sums| sums.count() as u64).sum::<u64>();
        let largest = sums.iter().map(|sums| sums.largest).max().unwrap_or(0);
        compared.largest = compared.largest.max(largest);
        Ok(())
    }

    /// Compares what is stored for sums `[positions, channels]` with the codes of the numbers that
    /// they stand for.
    fn compare_block(
        &self,
        step: &Step,
        layers: &[&Op],
        value: &Value,
        sums: &[i32],
    ) -> Result<(), String> {
        let [channels, _, positions] = value.shape;
        let negate = |(sum, negated): (&i32, &bool)| if *negated { -sum } else { *sum };
        let stored: Vec<i32> = sums.iter().zip(step.negated.iter().cycle()).map(negate).collect();
        for sink in &step.sinks {
            let Content::Integers { coder, terms, folded: Some(thresholds), .. } = &sink.content
            else {
                return Err("what follows is partly folded".to_string());
            };
            let codes = codes_after(layers.iter().copied(), coder.quantizer(), value.clone());
            let code_term = codes_themselves(coder);
            for term in terms.iter().filter(|term| !term.is_constant()).chain([&code_term]) {
                let rows = self.by_rows(term, thresholds, &stored, channels);
                let one_pass = (step.takes_one_pass)
                    .then(|| self.in_one_pass(term, thresholds, &stored, channels));
                let words = term.packing().words_of(channels);
                for (index, sum) in sums.iter().enumerate() {
                    let (position, channel) = (index / channels, index % channels);
                    let code = codes[channel * positions + position];
                    let expected = term.of_code(coder, channel, code);
                    for way in [Some(&rows), one_pass.as_ref()].into_iter().flatten() {
                        let found = term.read(&way[position * words..][..words], channel);
                        if found != expected {
                            return Err(format!(
                                "the sum {sum} in output channel {channel} has the code {code}, \
                                 whose number is {expected}, and thresholds give it {found}"
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Stores what sums become as steps do that go row by row.
    fn by_rows(
        &self,
        term: &Integers,
        thresholds: &PerThreshold<i32>,
        sums: &[i32],
        channels: usize,
    ) -> Vec<u32> {
        let positions = sums.len() / channels;
        let words = term.packing().words_of(channels);
        let size = OperandSize { height: 1, width: positions, channels: words, padding: [0, 0] };
        let mut to = vec![0; positions * words];
        let (how, place) = ((term, thresholds), (&size, 0..positions));
        store::integers_of_sums(self.set, how, (sums, channels), channels, place, &mut to);
        to
    }

    /// Stores what sums become as steps do that take one pass.
    fn in_one_pass(
        &self,
        term: &Integers,
        thresholds: &PerThreshold<i32>,
        sums: &[i32],
        channels: usize,
    ) -> Vec<u32> {
        let mut to = vec![0; sums.len() / channels * term.packing().words_of(channels)];
        let ([steps, lowest], thresholds) = (term.steps(), thresholds.table());
        let to_stored = term.stored(&mut to);
        let store = Operation::StoreSums { sums, thresholds, steps, lowest, to: to_stored };
        let size = Size { count: sums.len(), channels, period: chunk(channels) * channels };
        apply(self.set, size, &mut [store]);
        to
    }
}

/// Returns the thresholds of a channel of a folded step, as its sums have them that are not
/// negated.
fn thresholds_of(step: &Step, channel: usize) -> impl Iterator<Item = i32> {
    let thresholds = step.sinks.iter().filter_map(|sink| match &sink.content {
        Content::Integers { folded, .. } => folded.as_ref(),
        Content::Floats { .. } => None,
    });
    let negated = step.negated[channel];
    thresholds
        .flat_map(move |thresholds| thresholds.channel(channel))
        .map(move |sum| if negated { sum.saturating_neg() } else { sum })
}

/// Returns a term whose integers are the codes.
fn codes_themselves(coder: &Coder) -> Integers {
    let codes = 0..coder.quantizer().levels as i16;
    let encoding = Packing::Bytes.encoding(codes.clone()).unwrap_or_default();
    Integers::new(coder, &Term { scales: vec![1.0], integers: codes.collect() }, encoding)
}
