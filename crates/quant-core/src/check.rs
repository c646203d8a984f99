//! Checks a quantizer: that its gradients are those of the function that its estimators claim to
//! differentiate, and that its values, its codes and its staircase agree.
//!
//! Rounding has no useful derivative, so a quantizer is trained with the derivative of another
//! function, its *surrogate*. The surrogate is the forward formula in which everything that the
//! estimator takes for a constant is held constant, such as the error of a rounding. You write the
//! surrogate once, in double precision and from the paper's formula, with a [`Tape`] that records
//! the constants. [`gradients`] compares central differences of the surrogate with the gradients of
//! the backward pass. The methods of this crate pass the same check.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use quant_core::{
//!     GradientScale, GradientScaleRule, Levels, Method, QuantizerConfig, Role, Site, check,
//! };
//!
//! let device = Device::flex().autodiff();
//! let config = QuantizerConfig {
//!     gradient_scale: GradientScale { rule: GradientScaleRule::None, ..Default::default() },
//!     ..QuantizerConfig::new(Method::LsqStep, Role::Activation, Levels::from_bits(2)?)
//! };
//! let quantizer = config.init(&Site::activation("a", 1), &device)?;
//! let x = Tensor::<1>::from_floats([-0.3, 0.2, 0.4, 0.9, 1.7], &device).reshape([1, 1, 5]);
//!
//! // R(clamp(x/s, 0, 3))·s, rounding with the derivative 1.
//! let lsq = |x: &[f64], parameters: &[f64], tape: &mut check::Tape| -> Vec<f64> {
//!     let s = parameters[0];
//!     x.iter().map(|x| {
//!         let v = tape.clamp(x / s, 0.0, 3.0);
//!         tape.round(v) * s
//!     }).collect()
//! };
//! assert_eq!(check::gradients(&quantizer, x.clone(), lsq), Ok(()));
//! assert_eq!(check::values(&quantizer, x), Ok(()));
//! # Ok::<(), quant_core::QuantizerError>(())
//! ```

use burn::{module::Module, tensor::Tensor};

use crate::{
    codes::Codes, gradient::GradientScaleRule, host::values as host, quantizer::Quantizer,
    text::name,
};

/// The largest error of a gradient, in units of 1 + |difference|: sums of several hundred terms in
/// single precision need this much.
const TOLERANCE: f64 = 2e-4;

/// The step of central differences.
const STEP: f64 = 1e-6;

/// The constants of a surrogate. They are recorded at the point where the gradient is checked, in
/// the order in which the surrogate asks for them, and played back at the points of the
/// differences.
#[derive(Debug, Default)]
pub struct Tape {
    constants: Vec<f64>,
    at: usize,
    recording: bool,
    kink: bool,
}

impl Tape {
    /// Returns an empty tape that records.
    pub fn recording() -> Self {
        Self { recording: true, ..Self::default() }
    }

    /// Ends recording. From now on constants are played back.
    pub fn play(&mut self) {
        self.recording = false;
        self.rewind();
    }

    /// Starts again from the first constant.
    pub fn rewind(&mut self) {
        self.at = 0;
    }

    /// Marks the point where `near` says that it is so near to a kink or a tie that differences are
    /// meaningless.
    pub fn mark_kink(&mut self, near: bool) {
        self.kink |= near && self.recording;
    }

    /// Returns whether the point is near to a kink or a tie.
    pub fn has_kink(&self) -> bool {
        self.kink
    }

    /// Returns `value` as it was at the point that is checked.
    pub fn constant(&mut self, value: f64) -> f64 {
        if self.recording {
            self.constants.push(value);
            return value;
        }
        self.at += 1;
        self.constants[self.at - 1]
    }

    /// At the point that is checked this returns `value`. At points near it, it returns `value`
    /// plus the change of `like`. It stands for a value whose derivative the estimator takes from
    /// another function.
    pub fn like(&mut self, value: f64, like: f64) -> f64 {
        self.constant(value - like) + like
    }

    /// Returns `u` rounded half to even, with the derivative 1.
    pub fn round(&mut self, u: f64) -> f64 {
        self.mark_kink((u - u.floor() - 0.5).abs() < 1e-4);
        self.like(u.round_ties_even(), u)
    }

