//! Methods that a program defines itself: a formula composed of tensor operations, with the facts
//! about it, registered under a name. No kernel is needed: Burn computes and differentiates the
//! formula on every backend. Such a method then works wherever a method of this crate does: in
//! layers, recipes, policies, calibration, checkpoints, summaries and the export of codes.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

use burn::{
    module::{Module, Param},
    tensor::{Device, FloatDType, Int, Tensor},
};

use super::{Found, MethodFacts, MethodModule, Named, NamedMut, Parameters, Quantize, Setup, host};
use crate::{
    calibrate::{Calibration, GroupSamples},
    capability::Capability,
    codes::{Codes, Decoding, Table},
    config::{Levels, Normalization, QuantizerConfig, Range},
    error::QuantizerError,
    gradient::GradientScaleRule,
    gradient_scale::ScaleByTensor,
    method::{Method, OwnName, Role},
    normalize::{Normalizer, Restore},
    ops::{count_below, estimated},
    parameter::{Parameter, ParameterKind},
    site::Grouping,
    staircase::Staircase,
};

/// A method that your program defines.
///
/// The elements of a tensor fall into groups that share their parameters. The formula gets the
/// elements as `[outer, groups, inner]`, and each parameter as `[1, groups, 1]`, so that
/// broadcasting makes a formula for one number work for all elements.
///
/// Implement two descriptions of the method: [`forward`](Self::forward), which is differentiable,
/// and [`staircase`](Self::staircase), which returns the values and the thresholds between them.
/// Codes, calibration, plots and deployment use the staircase, and so does evaluation (a call on a
/// device without autodiff): what is evaluated is then what the codes decode to, to the last bit,
/// also where the two descriptions round differently. [`check`](crate::check) compares the two
/// descriptions, and the gradients with finite differences.
///
/// Choose the [kinds](crate::ParameterKind) of the learned parameters with care. The rescaling at a
/// change of levels acts on parameters of the kind `ClippingValue`. A warm-up and the clipping
/// value that a policy sets act on the parameter that [`clipping`](Self::clipping) returns. The
/// default calibration finds the first parameter that is not `Free`.
///
/// `examples/own_method` is a method with a gradient of its own, and checks it. This is a small
/// one, with the values -s, 0 and s:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{
///     Capability, LevelSet, Levels, OwnMethod, Parameter, QuantizerConfig, Range, Role, Site,
///     Staircase, register,
/// };
///
/// #[derive(Debug)]
/// struct Ternary;
///
/// impl OwnMethod for Ternary {
///     fn name(&self) -> &'static str {
///         "ternary-example"
///     }
///
///     fn capability(&self, role: Role, range: Range) -> Option<Capability> {
///         let offer = Capability {
///             levels: LevelSet::Between(3, 3),
///             learned: &[Parameter::CLIPPING_VALUE],
///             ..Capability::base(role)
///         };
///         (range == Range::Signed).then_some(offer)
///     }
///
///     fn forward(&self, x: Tensor<3>, s: &[Tensor<3>], _: &QuantizerConfig) -> Tensor<3> {
///         let v = (x / s[0].clone()).clamp(-1.0, 1.0);
///         // Rounds, with the derivative of the clamp.
///         ((v.clone().round() - v.clone()).detach() + v) * s[0].clone()
///     }
///
///     fn staircase(&self, s: &[f32], _: &QuantizerConfig) -> Staircase {
///         Staircase::even(-s[0], s[0], 3)
///     }
/// }
///
/// let method = register(Ternary)?;
/// let config = QuantizerConfig::new(method, Role::Weight, Levels::TERNARY);
/// let device = Device::flex();
/// let quantizer = config.init(&Site::weight("fc", [1, 4]), &device)?;
/// let weight = Tensor::<2>::from_floats([[-2.0, 0.25, 0.75, 1.0]], &device);
/// let values: Vec<f32> = quantizer.forward(weight).into_data().iter().collect();
/// assert_eq!(values, [-1.0, 0.0, 1.0, 1.0]);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub trait OwnMethod: Debug + Send + Sync + 'static {
    /// Returns the name of the method in recipes, such as `power-of-two`.
    fn name(&self) -> &'static str;

    /// Returns what the method offers in a role and range, or `None` where it does not support
    /// them. Start from [`Capability::base`], and list the learned parameters in
    /// [`learned`](Capability::learned).
    fn capability(&self, role: Role, range: Range) -> Option<Capability>;

    /// Returns the quantized values of `x`, `[outer, groups, inner]`. They are differentiable in
    /// `x` and in the `parameters`, each `[1, groups, 1]`, in the order of [`Capability::learned`].
    /// `x` is already normalised where the configuration asks for it, and the gradients of the
    /// parameters are multiplied by the configuration's gradient scale afterwards.
    fn forward(
        &self,
        x: Tensor<3>,
        parameters: &[Tensor<3>],
        config: &QuantizerConfig,
    ) -> Tensor<3>;

    /// Returns the values that one group can take, and the thresholds between them. The parameters
    /// are those of the group, in the order of [`Capability::learned`]. An element that lies on a
    /// threshold takes the value below it.
    fn staircase(&self, parameters: &[f32], config: &QuantizerConfig) -> Staircase;

    /// Returns the initial values of the parameters. By default scales start at the configuration's
    /// boundary, and other parameters at 0.
    fn initial(&self, config: &QuantizerConfig) -> Vec<f32> {
        let learned = self.capability(config.role, config.range).map_or(&[][..], |c| c.learned);
        let value = |kind| if kind == ParameterKind::Free { 0.0 } else { config.boundary as f32 };
        learned.iter().map(|parameter| value(parameter.kind)).collect()
    }

    /// Returns the parameters for samples of a group, or `None` where the samples do not determine
    /// them or nothing is calibrated. By default the first scale is found as [`Calibration`] says,
    /// with [`staircase`](Self::staircase), and the other parameters have their initial values.
    fn calibrated(
        &self,
        samples: &[f32],
        calibration: Calibration,
        config: &QuantizerConfig,
    ) -> Option<Vec<f32>> {
        let initial = self.initial(config);
        let learned = self.capability(config.role, config.range)?.learned;
        let scale = learned.iter().position(|p| p.kind != ParameterKind::Free)?;
        let at = |value: f32| {
            let mut parameters = initial.clone();
            parameters[scale] = value;
            parameters
        };
        let mut seen = GroupSamples::default();
        seen.extend(samples);
        let value = seen.scale(calibration, |value| self.staircase(&at(value), config))?;
        Some(at(value))
    }

    /// Returns the parameter that the clipping value is proportional to, and the factor: factor
    /// times parameter is the clipping value. A warm-up and the clipping value that a policy sets
    /// change this parameter. Without one, a warm-up changes nothing and such a policy is an error.
    /// By default it is the first parameter of the kind `ClippingValue`, with the factor 1. Methods
    /// that learn a step size return it with Qp, the number of levels above 0.
    fn clipping(&self, config: &QuantizerConfig) -> Option<(Parameter, f32)> {
        let learned = self.capability(config.role, config.range)?.learned;
        let clipping = learned.iter().find(|p| p.kind == ParameterKind::ClippingValue);
        clipping.map(|parameter| (*parameter, 1.0))
    }

    /// Returns the default range of output quantizers.
    fn output_range(&self, _levels: Levels) -> Range {
        Range::Unsigned
    }

    /// Returns why the number of levels cannot change during training, or `None` where it can.
    fn fixed_levels(&self) -> Option<&'static str> {
        None
    }
}

