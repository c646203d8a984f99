//! A quantization method that is not in quant-core: LSQ with step sizes that are powers of two, so
//! that integer hardware can rescale by shifting bits.
//!
//! With the learned step size s, let P(s) = 2^R(log2 |s|) be the nearest power of two on a
//! logarithmic scale. Then
//!
//! y = R(clamp(x/P(s), -Qn, Qp))·P(s)
//!
//! **Gradients.** The derivative of R counts as 1, also in the exponent, so that P'(s) = P(s)/s.
//! With v = x/P(s), ∂x = g and ∂s = g·(R(v) - v)·P(s)/s inside the clamp, and ∂x = 0 and ∂s =
//! g·R(v)·P(s)/s outside.

use burn::tensor::Tensor;
use quant_core::{
    Capability, LevelSet, Method, OwnMethod, Parameter, QuantizerConfig, QuantizerError, Range,
    Role, Staircase, register,
};

/// LSQ with step sizes that are powers of two. The [crate](self) documentation has the formulas.
#[derive(Debug)]
pub struct PowerOfTwo;

/// Registers the method, so that recipes may use `method = "power-of-two"`.
///
/// # Errors
/// As [`quant_core::register`], for example if the method is already registered.
pub fn register_power_of_two() -> Result<Method, QuantizerError> {
    register(PowerOfTwo)
}

/// Returns -Qn and Qp.
fn ends(config: &QuantizerConfig) -> (f32, f32) {
    let n = config.levels.steps();
    match config.range {
        Range::Unsigned => (0.0, n),
        Range::Signed => ((n / 2.0).floor() - n, (n / 2.0).floor()),
    }
}

/// Returns exactly `value`, with the derivative of `like`.
fn straight_through(value: Tensor<3>, like: Tensor<3>) -> Tensor<3> {
    value.detach() + (like.clone() - like.detach())
}

/// Returns P(s), with the derivative P(s)/s.
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

    fn clipping(&self, config: &QuantizerConfig) -> Option<(Parameter, f32)> {
        Some((Parameter::STEP_SIZE, ends(config).1))
    }

    fn initial(&self, config: &QuantizerConfig) -> Vec<f32> {
        vec![config.boundary as f32 / ends(config).1]
    }
}