    /// Returns `u` limited to the range from `low` to `high`.
    pub fn clamp(&mut self, u: f64, low: f64, high: f64) -> f64 {
        self.mark_kink((u - low).abs() < 1e-3 || (u - high).abs() < 1e-3);
        u.clamp(low, high)
    }
}

/// A gradient that differs from the surrogate's, or a value on which two descriptions of a
/// quantizer disagree.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// The point is near to a kink or a tie. Other inputs are needed.
    #[error(
        "an input is so near to a kink or a tie that differences are meaningless: choose others"
    )]
    Kink,
    /// The configuration scales the gradients of parameters, which a surrogate does not describe.
    #[error("the rule {0} scales the gradients of parameters: check with the rule none")]
    Scaled(String),
    /// A gradient differs from the differences of the surrogate.
    #[error("the gradient of {of} is {found}, expected {expected} from differences")]
    Gradient {
        /// `x[index]`, or the name of a parameter with the index in it.
        of: String,
        /// The gradient that the backward pass gives.
        found: f64,
        /// The gradient that the differences of the surrogate give.
        expected: f64,
    },
    /// Two descriptions give different values for the same input.
    #[error("x = {x}: forward gives {forward}, {other} gives {found}")]
    Value {
        /// The value of the input.
        x: f32,
        /// The value that the forward pass gives.
        forward: f32,
        /// The description that it is compared with.
        other: &'static str,
        /// The value that this description gives.
        found: f32,
    },
    /// A code is not below the number of levels.
    #[error("x = {x}: code {code}, but there are {levels} levels")]
    Code {
        /// The value of the input.
        x: f32,
        /// The code of the input.
        code: f32,
        /// The number of levels.
        levels: usize,
    },
}

/// Compares the gradients of `x` and of every parameter with central differences of a surrogate.
///
/// `surrogate` is called with the elements of one group in the order of the tensor, the group's
/// parameters in the order of [`Quantizer::learned`], and the tape. It returns the values of the
/// elements. The quantizer has to be on an autodiff device. The gradients are those of a weighted
/// sum of the values, with a different weight for each element.
///
/// # Errors
/// [`CheckError::Gradient`] for the first gradient that differs by 2e-4·(1 + |expected|) or more,
/// [`CheckError::Kink`], or [`CheckError::Scaled`].
pub fn gradients<const D: usize>(
    quantizer: &Quantizer,
    x: Tensor<D>,
    surrogate: impl Fn(&[f64], &[f64], &mut Tape) -> Vec<f64>,
) -> Result<(), CheckError> {
    let rule = quantizer.config().gradient_scale.rule;
    if rule != GradientScaleRule::None {
        return Err(CheckError::Scaled(name(&rule)));
    }
    let shape = x.shape();
    let device = x.device();
    let inputs: Vec<f64> = host(x.clone().detach()).into_iter().map(f64::from).collect();
    // The weights lie between -1 and 1, with both signs among any few elements.
    let weight = |index: usize| ((index as f64 * 0.618_034).fract() - 0.5) * 2.0;
    let weights: Vec<f32> = (0..inputs.len()).map(|index| weight(index) as f32).collect();
    let members = quantizer.group_members(&shape);
    let learned: Vec<Vec<f64>> = quantizer
        .learned()
        .iter()
        .map(|learned| host(learned.value.val()).into_iter().map(f64::from).collect())
        .collect();
    let groups = members.len();
    let objective = |x: &[f64], learned: &[Vec<f64>], tape: &mut Tape| -> f64 {
        tape.rewind();
        let of_group = |(group, indices): (usize, &Vec<usize>)| {
            let elements: Vec<f64> = indices.iter().map(|index| x[*index]).collect();
            let rows = learned.iter().flat_map(|values| values.iter().skip(group).step_by(groups));
            let parameters: Vec<f64> = rows.copied().collect();
            let y = surrogate(&elements, &parameters, tape);
            indices.iter().zip(y).map(|(index, y)| f64::from(weights[*index]) * y).sum::<f64>()
        };
        members.iter().enumerate().map(of_group).sum()
    };
    let mut tape = Tape::recording();
    objective(&inputs, &learned, &mut tape);
    if tape.has_kink() {
        return Err(CheckError::Kink);
    }
    tape.play();

    let input = x.detach().require_grad();
    let outer = Tensor::<1>::from_floats(weights.as_slice(), &device).reshape(shape);
    let found = (quantizer.forward(input.clone()) * outer).sum().backward();
    let by_x = input.grad(&found).map(host).unwrap_or_else(|| vec![0.0; inputs.len()]);
    for (index, by_x) in by_x.into_iter().enumerate() {
        let mut at = |step: f64| {
            let mut moved = inputs.clone();
            moved[index] += step;
            objective(&moved, &learned, &mut tape)
        };
        compare(by_x, (at(STEP) - at(-STEP)) / (2.0 * STEP), || format!("x[{index}]"))?;
    }
    for (row, parameter) in quantizer.learned().iter().enumerate() {
        let gradient = parameter.value.val().grad(&found).map(host);
        let gradient = gradient.unwrap_or_else(|| vec![0.0; learned[row].len()]);
        for (index, found) in gradient.into_iter().enumerate() {
            let mut at = |step: f64| {
                let mut moved = learned.clone();
                moved[row][index] += step;
                objective(&inputs, &moved, &mut tape)
            };
            let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            compare(found, expected, || format!("{}[{index}]", parameter.name))?;
        }
    }
    Ok(())
}

