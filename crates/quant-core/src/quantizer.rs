//! [`Quantizer`]: one module for all methods.

use std::ops::{Deref, DerefMut};

use burn::{
    module::{Flag, Module, Param, ParamId},
    tensor::{Device, FloatDType, Tensor},
};

use crate::{
    calibrate::Samples,
    codes::{Codes, Decoding},
    config::QuantizerConfig,
    error::QuantizerError,
    methods::{MethodModule, Parameters, Quantize, Setup, each_method, facts},
    scope,
    signature::Signature,
    site::{GroupFallback, Grouping, Site},
    staircase::Staircase,
    training::TrainingSettings,
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
    pub(crate) training_settings: TrainingSettings,
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
            training_settings: TrainingSettings::default(),
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
        let output = x.dtype().into();
        self.forward_as(x, output)
    }

    /// Does the same as [`forward`](Self::forward), and returns the values in the type `output`, in
    /// which they are multiplied next. The arithmetic has the type of `x`, and so has its gradient.
    ///
    /// Where the quantizer's kernel comes last in a method, it writes `output` itself; nothing of
    /// the size of `x` is kept in two types. Of values that are no integers, a type of 16 bits
    /// rounds the last bits.
    ///
    /// # Panics
    /// Panics where [`forward`](Self::forward) does.
    pub fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        if x.shape().num_elements() == 0 {
            return x.cast(output);
        }
        self.check_channels(&x.shape());
        let training = self.training.is_enabled() && x.device().is_autodiff();
        let presented = || each_method!(&self.method, method => method.presented(x.clone()));
        if scope::input(self.id(), self.grouping, presented) {
            return x.cast(output);
        }
        if training && self.training_settings.warm_up.is_some() {
            scope::add_largest(self.id(), || x.clone().detach().abs().max());
            return x.cast(output);
        }
        if !self.enabled {
            return x.cast(output);
        }
        each_method!(&self.method, method => {
            if !training && !scope::looks_at(self.id()) {
                // The input is moved into the method, so that its memory can be reused for the
                // output.
                return method.forward_as(x, output);
            }
            if !training {
                let y = method.forward(x.clone());
                scope::call(self.id(), &x, &y);
                return y.cast(output);
            }
            method.prepare_training(&x);
            if self.training_settings.is_none() {
                let y = method.forward_as(x.clone(), output);
                method.observe_training(&x);
                return y;
            }
            let y = method.forward(x.clone());
            method.observe_training(&x);
            self.training_settings.apply(x, y).cast(output)
        })
    }

    /// Returns an identifier that differs between the quantizers of a model and that clones share.
    pub(crate) fn id(&self) -> ParamId {
        self.training.id
    }

    /// Panics on a wrong number of channels: the channels are divided into groups, and another
    /// number would mix the groups without an error.
    pub(crate) fn check_channels(&self, shape: &[usize]) {
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
        // Weights of convolutions over volumes have five dimensions. Dimensions of size 1 at the
        // end change nothing.
        if self.site.shape.len() <= 4 {
            self.level_values_of_ones::<4>(&device)
        } else {
            self.level_values_of_ones::<8>(&device)
        }
    }

    fn level_values_of_ones<const D: usize>(&self, device: &Device) -> Vec<f32> {
        let mut shape = [1; D];
        for (side, of_site) in shape.iter_mut().zip(&self.site.shape) {
            *side = *of_site;
        }
        let codes = self.codes(Tensor::<D>::ones(shape, device));
        codes.decoding.first_values(self.config.levels)
    }

    /// Returns the value that zeros are quantized to, or `None` where the value depends on the data
    /// or where zeros contribute to the gradients. With this value, padding with zeros before
    /// quantizing can be replaced by padding with the value after quantizing.
    pub fn value_of_zero(&self) -> Option<f32> {
        let zero = facts(&self.config.method).zero(&self.config)?;
        // A quantizer that passes its input through also keeps zeros at zero.
        let quantizes =
            self.enabled && self.training_settings.is_none() && !scope::looks_at(self.id());
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
}
