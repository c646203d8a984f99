//! APoT: additive powers of two (Li et al., "Additive Powers-of-Two Quantization: An Efficient
//! Non-uniform Discretization for Neural Networks", ICLR 2020). The levels are dense near 0, where
//! most weights and activations are, and multiplying by a level takes a few shifts and additions.
//!
//! A level of b bits is a sum of terms of two bits each, and of a term of one bit where b is odd
//! (base bit-width k = 2, equation 5). Each term is 0 or one of its powers of two. The powers 1,
//! 1/2, 1/4, .. are distributed over the terms in turn, in three rounds. In the last round the
//! one-bit term comes first, and it takes a power in this round only. For 4 bits the terms are {0,
//! 1, 1/4, 1/16} + {0, 1/2, 1/8, 1/32}. All sums are divided by the largest. Signed levels are the
//! levels of b - 1 bits with both signs, which are 2^b - 1 values.
//!
//! With a = |`clip_val`|, one value per group, and P(v) the level nearest to v (equation 7):
//!
//! y = a·P(clamp(x/a, -1 or 0, 1))
//!
//! **Gradients** (equation 8, the reparameterized clipping function). Let v = x/a. Strictly inside
//! the clamp ∂x = g and ∂a = g·(P(v) - v). At and outside its bounds ∂x = 0, and ∂a = g·sign(x), or
//! 0 below an unsigned range. The sum over a group is multiplied by the [gradient
//! scale](crate::GradientScale) and by the sign of `clip_val` (1 at 0). A v half way between two
//! levels takes the lower level.
//!
//! **Weight normalisation** (equation 9): (w - mean)/std before clipping, which is the default for
//! weights (`var-mean`).
//!
//! **Shapes.** Any shape; `clip_val` is `[groups]`.
//!
//! **Initial value.** The boundary, until calibration sets another.
//!
//! **The reference implementation** does not have this method.
//!
//! **Computed by** `Rule::Table`, which this file calls: on the CPU in
//! `quantize/arithmetic/table.rs` of `quant-kernels`, on GPUs in `quantize/formula.rs` of
//! `quant-cube`.

use burn::{
    module::{Module, Param},
    tensor::{Device, FloatDType, Tensor},
};

use super::{
    Found, MethodFacts, MethodModule, Parameters, Quantize, Setup, host, learned, magnitude,
};
use crate::{
    calibrate::{Calibration, GroupSamples},
    capability::{Capability, LevelSet},
    codes::{Codes, Decoding, Table},
    config::{Levels, Normalization, Range},
    gradient_scale::ScaleByTensor,
    method::Role,
    normalize::Normalizer,
    ops::{Elementwise, Rule, count_below, quantize},
    parameter::Parameter,
    site::Grouping,
    staircase::Staircase,
};

/// What the rest of the crate needs to know about the method: see `MethodFacts`.
pub(crate) struct Facts;

impl MethodFacts for Facts {
    fn capability(&self, role: Role, range: Range) -> Option<Capability> {
        let fewest = if range == Range::Signed { 4 } else { 2 };
        Some(Capability {
            levels: LevelSet::PowersOfTwo(fewest, 256),
            options: &["gradient_scale", "boundary"],
            learned: &[Parameter::UNEVEN_CLIPPING_VALUE],
            ..Capability::base(role)
        })
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        MethodModule::Apot(Apot::new(setup))
    }

    fn output_range(&self, _levels: Levels) -> Range {
        Range::Signed
    }

    fn normalization(&self, role: Role) -> Normalization {
        match role {
            Role::Weight => Normalization::VarMean,
            Role::Activation | Role::Output => Normalization::None,
        }
    }
}

/// Additive powers of two: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct Apot {
    /// The clipping value, `[groups]`.
    pub clip_val: Param<Tensor<1>>,
    /// The staircase for the clipping value 1.
    #[module(skip)]
    unit: Staircase,
    #[module(skip)]
    lowest: f32,
    #[module(skip)]
    gradient_scale: ScaleByTensor,
    #[module(skip)]
    grouping: Grouping,
    #[module(skip)]
    normalizer: Normalizer,
}

/// Returns the sums of the terms of `bits` bits in ascending order, divided by the largest; 0 alone
/// for no bits.
fn sums(bits: u32) -> Vec<f64> {
    let pairs = bits as usize / 2;
    let mut terms = vec![vec![0.0]; pairs];
    let mut single = vec![0.0];
    let mut power = 1.0;
    let mut deal = |term: &mut Vec<f64>| {
        term.push(power);
        power /= 2.0;
    };
    for round in 0..3 {
        if round == 2 && bits % 2 == 1 {
            deal(&mut single);
        }
        terms.iter_mut().for_each(&mut deal);
    }
    terms.push(single);
    let mut sums = terms.iter().fold(vec![0.0], |sums, term| {
        sums.iter().flat_map(|sum| term.iter().map(move |power| sum + power)).collect()
    });
    sums.sort_by(f64::total_cmp);
    let largest = sums.last().copied().filter(|largest| *largest > 0.0).unwrap_or(1.0);
    sums.into_iter().map(|sum| sum / largest).collect()
}

fn levels(bits: u32, range: Range) -> Vec<f32> {
    let to_f32 = |sums: Vec<f64>| -> Vec<f32> { sums.into_iter().map(|x| x as f32).collect() };
    match range {
        Range::Unsigned => to_f32(sums(bits)),
        Range::Signed => {
            let positive = to_f32(sums(bits - 1));
            let negative = positive.iter().skip(1).rev().map(|level| -level);
            negative.chain(positive.iter().copied()).collect()
        }
    }
}

