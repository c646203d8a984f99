//! LSQ+ (Bhalgat et al., "LSQ+: Improving low-bit quantization through learnable offsets and better
//! initialization", CVPR Workshops 2020): LSQ with a learned offset, for activations with negative
//! values (Swish, PReLU, the inputs of pre-activation blocks). It quantizes activations and
//! outputs; LSQ+ quantizes weights as LSQ does ([`super::lsq_step`]).
//!
//! With s = |`step_size`| and b = `offset`, each one value per group (equations 3 and 4):
//!
//! y = R(clamp((x - b)/s, 0, n))·s + b
//!
//! **Gradients** (equations 5 and 6). Let v = (x - b)/s. Strictly inside the clamp ∂x = g, ∂s =
//! g·(R(v) - v), ∂b = 0. At and outside its bounds ∂x = 0, ∂b = g, and ∂s = 0 (lower bound) or g·n
//! (upper bound). The sums over a group are multiplied by the [gradient
//! scale](crate::GradientScale), and ∂s also by the sign of `step_size` (1 at 0). `ewgs` scales the
//! gradient of the rounding element by element.
//!
//! **Shapes.** Any shape; `step_size` and `offset` are `[groups]`.
//!
//! **Initial values.** s = boundary/n and b = 0 until they are calibrated. As in the paper,
//! `squared-error` finds the lowest and the highest level with the least squared error. `min-max`
//! takes the extremes, `percentile` p takes the (100 - p)th and the pth percentile, and
//! `mean-magnitude` takes LSQ's step above the minimum.
//!
//! **Computed by** `Rule::Step`, which `lsq_step.rs` calls for this method too: on the CPU in
//! `quantize/arithmetic/step.rs` of `quant-kernels`, on GPUs in `quantize/formula.rs` of
//! `quant-cube`.

use burn::{
    module::{Module, Param},
    tensor::{FloatDType, Tensor},
};

use super::{
    Found, MethodFacts, MethodModule, Parameters, Quantize, Setup, host, learned,
    lsq_step::StepGrid,
};
use crate::{
    calibrate::{Calibration, GroupSamples},
    capability::Capability,
    codes::{Affine, Codes, Decoding},
    config::Range,
    gradient::{Estimator, GradientScaleRule},
    method::Role,
    parameter::Parameter,
    site::Grouping,
    staircase::Staircase,
};

/// What the rest of the crate needs to know about the method: see `MethodFacts`.
pub(crate) struct Facts;

impl MethodFacts for Facts {
    fn capability(&self, role: Role, range: Range) -> Option<Capability> {
        if role == Role::Weight || range == Range::Signed {
            return None;
        }
        Some(Capability {
            estimators: &[Estimator::Clipped, Estimator::Ewgs],
            options: &["gradient_scale", "boundary"],
            learned: &[Parameter::STEP_SIZE, Parameter::OFFSET],
            ..Capability::base(role)
        })
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        MethodModule::LsqPlus(LsqPlus::new(setup))
    }

    fn gradient_scale(&self) -> GradientScaleRule {
        GradientScaleRule::Lsq
    }
}

/// Quantizer with a learned step size and offset: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct LsqPlus {
    /// The step size, `[groups]`.
    pub step_size: Param<Tensor<1>>,
    /// The value of the lowest level, `[groups]`.
    pub offset: Param<Tensor<1>>,
    #[module(skip)]
    grid: StepGrid,
    #[module(skip)]
    grouping: Grouping,
}

impl LsqPlus {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let grid = StepGrid::new(setup);
        let step = setup.config.boundary / f64::from(grid.positive);
        Self {
            step_size: setup.parameter(step),
            offset: setup.parameter(0.0),
            grid,
            grouping: setup.grouping,
        }
    }

    /// Returns s and b.
    fn scales(&self) -> [Tensor<1>; 2] {
        [self.grid.step(&self.step_size), self.offset.val()]
    }

    /// Returns 0 and n.
    fn range(&self) -> [f32; 2] {
        [0.0, self.grid.positive]
    }
}

impl Quantize for LsqPlus {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        self.grid.quantize(x, self.scales(), self.range(), self.grouping, output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let [step, offset] = self.scales().map(Tensor::detach);
        let parameters = [step.clone(), offset.clone()];
        let codes = StepGrid::integers(x.detach(), parameters, self.range(), self.grouping).int();
        let decoding = Affine { shift: Some(offset), ..self.grid.decoding(step, self.grouping) };
        Codes { codes, decoding: Decoding::Affine(decoding) }
    }
}

impl Parameters for LsqPlus {
    learned!(Parameter::STEP_SIZE => step_size, Parameter::OFFSET => offset);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let pairs = host(&self.step_size).into_iter().zip(host(&self.offset));
        pairs.map(|(step, offset)| Staircase::even(offset, step.abs(), self.grid.count())).collect()
    }

    fn calibrated(&self, samples: &GroupSamples, calibration: Calibration) -> Found {
        let n = self.grid.positive;
        let stairs =
            |(low, high): (f32, f32)| Staircase::even(low, (high - low) / n, self.grid.count());
        let (lowest, highest) = (samples.lowest, samples.highest);
        let (low, high) = match calibration {
            Calibration::MinMax => (lowest, highest),
            Calibration::Percentile(p) => {
                (samples.quantile(100.0 - p.get()), samples.quantile(p.get()))
            }
            Calibration::MeanMagnitude => {
                let step = 2.0 * samples.mean_magnitude() / n.sqrt();
                (lowest, lowest + step * n)
            }
            Calibration::SquaredError => {
                let part = |index: usize| (highest - lowest) * index as f32 / 40.0;
                let candidates = (0..20).flat_map(|low| (0..20).map(move |high| (low, high)));
                let candidates = candidates.map(|(l, h)| (lowest + part(l), highest - part(h)));
                let best = candidates
                    .map(|ends| (ends, samples.error(&stairs(ends))))
                    .min_by(|a, b| a.1.total_cmp(&b.1));
                best.map_or((lowest, highest), |(ends, _)| ends)
            }
        };
        // Where all elements are equal there is no range that a step could divide.
        let step = (high - low) / n;
        if step > 0.0 && step.is_finite() {
            vec![(Parameter::STEP_SIZE, vec![step]), (Parameter::OFFSET, vec![low])]
        } else {
            Vec::new()
        }
    }

    fn calibrates(&self) -> bool {
        true
    }

    fn clipping(&self) -> Option<(Parameter, f32)> {
        Some((Parameter::STEP_SIZE, self.grid.positive))
    }
}
