//! PACT: parameterized clipping activation (Choi et al., "PACT: Parameterized Clipping Activation
//! for Quantized Neural Networks", 2018). It quantizes activations and outputs; PACT quantizes
//! weights as DoReFa does.
//!
//! With the learned clipping value c = `clip_val` (equations 1 and 2):
//!
//! y = R(min(max(x, 0), c)·n/c)·c/n
//!
//! **Gradients** (equation 3). ∂x = g where 0 < x < c, else 0. ∂c = the sum of g over x >= c,
//! whatever c is, because c is a constant inside the rounding. The sum is multiplied by the
//! [gradient scale](crate::GradientScale).
//!
//! Where c is 0 or below, the smallest normal number takes its place in the formula, so that the
//! values are zero to any precision that matters. The gradient of c leads it back above 0.
//!
//! **Shapes.** Any shape; `clip_val` is `[1]`. The range is unsigned and the granularity is per
//! tensor.
//!
//! **Initial value.** c = boundary (1). The paper suggests a large one, such as 10, with L2 decay
//! on c.
//!
//! **Where the reference differs from the paper.** There is no difference.
//!
//! **Computed by** `ops/clip.rs`, as `Rule::Clip` with `learned_bound`: on the CPU in
//! `quantize/arithmetic/clip.rs` of `quant-kernels`, on GPUs in `quantize/formula.rs` of
//! `quant-cube`.

use burn::{
    module::{Module, Param},
    tensor::{FloatDType, Tensor},
};

use super::{
    MethodFacts, MethodModule, Parameters, Quantize, Setup, calibrated_by, host, keeps_zeros,
    learned,
};
use crate::{
    calibrate::GroupSamples,
    capability::Capability,
    codes::{Codes, Decoding},
    config::{QuantizerConfig, Range},
    gradient::Estimator,
    method::{Method, Role},
    ops::ClipQuantize,
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
            groups: false,
            estimators: &[Estimator::Clipped, Estimator::Ewgs],
            options: &["gradient_scale", "boundary"],
            learned: &[Parameter::CLIPPING_VALUE],
            ..Capability::base(role)
        })
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        MethodModule::Pact(Pact::new(setup))
    }

    fn zero(&self, config: &QuantizerConfig) -> Option<f32> {
        keeps_zeros(config).then_some(0.0)
    }

    fn alternative(&self) -> Method {
        Method::Dorefa
    }
}

/// Parameterized clipping activation: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct Pact {
    /// The clipping value, `[1]`.
    pub clip_val: Param<Tensor<1>>,
    #[module(skip)]
    operation: ClipQuantize,
    #[module(skip)]
    grouping: Grouping,
}

impl Pact {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        Self {
            clip_val: setup.clipping_value(),
            operation: ClipQuantize {
                learned_bound: true,
                ..ClipQuantize::new(setup.config, setup.gradient_scale())
            },
            grouping: setup.grouping,
        }
    }
}

impl Quantize for Pact {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let view = self.grouping.view(&x.shape());
        self.operation.forward(x, self.clip_val.val(), view, output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let clip = self.clip_val.val().clamp_min(f32::MIN_POSITIVE);
        Codes {
            codes: self.operation.codes(x, clip.clone(), self.grouping).int(),
            decoding: Decoding::Affine(self.operation.decoding(clip, self.grouping)),
        }
    }
}

impl Parameters for Pact {
    learned!(Parameter::CLIPPING_VALUE => clip_val);

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let unit = self.operation.unit();
        host(&self.clip_val)
            .into_iter()
            .map(|clip| unit.scaled(clip.max(f32::MIN_POSITIVE)))
            .collect()
    }

    calibrated_by!(operation);

    fn clipping(&self) -> Option<(Parameter, f32)> {
        Some((Parameter::CLIPPING_VALUE, 1.0))
    }
}
