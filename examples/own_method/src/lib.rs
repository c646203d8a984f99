//! A quantization method that quant-core does not have: LSQ whose step size is a power of two, so that
//! integer hardware rescales by shifting bits.
//!
//! With the learned step size s and P(s) = 2^R(log2 |s|), the power of two that is nearest to it on a
//! logarithmic scale:
//!
//! y = R(clamp(x/P(s), -Qn, Qp))·P(s)
//!
//! **Gradients.** R has the derivative 1, also in the exponent, so that P'(s) = P(s)/s. With
//! v = x/P(s), inside the clamp ∂x = g and ∂s = g·(R(v) - v)·P(s)/s, and outside ∂x = 0 and
//! ∂s = g·R(v)·P(s)/s.

use burn::tensor::Tensor;
use quant_core::{
    Capability, LevelSet, Method, OwnMethod, Parameter, QuantizerConfig, QuantizerError, Range,
    Role, Staircase, register,
};

/// LSQ with steps that are powers of two: see the [crate](self).
#[derive(Debug)]
pub struct PowerOfTwo;

/// Makes `method = "power-of-two"` known to recipes.
///
/// # Errors
/// Those of [`quant_core::register`], at a second call.
pub fn register_power_of_two() -> Result<Method, QuantizerError> {
    register(PowerOfTwo)
}

/// -Qn and Qp.
fn ends(config: &QuantizerConfig) -> (f32, f32) {
    let n = config.levels.steps();
    match config.range {
        Range::Unsigned => (0.0, n),
        Range::Signed => ((n / 2.0).floor() - n, (n / 2.0).floor()),
    }
}

/// `value`, to the bit, with the derivative of `like`.
fn straight_through(value: Tensor<3>, like: Tensor<3>) -> Tensor<3> {
    value.detach() + (like.clone() - like.detach())
}

/// P(s), with the derivative P(s)/s.
fn power_of_two(s: Tensor<3>) -> Tensor<3> {
    let s = s.abs();
    let exponent = s.clone().detach().log().div_scalar(std::f32::consts::LN_2).round();
    let power = exponent.ones_like().mul_scalar(2.0).powf(exponent);
    let slope = power.clone() / s.clone().detach();
    straight_through(power, s * slope)
}

impl OwnMethod for PowerOfTwo {
    fn name(&self) -> &'static str {
        "power-of-two"
    }

    fn capability(&self, role: Role, range: Range) -> Option<Capability> {
        let fewest = if range == Range::Signed { 3 } else { 2 };
        Some(Capability {
            levels: LevelSet::Between(fewest, 256),
            options: &["gradient_scale", "boundary"],
            learned: &[Parameter::STEP_SIZE],
            ..Capability::base(role)
        })
    }

    fn forward(
        &self,
        x: Tensor<3>,
        parameters: &[Tensor<3>],
        config: &QuantizerConfig,
    ) -> Tensor<3> {
        let (lowest, highest) = ends(config);
        let step = power_of_two(parameters[0].clone());
        let v = (x / step.clone()).clamp(lowest, highest);
        straight_through(v.clone().round(), v) * step
    }

    fn staircase(&self, parameters: &[f32], config: &QuantizerConfig) -> Staircase {
        let (lowest, highest) = ends(config);
        let step = parameters[0].abs().log2().round_ties_even().exp2();
        Staircase::even(lowest * step, step, (highest - lowest) as usize + 1)
    }

    fn initial(&self, config: &QuantizerConfig) -> Vec<f32> {
        vec![config.boundary as f32 / ends(config).1]
    }
}
