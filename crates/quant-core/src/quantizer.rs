//! [`Quantizer`]: one module for all methods.

use std::ops::{Deref, DerefMut};

use burn::{
    module::{Flag, Module, Param, ParamId},
    tensor::{Device, Tensor},
};

use crate::{
    calibrate::{Calibration, CalibrationInfo, Samples},
    codes::{Codes, Decoding},
    config::QuantizerConfig,
    error::QuantizerError,
    method::Role,
    methods::{MethodModule, Parameters, Quantize, Setup, each_method, facts, host},
    parameter::{Parameter, ParameterKind},
    scope,
    signature::Signature,
    site::{GroupFallback, Grouping, Site},
    staircase::Staircase,
    training::TrainingAids,
};

impl QuantizerConfig {
    /// Makes the quantizer that this configuration describes, for the tensor at `site`.
    ///
    /// # Errors
    /// The errors of [`validate`](Self::validate), and [`QuantizerError::Groups`] where the
    /// granularity does not fit the shape of `site`.
    pub fn init(&self, site: &Site, device: &Device) -> Result<Quantizer, QuantizerError> {
        self.validate(&site.name)?;
        Quantizer::new(self, site, device)
    }
}

/// A quantizer: a module whose learned parameters are trained, saved and put into parameter groups
/// like those of any other module.
///
/// [`QuantizerConfig::init`] makes one. [`quantizers`](crate::quantizers) finds those of a module.
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
/// use quant_core::{Levels, Method, Quantizer, QuantizerConfig, Role, Site};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     quant: Quantizer,
///     fc: Linear,
/// }
///
/// impl Net {
///     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
///         self.fc.forward(self.quant.forward(x))
///     }
/// }
///
/// let device = Device::flex();
/// let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::from_bits(2)?);
/// let quant = config.init(&Site::activation("quant", 8), &device)?;
/// let net = Net { quant, fc: LinearConfig::new(8, 4).init(&device) };
/// assert_eq!(net.forward(Tensor::ones([3, 8], &device)).dims(), [3, 4]);
/// // The levels are 0, 1/3, 2/3 and 1, with the codes 0 to 3.
/// let codes = net.quant.codes(Tensor::<1>::from_floats([0.3, 0.9], &device));
/// let decoded: Vec<f32> = codes.decode().into_data().iter().collect();
/// assert_eq!(decoded, [1.0 / 3.0, 1.0]);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Quantizer(pub(crate) Parts);

/// The parts of a [`Quantizer`].
#[doc(hidden)]
#[derive(Module, Debug)]
pub struct Parts {
    /// The formula and its parameters.
    pub method: MethodModule,
    /// Whether statistics may be gathered in training ([`Quantizer::set_warm_up`]). Burn's `freeze`
    /// clears it.
    pub training: Param<Flag>,
    /// The properties that a record must share with the quantizer that it is loaded into.
    pub signature: Signature,
    #[module(skip)]
    pub(crate) config: QuantizerConfig,
    #[module(skip)]
    pub(crate) site: Site,
    #[module(skip)]
    pub(crate) grouping: Grouping,
    #[module(skip)]
    pub(crate) fallback: Option<GroupFallback>,
    #[module(skip)]
    pub(crate) enabled: bool,
    #[module(skip)]
    pub(crate) changed: bool,
    #[module(skip)]
    pub(crate) aids: TrainingAids,
}

impl Deref for Quantizer {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Quantizer {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

/// A learned parameter of a quantizer.
#[derive(Debug)]
pub struct Learned<'a> {
    /// The parameter's name in the module tree and in state dictionaries.
    pub name: &'static str,
    /// Which values the parameter may have.
    pub kind: ParameterKind,
    /// The parameter, of shape `[groups]`. N2UQ's intervals are `[n, groups]`, row-major.
    pub value: &'a Param<Tensor<1>>,
    /// The shape of the parameter in PyTorch state dictionaries: `[1]` or `[1, groups, 1, 1]` for
    /// activations and outputs, `[groups, 1, 1, 1]` for weights, `[n, groups]` for N2UQ's
    /// intervals.
    pub pytorch_shape: Vec<usize>,
}

impl Quantizer {
    pub(crate) fn new(
        config: &QuantizerConfig,
        site: &Site,
        device: &Device,
    ) -> Result<Self, QuantizerError> {
        let (groups, fallback) = site.groups(config)?;
        let grouping = Grouping { groups, channel_axis: site.channel_axis };
        let method = facts(&config.method).module(&Setup { config, site, grouping, device });
        Ok(Self(Parts {
            method,
            training: Param::from_bool(true),
            signature: Signature::new(config, groups, device),
            config: config.clone(),
            site: site.clone(),
            grouping,
            fallback,
            enabled: true,
            changed: false,
            aids: TrainingAids::default(),
        }))
    }

