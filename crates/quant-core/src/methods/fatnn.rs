//! FATNN's non-uniform quantizers (Chen et al., "FATNN: Fast and Accurate Ternary Neural Networks",
//! ICCV 2021), which have learned thresholds and integer values.
//!
//! With α_i = |`alpha_i`|, each one value per group, and o_0 = 0, o_i = o_(i-1) + 1/α_(i-1):
//!
//! - unsigned, 2 to 4 levels: y = sum of R(clamp((x - o_i)·α_i, 0, 1)) over i. The values are the
//!   integers 0..levels - 1, and the thresholds lie at o_i + 1/(2α_i).
//! - ternary (signed activations and weights): y = R(clamp(x·α_0, -1, 0)) + R(clamp(x·α_1, 0, 1))
//!
//! In the closed form (for one group) y is multiplied by a factor, the basis. In training this is
//! the least squares factor Σxy/Σy² of the same call (the mean of x where y is all zero), and in
//! evaluation it is the last factor of training.
//!
//! **Gradients.** R passes gradients, and each clamp passes them strictly inside its range. An
//! element therefore has ∂x = g·α_i in its piece i. It also contributes to the gradient of every α
//! that its piece depends on, through its position in the piece and through the offset of the
//! piece. The sums are multiplied by the [gradient scale](crate::GradientScale) and the sign of
//! `alpha_i` (1 at 0). The basis is a constant.
//!
//! **Shapes.** Any shape; `alpha_0`.. are `[groups]`.
//!
//! **Initial values.** α = `initial_slope`/boundary for activations and `initial_slope` (0.5) for
//! weights; the basis is 1.
//!
//! **Where the reference differs from the paper.** It calls the slopes `alpha0`, `alpha1`,
//! `alpha2`, and it keeps a clipping value beside them that it never uses
//! ([`crate::qtool::Compatibility`]).
//!
//! **Computed by** `Rule::Slopes`, which this file calls: on the CPU in
//! `quantize/arithmetic/slopes.rs` of `quant-kernels`, on GPUs in `quantize/formula.rs` of
//! `quant-cube`. The basis is computed by tensor operations of this file.

use burn::{
    module::{Module, Param, RunningState},
    tensor::{Device, FloatDType, Tensor},
};

use super::{
    BY_LEVELS, MethodFacts, MethodModule, Parameters, Quantize, Setup, host, learned, magnitude,
};
use crate::{
    calibrate::GroupSamples,
    capability::{Capability, LevelSet},
    codes::{Affine, Codes, Decoding},
    config::{Levels, QuantizerConfig, Range},
    gradient_scale::ScaleByTensor,
    host::values,
    method::{FatnnOptions, Role},
    normalize::{Normalizer, Restore},
    ops::{Elementwise, Rule, quantize},
    options::field_names,
    parameter::{BASIS, Parameter, ParameterKind},
    site::Grouping,
    staircase::Staircase,
};

/// The slopes of the pieces.
pub const SLOPES: [Parameter; 3] = [
    Parameter::new("alpha0", ParameterKind::Scale),
    Parameter::new("alpha1", ParameterKind::Scale),
    Parameter::new("alpha2", ParameterKind::Scale),
];

impl MethodFacts for FatnnOptions {
    fn capability(&self, role: Role, range: Range) -> Option<Capability> {
        Some(Capability {
            levels: match range {
                Range::Signed => LevelSet::Between(3, 3),
                Range::Unsigned => LevelSet::Between(2, 4),
            },
            options: match role {
                Role::Weight => field_names!(
                    QuantizerConfig: gradient_scale;
                    FatnnOptions: initial_slope, closed_form
                ),
                Role::Activation | Role::Output => field_names!(
                    QuantizerConfig: gradient_scale;
                    FatnnOptions: initial_slope;
                    QuantizerConfig: boundary;
                    FatnnOptions: closed_form
                ),
            },
            learned: match range {
                Range::Signed => &SLOPES[..2],
                Range::Unsigned => &SLOPES,
            },
            ..Capability::base(role)
        })
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        MethodModule::Fatnn(Fatnn::new(setup, *self))
    }

    fn output_range(&self, levels: Levels) -> Range {
        if levels == Levels::TERNARY { Range::Signed } else { Range::Unsigned }
    }

    fn fixed_levels(&self, _role: Role) -> Option<&'static str> {
        Some(BY_LEVELS)
    }

    fn is_grouped(&self, _config: &QuantizerConfig) -> bool {
        !self.closed_form
    }

    fn zero(&self, _config: &QuantizerConfig) -> Option<f32> {
        (!self.closed_form).then_some(0.0)
    }
}

/// Learned thresholds with integer values: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct Fatnn {
    /// The slope of the first piece, `[groups]`.
    pub alpha0: Param<Tensor<1>>,
    /// The slope of the second piece, `[groups]`.
    pub alpha1: Option<Param<Tensor<1>>>,
    /// The slope of the third piece, `[groups]`.
    pub alpha2: Option<Param<Tensor<1>>>,
    /// The unused clipping value of the reference implementation, `[groups]`.
    pub clip_val: Option<RunningState<Tensor<1>>>,
    /// The factor of the closed form, `[1]`.
    pub basis: Option<RunningState<Tensor<1>>>,
    #[module(skip)]
    signed: bool,
    #[module(skip)]
    gradient_scale: ScaleByTensor,
    #[module(skip)]
    normalizer: Normalizer,
    #[module(skip)]
    grouping: Grouping,
}

