//! Proves a quantizer: that its gradients are those of the function that its estimators claim to
//! differentiate, and that forward, codes and staircase say the same.
//!
//! Rounding has no useful derivative, so a quantizer is trained with the derivative of another
//! function, its *surrogate*: the forward formula in which everything that the estimator takes for a
//! constant is held constant, such as the error of a rounding. You write the surrogate once, in double
//! precision and from the paper's formula, with a [`Tape`] that holds constants; [`gradients`]
//! compares central differences of it with what backward gives. This crate's own methods pass the
//! same check.
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

use burn::tensor::Tensor;

use crate::{
    codes::Codes, gradient::GradientScaleRule, host::values as host, quantizer::Quantizer,
    text::name,
};

/// How far a gradient may be from the difference, in units of 1 + |difference|: what sums of some
/// hundred terms in single precision need.
const TOLERANCE: f64 = 2e-4;

/// The step of central differences.
const STEP: f64 = 1e-6;

/// What a surrogate holds constant: recorded at the point itself, in the order in which it is met, and
/// played back beside it.
#[derive(Debug, Default)]
pub struct Tape {
    constants: Vec<f64>,
    at: usize,
    recording: bool,
    kink: bool,
}

impl Tape {
    /// An empty one, which records.
    pub fn recording() -> Self {
        Self { recording: true, ..Self::default() }
    }

    /// Ends recording: from now on constants are played back.
    pub fn play(&mut self) {
        self.recording = false;
        self.rewind();
    }

    /// Starts from the first constant again.
    pub fn rewind(&mut self) {
        self.at = 0;
    }

    /// Whether it records: whether this is the point itself.
    pub fn is_recording(&self) -> bool {
        self.recording
    }

    /// Says that the point is so near to a kink or a tie that differences mean nothing there.
    pub fn mark_kink(&mut self, near: bool) {
        self.kink |= near && self.recording;
    }

    /// Whether the point is near to a kink or a tie.
    pub fn has_kink(&self) -> bool {
        self.kink
    }

    /// `value` as it is at the point itself.
    pub fn constant(&mut self, value: f64) -> f64 {
        if self.recording {
            self.constants.push(value);
            return value;
        }
        self.at += 1;
        self.constants[self.at - 1]
    }

    /// `value` at the point itself, which moves as `like` beside it: a value whose derivative an
    /// estimator takes from another function.
    pub fn like(&mut self, value: f64, like: f64) -> f64 {
        self.constant(value - like) + like
    }

    /// `u` rounded half to even, with the derivative 1.
    pub fn round(&mut self, u: f64) -> f64 {
        self.mark_kink((u - u.floor() - 0.5).abs() < 1e-4);
        self.like(u.round_ties_even(), u)
    }

    /// `u` between two bounds.
    pub fn clamp(&mut self, u: f64, low: f64, high: f64) -> f64 {
        self.mark_kink((u - low).abs() < 1e-3 || (u - high).abs() < 1e-3);
        u.clamp(low, high)
    }
}

/// A gradient that is not the surrogate's, or a value that two descriptions of a quantizer disagree
/// about.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// The point is near to a kink or a tie: choose other inputs.
    #[error("an input is so near to a kink or a tie that differences mean nothing there")]
    Kink,
    /// The configuration multiplies gradients of parameters, which no surrogate tells of.
    #[error("gradients of parameters are scaled by the rule {0}: check with the rule none")]
    Scaled(String),
    /// A gradient differs.
    #[error("the gradient of {of} is {found}, expected {expected} from differences")]
    Gradient {
        /// `x[index]`, or a parameter with group.
        of: String,
        /// What backward gives.
        found: f64,
        /// What differences of the surrogate give.
        expected: f64,
    },
    /// A value differs.
    #[error("x = {x}: forward gives {forward}, {other} gives {found}")]
    Value {
        /// The input.
        x: f32,
        /// The value of forward.
        forward: f32,
        /// What it is compared with.
        other: &'static str,
        /// What that gives.
        found: f32,
    },
    /// A code is not one of the levels.
    #[error("x = {x}: code {code}, but there are {levels} levels")]
    Code {
        /// The input.
        x: f32,
        /// The code.
        code: f32,
        /// The number of levels.
        levels: usize,
    },
}

/// Compares the gradients of x and of every parameter with central differences of a surrogate.
///
/// `surrogate` gets the elements of one group in the order of the tensor, the group's parameters in
/// the order of [`Quantizer::learned`], and the tape, and returns the elements' values. The quantizer
/// has to be on an autodiff device. The sums that gradients are of are weighted by numbers that
/// differ from element to element.
///
/// # Errors
/// The first gradient that differs by more than 2e-4·(1 + |expected|), [`CheckError::Kink`], or
/// [`CheckError::Scaled`].
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
    // Between -1 and 1, and of both signs within any few elements.
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
    match (found - expected).abs() < TOLERANCE * (1.0 + expected.abs()) {
        true => Ok(()),
        false => Err(CheckError::Gradient { of: of(), found, expected }),
    }
}

/// Compares what forward gives with decoded codes, to the bit, and with the
/// [staircases](Quantizer::staircases), within rounding, where there are any; and checks that codes
/// are below the number of levels.
///
/// # Errors
/// The first value that differs.
pub fn values<const D: usize>(quantizer: &Quantizer, x: Tensor<D>) -> Result<(), CheckError> {
    let x = x.detach();
    let inputs = host(x.clone());
    let forward = host(quantizer.forward(x.clone()).detach());
    let Codes { codes, decoding } = quantizer.codes(x.clone());
    let numbers = host(codes.clone().float());
    let decoded = host(Codes { codes, decoding }.decode());
    let levels = quantizer.config().levels.count();
    for (index, input) in inputs.iter().copied().enumerate() {
        let (y, code) = (forward[index], numbers[index]);
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