    /// Returns the configuration that the quantizer was made from.
    pub fn config(&self) -> &QuantizerConfig {
        &self.config
    }

    /// Returns the name of the layer that the quantizer belongs to.
    pub fn name(&self) -> &str {
        &self.site.name
    }

    pub(crate) fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.site.name);
    }

    /// Returns the number of groups of elements, each with its own parameters.
    pub fn groups(&self) -> usize {
        self.grouping.groups
    }

    /// Returns the dimension that is divided into groups.
    pub(crate) fn channel_axis(&self) -> usize {
        self.grouping.channel_axis
    }

    /// Quantizes `x`, which may have any shape that the [`Site`] describes. The result is
    /// differentiable in `x` and in the learned parameters, as the page of the method says. `x` is
    /// returned unchanged while the quantizer is [calibrated](crate::calibrate()), while it [warms
    /// up](Self::set_warm_up), and while it is not [enabled](Self::set_enabled).
    ///
    /// # Panics
    /// Panics where the quantizer has several groups and the number of channels of `x` differs from
    /// that of the site.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if x.shape().num_elements() == 0 {
            return x;
        }
        self.check_channels(&x.shape());
        let training = self.training.is_enabled() && x.device().is_autodiff();
        let presented = || each_method!(&self.method, method => method.presented(x.clone()));
        if scope::input(self.id(), self.grouping, presented) {
            return x;
        }
        if training && self.aids.warm_up.is_some() {
            scope::add_largest(self.id(), || x.clone().detach().abs().max());
            return x;
        }
        if !self.enabled {
            return x;
        }
        each_method!(&self.method, method => {
            if !training && !scope::looks_at(self.id()) {
                // The input is moved into the method, so that its memory can be reused for the
                // output.
                return method.forward(x);
            }
            if !training {
                let y = method.forward(x.clone());
                scope::call(self.id(), &x, &y);
                return y;
            }
            method.prepare_training(&x);
            let y = method.forward(x.clone());
            method.observe_training(&x);
            self.aids.apply(x, y)
        })
    }

    /// Returns an identifier that differs between the quantizers of a model and that clones share.
    pub(crate) fn id(&self) -> ParamId {
        self.training.id
    }

    /// Panics on a wrong number of channels: the channels are divided into groups, and another
    /// number would mix the groups without an error.
    fn check_channels(&self, shape: &[usize]) {
        let axis = self.grouping.channel_axis;
        let (expected, found) = (self.site.shape[axis], shape.get(axis).copied());
        assert!(
            self.grouping.groups == 1 || found == Some(expected),
            "{}: expected {expected} channels in dimension {axis}, got {}",
            self.site.name,
            found.map_or_else(|| format!("{} dimensions", shape.len()), |found| found.to_string()),
        );
    }

    /// Returns the code of every element of `x`, and how to decode the codes.
    /// `quantizer.codes(x).decode() == quantizer.forward(x)` for every element that is not NaN. For
    /// an empty tensor, `codes` is empty and `decoding` is [`Decoding::Signs`].
    ///
    /// # Panics
    /// Panics where [`forward`](Self::forward) does.
    pub fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        if x.shape().num_elements() == 0 {
            return Codes { codes: x.int(), decoding: Decoding::Signs(None) };
        }
        self.check_channels(&x.shape());
        each_method!(&self.method, method => method.codes(x))
    }

    /// Returns the values that the quantizer can take, in ascending order. They are those of the
    /// first group. If they depend on the input, they are those for an input of ones.
    pub fn level_values(&self) -> Vec<f32> {
        let device = match self.learned().first() {
            Some(learned) => learned.value.val().device(),
            None => Device::default(),
        };
        let ones = Tensor::<1>::ones([self.site.shape.iter().product::<usize>()], &device);
        let dims = self.site.shape.iter().copied().chain(std::iter::repeat(1)).take(4);
        let shape: Vec<usize> = dims.collect();
        let codes = self.codes(ones.reshape([shape[0], shape[1], shape[2], shape[3]]));
        codes.decoding.first_values(self.config.levels)
    }

    /// Returns the value that zeros are quantized to, or `None` where the value depends on the data
    /// or where zeros contribute to the gradients. With this value, padding with zeros before
    /// quantizing can be replaced by padding with the value after quantizing.
    pub fn of_zero(&self) -> Option<f32> {
        let zero = facts(&self.config.method).zero(&self.config)?;
        // A quantizer that passes its input through also keeps zeros at zero.
        let quantizes = self.enabled && self.aids.is_none() && !scope::looks_at(self.id());
        (zero == 0.0 || quantizes).then_some(zero)
    }

    /// Returns the values and the thresholds between them for one element of each group of `x`.
    /// Where the method normalises `x`, they apply to the normalised elements. The list is empty
    /// where a value depends on more than the magnitudes in its group, as for DoReFa weights and
    /// for scales over channels or positions.
    pub fn staircases<const D: usize>(&self, x: Tensor<D>) -> Vec<Staircase> {
        if x.shape().num_elements() == 0 {
            return Vec::new();
        }
        each_method!(&self.method, method => {
            let seen = Samples::of(&method.presented(x.detach()), self.grouping);
            method.staircases(&seen.0)
        })
    }

    /// Returns the row-major indices of the elements of each group in a tensor of this shape.
    pub(crate) fn group_members(&self, shape: &[usize]) -> Vec<Vec<usize>> {
        let [outer, groups, inner] = self.grouping.view(shape);
        let rows = |group: usize| (0..outer).map(move |row| (row * groups + group) * inner);
        (0..groups).map(|group| rows(group).flat_map(|from| from..from + inner).collect()).collect()
    }

    /// Returns what was asked for and what is used, where the number of groups is not the one asked
    /// for.
    pub fn group_fallback(&self) -> Option<&GroupFallback> {
        self.fallback.as_ref()
    }

    /// Returns the learned clipping value, `[groups]`, or `None` for methods that have none.
    pub fn clipping_value(&self) -> Option<&Param<Tensor<1>>> {
        let parameters = each_method!(&self.method, method => method.parameters());
        let name = Parameter::CLIPPING_VALUE.name;
        parameters.into_iter().find(|(other, _)| other.name == name).map(|(_, param)| param)
    }

    /// Returns all learned parameters.
    pub fn learned(&self) -> Vec<Learned<'_>> {
        let pytorch_shape = match (self.config.role, self.grouping.groups) {
            (Role::Weight, groups) => vec![groups, 1, 1, 1],
            (_, 1) => vec![1],
            (_, groups) => vec![1, groups, 1, 1],
        };
        let parameters = each_method!(&self.method, method => method.parameters());
        let learned = parameters.into_iter().map(|(Parameter { name, kind }, value)| {
            let (count, groups) = (value.lazy_shape().num_elements(), self.grouping.groups);
            let pytorch_shape =
                if count == groups { pytorch_shape.clone() } else { vec![count / groups, groups] };
            Learned { name, kind, value, pytorch_shape }
        });
        learned.collect()
    }

    /// Returns, by name, the values that are updated from the data instead of by gradient: LQ-Nets'
    /// basis, `[bits, groups]` row-major, and the factor of FATNN's closed form.
    pub fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        each_method!(&self.method, method => method.running())
    }

    /// Sets a running value. Returns whether there is one of this name and size.
    pub fn set_running(&self, name: &str, values: &[f32]) -> bool {
        each_method!(&self.method, method => method.set_running(name, values))
    }

    /// Returns whether [calibration](crate::calibrate()) sets any parameter.
    pub fn calibrates(&self) -> bool {
        each_method!(&self.method, method => method.calibrates())
    }

    /// Sets the parameters from samples of the inputs. Parameters of groups whose samples give no
    /// value (such as zeros) stay as they are. Returns `None` where the quantizer has no learned
    /// parameter.
    pub(crate) fn calibrate_by(
        &mut self,
        samples: &Samples,
        calibration: Calibration,
    ) -> Option<CalibrationInfo> {
        let shown = self.learned().first()?.name;
        let before = self.learned_values(shown)?;
        let stairs = |quantizer: &Self| {
            let method = &quantizer.method;
            each_method!(method, method => method.staircases(&samples.0))
        };
        let error_before = samples.relative_error(&stairs(self));
        self.fit(samples, calibration);
        Some(CalibrationInfo {
            layer: self.site.name.clone(),
            calibration,
            elements: samples.0.iter().map(|group| group.elements).sum(),
            parameter: shown.to_owned(),
            before,
            after: self.learned_values(shown)?,
            error_before,
            error_after: samples.relative_error(&stairs(self)),
        })
    }

    fn fit(&mut self, samples: &Samples, calibration: Calibration) {
        let groups = self.grouping.groups;
        let mut values: Vec<(&'static str, Vec<f32>)> =
            self.learned().iter().map(|learned| (learned.name, host(learned.value))).collect();
        for (group, seen) in samples.0.iter().enumerate() {
            let found = each_method!(&self.method, method => method.calibrated(seen, calibration));
            for (name, column) in found {
                let known = values.iter_mut().find(|(other, _)| *other == name.name);
                let Some((_, values)) = known else { continue };
                for (row, value) in column.into_iter().enumerate() {
                    values[row * groups + group] = value;
                }
            }
        }
        for (name, values) in values {
            self.set_learned(name, &values);
        }
    }

    /// Returns the values of the learned parameter `name`, read back from the device, or `None`
    /// where there is no parameter of this name.
    pub fn learned_values(&self, name: &str) -> Option<Vec<f32>> {
        self.learned().into_iter().find(|learned| learned.name == name).map(|l| host(l.value))
    }

    /// Calibrates on one tensor; for the quantizer of a weight, this is the weight. Returns `None`
    /// for methods that calibrate nothing, and for an empty tensor.
    pub fn calibrate_on<const D: usize>(
        &mut self,
        x: Tensor<D>,
        calibration: Calibration,
    ) -> Option<CalibrationInfo> {
        if x.shape().num_elements() == 0 || !self.calibrates() {
            return None;
        }
        self.check_channels(&x.shape());
        let presented = each_method!(&self.method, method => method.presented(x));
        self.calibrate_by(&Samples::of(&presented, self.grouping), calibration)
    }

    /// Sets clip := (largest + (k - 1)·clip)/k, where `largest` was seen in the k-th call of a
    /// warm-up.
    pub(crate) fn follow(&mut self, largest: Tensor<1>, k: usize) {
        let clipping = each_method!(&self.method, method => method.clipping());
        if let Some((parameter, parts)) = clipping
            && let Some(param) = self.learned_mut(parameter.name)
        {
            let (old, k) = (param.val(), k as f32);
            let value = largest.div_scalar(parts) + old.clone().detach().mul_scalar(k - 1.0);
            set_value(param, value.div_scalar(k), &old);
        }
    }

    /// Sets the clipping value of every group. Methods that learn a step size get the step that
    /// makes this clipping value, `value`/Qp. Returns the name of the parameter that was set, or
    /// `None` for methods that learn neither.
    pub fn set_clipping_value(&mut self, value: f32) -> Option<&'static str> {
        let clipping = each_method!(&self.method, method => method.clipping());
        let (parameter, parts) = clipping.unwrap_or((Parameter::CLIPPING_VALUE, 1.0));
        let values = vec![value / parts; self.groups()];
        self.set_learned(parameter.name, &values).then_some(parameter.name)
    }

    /// Sets the learned parameter `name` to `values`: one value per group, or `[count, groups]`
    /// row-major. Returns whether there is a parameter of this name and size.
    pub fn set_learned(&mut self, name: &str, values: &[f32]) -> bool {
        let Some(param) = self.learned_mut(name) else {
            return false;
        };
        if values.len() != param.lazy_shape().num_elements() {
            return false;
        }
        let old = param.val();
        let value = Tensor::<1>::from_floats(values, &old.device());
        set_value(param, value, &old);
        true
    }

    fn learned_mut(&mut self, name: &str) -> Option<&mut Param<Tensor<1>>> {
        let parameters = each_method!(&mut self.method, method => method.parameters_mut());
        parameters.into_iter().find(|(other, _)| other.name == name).map(|(_, param)| param)
    }

    /// Checks that every learned parameter is finite, and above 0 where its
    /// [kind](crate::ParameterKind) requires it. The parameters are read back from the device.
    ///
    /// A scale at or below 0 still computes and learns: its magnitude is used (PACT uses a tiny
    /// clipping value instead), so that zeros stay zeros.
    ///
    /// # Errors
    /// [`QuantizerError::Degenerate`] with the layer, the group and the value.
    pub fn check(&self) -> Result<(), QuantizerError> {
        for learned in self.learned() {
            let free = learned.kind == ParameterKind::Free;
            let sound = |value: &f32| value.is_finite() && (free || *value > 0.0);
            let values = host(learned.value);
            if let Some((index, value)) = values.iter().enumerate().find(|(_, v)| !sound(v)) {
                return Err(QuantizerError::Degenerate {
                    layer: self.site.name.clone(),
                    parameter: learned.name,
                    group: index % self.grouping.groups,
                    value: *value,
                    expected: if free { "a finite number" } else { "a finite number above 0" },
                });
            }
        }
        Ok(())
    }
}

/// Replaces the value of a parameter, which was `old`, by another on the same device.
fn set_value(param: &mut Param<Tensor<1>>, value: Tensor<1>, old: &Tensor<1>) {
    *param = Param::initialized(param.id, value.detach().set_require_grad(old.is_require_grad()));
}
