//! TTQ: trained ternary quantization (Zhu et al., "Trained Ternary Quantization", ICLR 2017). It
//! quantizes weights.
//!
//! With D = t·max|w| per group, t = `ternary_threshold` (equations 6 and 9), and the learned scales
//! P = `positive` and N = `negative`, each one value per group:
//!
//! y = P where w > D, -N where w < -D, else 0
//!
//! **Gradients** (equations 7 and 8). ∂P = the sum of g over w > D, and ∂N = minus the sum of g
//! over w < -D, both times the [gradient scale](crate::GradientScale). ∂w = P·g where w > D, N·g
//! where w < -D, else g, which is the derivative of the continuous function with these slopes. D is
//! a constant.
//!
//! **Shapes.** Any shape; `positive` and `negative` are `[groups]`.
//!
//! **Initial values.** The boundary, until both are calibrated to the means of |w| over w > D and
//! over w < -D. These are the scales of least squared error, whatever the choice of calibration.
//!
//! **Where this differs from the paper.** The paper first divides the weights by their largest
//! magnitude. Here the threshold is proportional to that magnitude instead, and w keeps its unit.
//! Equation 7 gives ∂N without the minus sign, as for a parameter -N.
//!
//! **The reference implementation** does not have this method.
//!
//! **Computed by** `Rule::Ternary`, which this file calls: on the CPU in
//! `quantize/arithmetic/ternary.rs` of `quant-kernels`, on GPUs in `quantize/formula.rs` of
//! `quant-cube`.

use burn::{
    module::{Module, Param},
    tensor::{FloatDType, Int, Tensor},
};

use super::{
    BY_LEVELS, Found, MethodFacts, MethodModule, Parameters, Quantize, Setup, host, learned,
};
use crate::{
    calibrate::{Calibration, GroupSamples},
    capability::{Capability, LevelSet},
    codes::{Codes, Decoding, Table},
    config::{QuantizerConfig, Range},
    gradient_scale::ScaleByTensor,
    method::{Method, Role, TtqOptions},
    normalize::Normalizer,
    ops::{Elementwise, Rule, columns, quantize},
    options::field_names,
    parameter::{Parameter, ParameterKind},
    site::Grouping,
    staircase::Staircase,
};

/// The positive value.
pub const POSITIVE: Parameter = Parameter::new("positive", ParameterKind::Scale);
/// The magnitude of the negative value.
pub const NEGATIVE: Parameter = Parameter::new("negative", ParameterKind::Scale);

impl MethodFacts for TtqOptions {
    fn capability(&self, role: Role, _range: Range) -> Option<Capability> {
        (role == Role::Weight).then(|| Capability {
            levels: LevelSet::Between(3, 3),
            options: field_names!(
                QuantizerConfig: gradient_scale, boundary;
                TtqOptions: ternary_threshold
            ),
            learned: &[POSITIVE, NEGATIVE],
            ..Capability::base(role)
        })
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        MethodModule::Ttq(Ttq::new(setup, *self))
    }

    fn fixed_levels(&self, _role: Role) -> Option<&'static str> {
        Some(BY_LEVELS)
    }

    fn alternative(&self) -> Method {
        Method::FATNN
    }
}

/// Trained ternary quantizer: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct Ttq {
    /// The positive value, `[groups]`.
    pub positive: Param<Tensor<1>>,
    /// The magnitude of the negative value, `[groups]`.
    pub negative: Param<Tensor<1>>,
    #[module(skip)]
    threshold: f32,
    #[module(skip)]
    gradient_scale: ScaleByTensor,
    #[module(skip)]
    grouping: Grouping,
    #[module(skip)]
    normalizer: Normalizer,
}

impl Ttq {
    pub(crate) fn new(setup: &Setup<'_>, options: TtqOptions) -> Self {
        Self {
            positive: setup.clipping_value(),
            negative: setup.clipping_value(),
            threshold: options.ternary_threshold as f32,
            gradient_scale: setup.gradient_scale(),
            grouping: setup.grouping,
            normalizer: setup.normalizer(),
        }
    }

    /// Returns D, `[groups]`.
    fn bound<const D: usize>(&self, w: &Tensor<D>) -> Tensor<1> {
        let view = self.grouping.view(&w.shape());
        let magnitude = w.clone().detach().abs().reshape(view);
        magnitude.max_dim(2).max_dim(0).mul_scalar(self.threshold).reshape([view[1]])
    }
}

impl Quantize for Ttq {
    fn forward_as<const D: usize>(&self, w: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let (w, restore) = self.normalizer.apply(w);
        let parameters = columns([self.positive.val(), self.negative.val(), self.bound(&w)]);
        let operation = Elementwise { rule: Rule::Ternary, view: self.grouping.view(&w.shape()) };
        let factor = self.gradient_scale.of(&w.shape());
        let written = restore.written(&w, output, &None);
        restore.apply(quantize(w, parameters, operation, factor, written)).cast(output)
    }

    fn codes<const D: usize>(&self, w: Tensor<D>) -> Codes<D> {
        let shape = w.shape();
        let (w, restore) = self.normalizer.apply(w.detach());
        let bound = self.bound(&w).reshape([1, self.grouping.groups, 1]);
        let w = w.reshape(self.grouping.view(&shape));
        let above = w.clone().greater(bound.clone()).int();
        let codes: Tensor<3, Int> = (above - w.lower(bound.neg()).int()).add_scalar(1);
        let column = |param: &Param<Tensor<1>>| param.val().detach().reshape([-1, 1]);
        let (positive, negative) = (column(&self.positive), column(&self.negative).neg());
        let values = Tensor::cat(vec![negative, positive.zeros_like(), positive], 1);
        let table = Table { values, restore, grouping: self.grouping };
        Codes { codes: codes.reshape(shape), decoding: Decoding::Table(table) }
    }

    fn presented<const D: usize>(&self, w: Tensor<D>) -> Tensor<D> {
        self.normalizer.apply(w).0
    }
}

impl Parameters for Ttq {
    learned!(POSITIVE => positive, NEGATIVE => negative);

    fn staircases(&self, seen: &[GroupSamples]) -> Vec<Staircase> {
        let scales = host(&self.positive).into_iter().zip(host(&self.negative));
        let pairs = scales.zip(seen);
        pairs
            .map(|((positive, negative), seen)| {
                let bound = self.threshold * seen.largest_magnitude();
                Staircase::new(vec![-negative, 0.0, positive], vec![-bound, bound])
            })
            .collect()
    }

    fn calibrated(&self, samples: &GroupSamples, _calibration: Calibration) -> Found {
        let bound = self.threshold * samples.largest_magnitude();
        let mean = |side: f32| {
            let chosen = || samples.kept().map(|x| x * side).filter(|x| *x > bound);
            let count = chosen().count();
            (count > 0).then(|| chosen().sum::<f32>() / count as f32)
        };
        let named = [(POSITIVE, mean(1.0)), (NEGATIVE, mean(-1.0))];
        let found = named.into_iter().filter_map(|(name, value)| Some((name, vec![value?])));
        found.collect()
    }

    fn calibrates(&self) -> bool {
        true
    }
}
