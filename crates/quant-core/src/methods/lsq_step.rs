//! LSQ as in its paper (Esser et al., "Learned Step Size Quantization", ICLR 2020), which learns
//! the step size.
//!
//! With s = |`step_size`|, one value per group (equations 1 and 2):
//!
//! y = R(clamp(x/s, -Qn, Qp))·s
//!
//! Unsigned: Qn = 0, Qp = n. Signed: Qp = floor(n/2), Qn = n - Qp, so that of 2^b levels 2^(b-1)
//! lie below 0 and 2^(b-1) - 1 above.
//!
//! **Gradients** (equations 3 and 5). Let v = x/s and let g be the incoming gradient. Strictly
//! inside the clamp ∂x = g and ∂s = g·(R(v) - v). At and outside its bounds ∂x = 0, and ∂s = -g·Qn
//! or g·Qp. The sum over a group is multiplied by the [gradient scale](crate::GradientScale), by
//! default the paper's 1/sqrt(N·Qp), and by the sign of `step_size` (1 at 0). `ewgs` scales the
//! gradient of the rounding element by element.
//!
//! **Shapes.** Any shape; `step_size` is `[groups]`.
//!
//! **Initial value.** boundary/Qp until it is calibrated, with the paper's 2·mean|x|/sqrt(Qp)
//! (`mean-magnitude`) or with the least squared error.
//!
//! **The clipping-value form** ([`super::lsq`]) with the clipping value s·Qp is the same function
//! if the range is unsigned, or if the number of levels is odd. If the range is signed and the
//! number of levels is even, its levels lie half a step beside those of this form.
//!
//! **Where the reference differs from the paper.** It has the clipping-value form only.
//!
//! **Computed by** `Rule::Step`, which this file calls: on the CPU in `quantize/arithmetic/step.rs`
//! of `quant-kernels`, on GPUs in `quantize/formula.rs` of `quant-cube`.

use burn::{
    module::{Module, Param},
    tensor::{FloatDType, Tensor},
};

use super::{
    Found, MethodFacts, MethodModule, Parameters, Quantize, Setup, host, learned, magnitude,
};
use crate::{
    calibrate::{Calibration, GroupSamples},
    capability::{Capability, LevelSet},
    codes::{Affine, Codes, Decoding},
    config::{Levels, Range},
    gradient::{Estimator, GradientScaleRule},
    gradient_scale::{ScaleByTensor, positive_steps},
    method::Role,
    normalize::{Normalizer, Restore},
    ops::{Elementwise, Rule, columns, quantize},
    parameter::Parameter,
    site::Grouping,
    staircase::Staircase,
};

/// What the rest of the crate needs to know about the method: see `MethodFacts`.
pub(crate) struct Facts;

impl MethodFacts for Facts {
    fn capability(&self, role: Role, range: Range) -> Option<Capability> {
        let fewest = if range == Range::Signed { 3 } else { 2 };
        Some(Capability {
            levels: LevelSet::Between(fewest, 256),
            estimators: &[Estimator::Clipped, Estimator::Ewgs],
            options: &["gradient_scale", "boundary"],
            learned: &[Parameter::STEP_SIZE],
            ..Capability::base(role)
        })
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        MethodModule::LsqStep(LsqStep::new(setup))
    }

    fn output_range(&self, _levels: Levels) -> Range {
        Range::Signed
    }

    fn gradient_scale(&self) -> GradientScaleRule {
        GradientScaleRule::Lsq
    }
}

/// Quantizer with a learned step size: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct LsqStep {
    /// The step size, `[groups]`.
    pub step_size: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) grid: StepGrid,
    #[module(skip)]
    grouping: Grouping,
    #[module(skip)]
    normalizer: Normalizer,
}

/// The integers from -Qn to Qp, and how rounding to them passes gradients.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepGrid {
    pub(super) negative: f32,
    pub(super) positive: f32,
    pub(super) gradient_scale: ScaleByTensor,
    ewgs: f32,
}

impl StepGrid {
    pub(super) fn new(setup: &Setup<'_>) -> Self {
        let config = setup.config;
        let n = config.levels.steps();
        let positive = positive_steps(n, config.range);
        Self {
            negative: if config.range == Range::Signed { n - positive } else { 0.0 },
            positive,
            gradient_scale: setup.step_gradient_scale(),
            ewgs: match config.estimator {
                Estimator::Ewgs => config.ewgs_factor as f32,
                _ => 0.0,
            },
        }
    }