type Registry = BTreeMap<&'static str, &'static dyn OwnMethod>;

static REGISTRY: Mutex<Registry> = Mutex::new(BTreeMap::new());

fn registry() -> std::sync::MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a method under its name, for the whole program and until it ends. Call it at the
/// start, before recipes and checkpoints are read. [`OwnMethod`] has an example.
///
/// # Errors
/// [`QuantizerError::Option`] where the name is empty, contains other characters than a to z, 0 to
/// 9 and `-`, or belongs to another method.
pub fn register(method: impl OwnMethod) -> Result<Method, QuantizerError> {
    let name = method.name();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let refused = |accepted| QuantizerError::Option {
        option: "the name of a method".into(),
        value: format!("{name:?}"),
        accepted,
    };
    if name.is_empty() || !name.chars().all(plain) {
        return Err(refused("expected lower case letters (a to z), digits and `-`"));
    }
    let mut registry = registry();
    if Method::named(name).is_some() {
        return Err(refused("expected a name that no other method has"));
    }
    registry.insert(name, Box::leak(Box::new(method)));
    Ok(Method::Own(OwnName::register(name)))
}

/// Returns the method that was registered under a name.
fn of(name: OwnName) -> &'static dyn OwnMethod {
    match registry().get(name.get()) {
        Some(method) => *method,
        // Only `register` makes such names.
        None => unreachable!("the method {} is not registered", name.get()),
    }
}

impl MethodFacts for OwnName {
    fn capability(&self, role: Role, range: Range) -> Option<Capability> {
        of(*self).capability(role, range)
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        MethodModule::Own(OwnQuantizer::new(of(*self), setup))
    }

    fn output_range(&self, levels: Levels) -> Range {
        of(*self).output_range(levels)
    }

    fn gradient_scale(&self) -> GradientScaleRule {
        GradientScaleRule::None
    }

    fn normalization(&self, _role: Role) -> Normalization {
        Normalization::None
    }

    fn fixed_levels(&self, _role: Role) -> Option<&'static str> {
        of(*self).fixed_levels()
    }
}