impl Apot {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let config = setup.config;
        Self {
            clip_val: setup.clipping_value(),
            unit: Staircase::midway(levels(config.levels.bits(), config.range)),
            lowest: if config.range == Range::Signed { -1.0 } else { 0.0 },
            gradient_scale: setup.gradient_scale(),
            grouping: setup.grouping,
            normalizer: setup.normalizer(),
        }
    }

    fn scale(&self) -> Tensor<1> {
        magnitude(self.clip_val.val())
    }

    /// Returns thresholds or values of the unit staircase as a row.
    fn row(values: &[f32], device: &Device) -> Tensor<2> {
        Tensor::<1>::from_floats(values, device).reshape([1, values.len()])
    }

    /// Returns the index of the level of each v, as a float.
    fn indices<const D: usize>(&self, v: Tensor<D>) -> Tensor<D> {
        let shape = v.shape();
        let thresholds = Self::row(self.unit.thresholds(), &v.device());
        let whole = [1, 1, shape.num_elements()];
        count_below(v.reshape(whole), thresholds).reshape(shape)
    }
}

impl Quantize for Apot {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let (x, restore) = self.normalizer.apply(x);
        let (groups, scale) = (self.grouping.groups, self.scale().reshape([-1, 1]));
        let device = scale.device();
        let row = |values: &[f32]| Self::row(values, &device).expand([groups as i64, -1]);
        let (thresholds, values) = (self.unit.thresholds(), self.unit.values());
        let unit = [&[self.lowest, 1.0], thresholds, values].concat();
        let rule = Rule::Table { thresholds: thresholds.len() };
        let operation = Elementwise { rule, view: self.grouping.view(&x.shape()) };
        let parameters = Tensor::cat(vec![scale, row(&unit)], 1);
        let factor = self.gradient_scale.of(&x.shape());
        let written = restore.written(&x, output, &None);
        restore.apply(quantize(x, parameters, operation, factor, written)).cast(output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let (x, restore) = self.normalizer.apply(x.detach());
        let scale = self.scale().detach();
        let codes = self.indices(per_group_quotient(x, &scale, self.grouping)).int();
        let values = Self::row(self.unit.values(), &codes.device()) * scale.reshape([-1, 1]);
        let table = Table { values, restore, grouping: self.grouping };
        Codes { codes, decoding: Decoding::Table(table) }
    }

    fn presented<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.normalizer.apply(x).0
    }
}

fn per_group_quotient<const D: usize>(
    x: Tensor<D>,
    scale: &Tensor<1>,
    grouping: Grouping,
) -> Tensor<D> {
    let shape = x.shape();
    let view = grouping.view(&shape);
    (x.reshape(view) / scale.clone().reshape([1, view[1], 1])).reshape(shape)
}

impl Parameters for Apot {
    learned!(Parameter::UNEVEN_CLIPPING_VALUE => clip_val);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        host(&self.clip_val).into_iter().map(|clip| self.unit.scaled(clip.abs())).collect()
    }

    fn calibrated(&self, samples: &GroupSamples, calibration: Calibration) -> Found {
        let steps = self.unit.values().iter().filter(|level| **level > 0.0).count() as f32;
        let clip = samples.clipping_value(calibration, &self.unit, steps);
        clip.map(|clip| (Parameter::UNEVEN_CLIPPING_VALUE, vec![clip])).into_iter().collect()
    }

    fn calibrates(&self) -> bool {
        true
    }

    fn clipping(&self) -> Option<(Parameter, f32)> {
        Some((Parameter::UNEVEN_CLIPPING_VALUE, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bits_are_a_quarter_a_half_and_one() {
        assert_eq!(levels(2, Range::Unsigned), [0.0, 0.25, 0.5, 1.0]);
    }

    #[test]
    fn an_odd_bit_is_a_term_of_its_own() {
        // The sums of {0, 1, 1/2, 1/8} + {0, 1/4}, divided by the largest, 5/4.
        let eighths = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];
        assert_eq!(levels(3, Range::Unsigned), eighths.map(|eighth| (eighth / 10.0) as f32));
    }

    #[test]
    fn four_bits_are_the_papers_sums() {
        let (a, b) = ([0.0, 32.0, 8.0, 2.0], [0.0, 16.0, 4.0, 1.0]);
        let mut sums: Vec<f64> = a.iter().flat_map(|a| b.map(|b| (a + b) / 48.0)).collect();
        sums.sort_by(f64::total_cmp);
        let sums: Vec<f32> = sums.into_iter().map(|x| x as f32).collect();
        assert_eq!(levels(4, Range::Unsigned), sums);
    }

    #[test]
    fn all_sums_differ() {
        for bits in 1..=8 {
            let levels = levels(bits, Range::Unsigned);
            assert_eq!(levels.len(), 1 << bits);
            assert!(levels.windows(2).all(|pair| pair[0] < pair[1]), "{bits} bits: {levels:?}");
        }
    }

    #[test]
    fn signed_levels_are_symmetric() {
        assert_eq!(levels(2, Range::Signed), [-1.0, 0.0, 1.0]);
        assert_eq!(levels(3, Range::Signed), [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]);
    }
}