impl Fatnn {
    pub(crate) fn new(setup: &Setup<'_>, options: FatnnOptions) -> Self {
        let config = setup.config;
        let initial = match config.role {
            Role::Weight => options.initial_slope,
            Role::Activation | Role::Output => options.initial_slope / config.boundary,
        };
        let alpha = || setup.parameter(initial);
        let pieces = config.levels.count() - 1;
        let basis = || RunningState::new(Tensor::<1>::ones([1], setup.device));
        Self {
            alpha0: alpha(),
            alpha1: (pieces > 1).then(alpha),
            alpha2: (pieces > 2).then(alpha),
            clip_val: config
                .qtool
                .unused_clipping_value
                .then(|| RunningState::new(setup.per_group(config.boundary))),
            basis: options.closed_form.then(basis),
            signed: config.range == Range::Signed,
            gradient_scale: setup.gradient_scale(),
            normalizer: setup.normalizer(),
            grouping: setup.grouping,
        }
    }

    /// Returns the integer value of every element in the type `output`, differentiable.
    fn integers<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let slope = |alpha: &Param<Tensor<1>>| magnitude(alpha.val());
        let slopes = [Some(&self.alpha0), self.alpha1.as_ref(), self.alpha2.as_ref()];
        let slopes: Vec<Tensor<1>> = slopes.into_iter().flatten().map(slope).collect();
        let rule = Rule::Slopes { pieces: slopes.len(), signed: self.signed };
        let operation = Elementwise { rule, view: self.grouping.view(&x.shape()) };
        let factor = self.gradient_scale.of(&x.shape());
        quantize(x, Tensor::stack(slopes, 1), operation, factor, output)
    }

    fn affine(&self, device: &Device) -> Affine {
        let offset = if self.signed { -1.0 } else { 0.0 };
        let scale = match &self.basis {
            Some(basis) => basis.value_sync().to_device(device),
            None => Tensor::ones([1], device),
        };
        let grouping = self.grouping;
        Affine {
            steps: 1.0,
            multiplier: 1.0,
            offset,
            scale,
            shift: None,
            gamma: None,
            grouping,
            restore: Restore::None,
        }
    }
}

impl Quantize for Fatnn {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let (x, restore) = self.normalizer.apply(x);
        if self.basis.is_none() {
            let written = restore.written(&x, output, &None);
            return restore.apply(self.integers(x, written)).cast(output);
        }
        let dtype = x.dtype().into();
        let y = self.integers(x, dtype);
        let scale = self.affine(&y.device()).scale;
        restore.apply(y * scale.reshape([1; D])).cast(output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let (x, restore) = self.normalizer.apply(x.detach());
        let decoding = Affine { restore, ..self.affine(&x.device()) };
        let dtype = x.dtype().into();
        let codes = self.integers(x, dtype).sub_scalar(decoding.offset).int();
        Codes { codes, decoding: Decoding::Affine(decoding) }
    }

    fn presented<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.normalizer.apply(x).0
    }

    fn prepare_training<const D: usize>(&self, x: &Tensor<D>) {
        if let Some(basis) = &self.basis {
            let (x, _) = self.normalizer.apply(x.clone().detach());
            let y = self.integers(x.clone(), x.dtype().into()).detach();
            let squares = (y.clone() * y.clone()).sum();
            let none = squares.clone().equal_elem(0.0);
            let factor = (x.clone() * y).sum() / squares;
            let device = x.device();
            let factor = factor.mask_where(none, x.mean()).detach();
            // A factor that is not finite is replaced by the previous one.
            let lost = factor.clone().is_finite().bool_not();
            basis.update(factor.mask_where(lost, basis.value_sync().to_device(&device)));
        }
    }
}

impl Parameters for Fatnn {
    learned!(SLOPES[0] => alpha0, SLOPES[1] => alpha1, SLOPES[2] => alpha2);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let alphas = [Some(&self.alpha0), self.alpha1.as_ref(), self.alpha2.as_ref()];
        let slopes: Vec<Vec<f32>> = alphas.into_iter().flatten().map(host).collect();
        let scale = self.basis.as_ref().map_or(1.0, |basis| values(basis.value_sync())[0]);
        (0..self.grouping.groups)
            .map(|group| {
                let widths: Vec<f32> = slopes.iter().map(|s| s[group].abs().recip()).collect();
                let thresholds: Vec<f32> = if self.signed {
                    vec![-widths[0] / 2.0, widths[widths.len() - 1] / 2.0]
                } else {
                    (0..widths.len())
                        .map(|piece| widths[..piece].iter().sum::<f32>() + widths[piece] / 2.0)
                        .collect()
                };
                let first = if self.signed { -1.0 } else { 0.0 };
                let levels = (0..=thresholds.len()).map(|code| (first + code as f32) * scale);
                Staircase::new(levels.collect(), thresholds)
            })
            .collect()
    }

    fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        self.basis.iter().map(|basis| (BASIS, basis.value_sync())).collect()
    }

    fn set_running(&self, name: &str, values: &[f32]) -> bool {
        match &self.basis {
            Some(basis) if name == BASIS && values.len() == 1 => {
                let device = basis.value_sync().device();
                basis.update(Tensor::from_floats(values, &device));
                true
            }
            _ => false,
        }
    }
}