    /// Returns s.
    pub(super) fn step(&self, step_size: &Param<Tensor<1>>) -> Tensor<1> {
        magnitude(step_size.val())
    }

    /// Returns R(clamp((x - b)/s, lowest, highest))·s + b in the type `output`, differentiable in
    /// x, s and b.
    pub(super) fn quantize<const D: usize>(
        &self,
        x: Tensor<D>,
        [step, offset]: [Tensor<1>; 2],
        [lowest, highest]: [f32; 2],
        grouping: Grouping,
        output: FloatDType,
    ) -> Tensor<D> {
        let rule = Rule::Step { lowest, highest, ewgs: self.ewgs };
        let operation = Elementwise { rule, view: grouping.view(&x.shape()) };
        let factor = self.gradient_scale.of(&x.shape());
        quantize(x, columns([step, offset]), operation, factor, output)
    }

    /// Returns R(clamp((x - b)/s, lowest, highest)).
    pub(super) fn integers<const D: usize>(
        x: Tensor<D>,
        [step, offset]: [Tensor<1>; 2],
        [lowest, highest]: [f32; 2],
        grouping: Grouping,
    ) -> Tensor<D> {
        let shape = x.shape();
        let view = grouping.view(&shape);
        let per_group = |value: Tensor<1>| value.reshape([1, view[1], 1]);
        let v = (x.reshape(view) - per_group(offset)) / per_group(step);
        v.clamp(lowest, highest).round().reshape(shape)
    }

    /// Returns -Qn and Qp.
    fn range(&self) -> [f32; 2] {
        [-self.negative, self.positive]
    }

    pub(super) fn count(&self) -> usize {
        (self.negative + self.positive) as usize + 1
    }

    pub(super) fn decoding(&self, step: Tensor<1>, grouping: Grouping) -> Affine {
        Affine {
            steps: 1.0,
            multiplier: 1.0,
            offset: -self.negative,
            scale: step,
            shift: None,
            gamma: None,
            grouping,
            restore: Restore::None,
        }
    }
}

impl LsqStep {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let grid = StepGrid::new(setup);
        let initial = setup.config.boundary / f64::from(grid.positive);
        Self {
            step_size: setup.parameter(initial),
            grid,
            grouping: setup.grouping,
            normalizer: setup.normalizer(),
        }
    }
}

impl Quantize for LsqStep {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let (x, restore) = self.normalizer.apply(x);
        let step = self.grid.step(&self.step_size);
        let offset = step.zeros_like();
        let written = restore.written(&x, output, &None);
        let parameters = [step, offset];
        let y = self.grid.quantize(x, parameters, self.grid.range(), self.grouping, written);
        restore.apply(y).cast(output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let (x, restore) = self.normalizer.apply(x.detach());
        let step = self.grid.step(&self.step_size).detach();
        let parameters = [step.clone(), step.zeros_like()];
        let integers = StepGrid::integers(x, parameters, self.grid.range(), self.grouping);
        let decoding = Affine { restore, ..self.grid.decoding(step, self.grouping) };
        let codes = integers.add_scalar(self.grid.negative).int();
        Codes { codes, decoding: Decoding::Affine(decoding) }
    }

    fn presented<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.normalizer.apply(x).0
    }
}

impl Parameters for LsqStep {
    learned!(Parameter::STEP_SIZE => step_size);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let unit = Staircase::even(-self.grid.negative, 1.0, self.grid.count());
        host(&self.step_size).into_iter().map(|step| unit.scaled(step.abs())).collect()
    }

    fn calibrated(&self, samples: &GroupSamples, calibration: Calibration) -> Found {
        let unit = Staircase::even(-self.grid.negative, 1.0, self.grid.count());
        let unit = unit.scaled(1.0 / self.grid.positive);
        let clip = samples.clipping_value(calibration, &unit, self.grid.positive);
        clip.map(|clip| (Parameter::STEP_SIZE, vec![clip / self.grid.positive]))
            .into_iter()
            .collect()
    }

    fn calibrates(&self) -> bool {
        true
    }

    fn clipping(&self) -> Option<(Parameter, f32)> {
        Some((Parameter::STEP_SIZE, self.grid.positive))
    }
}