fn compare(found: f32, expected: f64, of: impl Fn() -> String) -> Result<(), CheckError> {
    let found = f64::from(found);
    if (found - expected).abs() < TOLERANCE * (1.0 + expected.abs()) {
        Ok(())
    } else {
        Err(CheckError::Gradient { of: of(), found, expected })
    }
}

/// Compares the values of an evaluation with the decoded codes, to the last bit. If the quantizer
/// has [staircases](Quantizer::staircases), the values of the forward pass on the device of `x` are
/// compared with them too, up to rounding and except at thresholds. Codes must be below the number
/// of levels.
///
/// # Errors
/// [`CheckError::Value`] or [`CheckError::Code`] for the first value that differs.
pub fn values<const D: usize>(quantizer: &Quantizer, x: Tensor<D>) -> Result<(), CheckError> {
    let x = x.detach();
    let inputs = host(x.clone());
    let forward = host(quantizer.forward(x.clone()).detach());
    let (evaluated, plain) = if x.device().is_autodiff() {
        (quantizer.valid(), x.clone().inner())
    } else {
        (quantizer.clone(), x.clone())
    };
    let evaluation = host(evaluated.forward(plain.clone()));
    let Codes { codes, decoding } = evaluated.codes(plain);
    let numbers = host(codes.clone().float());
    let decoded = host(Codes { codes, decoding }.decode());
    let levels = quantizer.config().levels.count();
    for (index, input) in inputs.iter().copied().enumerate() {
        let (y, code) = (evaluation[index], numbers[index]);
        if !(0.0..levels as f32).contains(&code) {
            return Err(CheckError::Code { x: input, code, levels });
        }
        if y.to_bits() != decoded[index].to_bits() && y != decoded[index] {
            let other = "decoding its code";
            return Err(CheckError::Value { x: input, forward: y, other, found: decoded[index] });
        }
    }
    let stairs = quantizer.staircases(x.clone());
    for (stairs, members) in stairs.iter().zip(quantizer.group_members(&x.shape())) {
        let highest = stairs.values().iter().fold(0.0f32, |high, value| high.max(value.abs()));
        let beside = |x: f32| {
            let near = |t: &&f32| (**t - x).abs() <= 1e-5 * (1.0 + x.abs());
            stairs.thresholds().iter().any(|threshold| near(&threshold))
        };
        for index in members.into_iter().filter(|index| !beside(inputs[*index])) {
            let (x, forward) = (inputs[index], forward[index]);
            let found = stairs.value(x);
            if (found - forward).abs() > 1e-5 * highest {
                return Err(CheckError::Value { x, forward, other: "its staircase", found });
            }
        }
    }
    Ok(())
}