/// The quantizer of an [`OwnMethod`].
#[doc(hidden)]
#[derive(Module, Debug)]
pub struct OwnQuantizer {
    /// The learned parameters, each `[groups]`, in the order of [`Capability::learned`].
    pub parameters: Vec<Param<Tensor<1>>>,
    #[module(skip)]
    method: Formula,
    #[module(skip)]
    config: QuantizerConfig,
    #[module(skip)]
    gradient_scale: ScaleByTensor,
    #[module(skip)]
    grouping: Grouping,
    #[module(skip)]
    normalizer: Normalizer,
}

#[derive(Debug, Clone, Copy)]
struct Formula(&'static dyn OwnMethod);

impl OwnQuantizer {
    fn new(method: &'static dyn OwnMethod, setup: &Setup<'_>) -> Self {
        let param = |value: f32| setup.parameter(f64::from(value));
        Self {
            parameters: method.initial(setup.config).into_iter().map(param).collect(),
            method: Formula(method),
            config: setup.config.clone(),
            gradient_scale: setup.gradient_scale(),
            grouping: setup.grouping,
            normalizer: setup.normalizer(),
        }
    }

    fn learned(&self) -> &'static [Parameter] {
        let offer = self.method.0.capability(self.config.role, self.config.range);
        offer.map_or(&[], |offer| offer.learned)
    }

    /// Returns the staircase of each group for the current parameters.
    ///
    /// # Panics
    /// If the method returns none that is valid, with what is wrong.
    fn current(&self) -> Vec<Staircase> {
        let values: Vec<Vec<f32>> = self.parameters.iter().map(host).collect();
        (0..self.grouping.groups)
            .map(|group| {
                let of_group: Vec<f32> = values.iter().map(|values| values[group]).collect();
                let stairs = self.method.0.staircase(&of_group, &self.config);
                let levels = self.config.levels.count();
                if let Err(reason) = stairs.check(levels) {
                    panic!("method {}: its staircase {reason}", self.method.0.name());
                }
                stairs
            })
            .collect()
    }

    /// Returns thresholds and values as tensors, `[groups, levels - 1]` and `[groups, levels]`.
    fn tables(&self, device: &Device) -> (Tensor<2>, Tensor<2>) {
        let stairs = self.current();
        let rows = |of: fn(&Staircase) -> &[f32]| {
            let all: Vec<f32> = stairs.iter().flat_map(|s| of(s).iter().copied()).collect();
            let count = all.len() / stairs.len();
            Tensor::<1>::from_floats(all.as_slice(), device).reshape([stairs.len(), count])
        };
        (rows(Staircase::thresholds), rows(Staircase::values))
    }
}

impl Quantize for OwnQuantizer {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        if !x.device().is_autodiff() {
            let nan = x.clone().is_nan();
            return self.codes(x).decode().mask_fill(nan, f32::NAN).cast(output);
        }
        let shape = x.shape();
        let factor = self.gradient_scale.of(&shape);
        let view = self.grouping.view(&shape);
        let (x, restore) = self.normalizer.apply(x);
        let parameter = |param: &Param<Tensor<1>>| {
            let value = param.val();
            let scaled = if factor == 1.0 {
                value
            } else {
                let slope = value.clone().detach().ones_like().mul_scalar(factor);
                estimated(value.clone().detach(), value, slope)
            };
            scaled.reshape([1, view[1], 1])
        };
        let parameters: Vec<Tensor<3>> = self.parameters.iter().map(parameter).collect();
        let y = self.method.0.forward(x.reshape(view), &parameters, &self.config);
        restore.apply(y.reshape(shape)).cast(output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let shape = x.shape();
        let (x, restore) = self.normalizer.apply(x.detach());
        let (thresholds, values) = self.tables(&x.device());
        let below = count_below(x.reshape(self.grouping.view(&shape)), thresholds);
        let codes: Tensor<3, Int> = below.int();
        let table = Table { values, restore, grouping: self.grouping };
        Codes { codes: codes.reshape(shape), decoding: Decoding::Table(table) }
    }

    fn presented<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (x, _restore): (Tensor<D>, Restore) = self.normalizer.apply(x);
        x
    }
}

impl Parameters for OwnQuantizer {
    fn parameters(&self) -> Vec<Named<'_>> {
        self.learned().iter().copied().zip(&self.parameters).collect()
    }

    fn parameters_mut(&mut self) -> Vec<NamedMut<'_>> {
        self.learned().iter().copied().zip(&mut self.parameters).collect()
    }

    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        self.current()
    }

    fn calibrated(&self, samples: &GroupSamples, calibration: Calibration) -> Found {
        let kept: Vec<f32> = samples.kept().collect();
        let values = self.method.0.calibrated(&kept, calibration, &self.config);
        let named = self.learned().iter().copied().zip(values.unwrap_or_default());
        named.map(|(parameter, value)| (parameter, vec![value])).collect()
    }

    fn calibrates(&self) -> bool {
        true
    }

    fn clipping(&self) -> Option<(Parameter, f32)> {
        self.method.0.clipping(&self.config)
    }
}
