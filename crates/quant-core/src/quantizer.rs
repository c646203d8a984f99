//! [`Quantizer`]: one module over all methods.

use burn::{
    module::{Flag, Module, Param},
    tensor::{Device, Tensor},
};

use crate::{
    calibrate::{Calibration, CalibrationInfo, Observer},
    codes::Codes,
    config::{Method, QuantizerConfig, Range, Role},
    error::QuantizerError,
    gradient::Estimator,
    methods::{
        Parameters, Quantize,
        dorefa::{DorefaActivation, DorefaWeight},
        fatnn::Fatnn,
        lq_nets::LqNets,
        lsq::Lsq,
        pact::Pact,
        xnor::{SignActivation, SignWeight},
    },
    site::{Grouping, Site},
};

/// A quantizer: a module whose learned parameters are trained, saved and grouped like any other.
///
/// Made by [`QuantizerConfig::init`].
#[derive(Module, Debug)]
pub struct Quantizer {
    /// The formula and its parameters.
    pub method: MethodModule,
    /// Whether statistics may be gathered while training ([`Quantizer::warm_up`]). `freeze` clears
    /// it.
    pub training: Param<Flag>,
    #[module(skip)]
    config: QuantizerConfig,
    #[module(skip)]
    site: Site,
    #[module(skip)]
    grouping: Grouping,
    #[module(skip)]
    observer: Observer,
}

/// The methods with their parameters.
#[derive(Module, Debug)]
pub enum MethodModule {
    /// [`crate::methods::lsq`].
    Lsq(Lsq),
    /// [`crate::methods::dorefa`], activations and outputs.
    DorefaActivation(DorefaActivation),
    /// [`crate::methods::dorefa`], weights.
    DorefaWeight(DorefaWeight),
    /// [`crate::methods::pact`].
    Pact(Pact),
    /// [`crate::methods::xnor`], activations and outputs.
    SignActivation(SignActivation),
    /// [`crate::methods::xnor`], weights.
    SignWeight(SignWeight),
    /// [`crate::methods::fatnn`].
    Fatnn(Fatnn),
    /// [`crate::methods::lq_nets`].
    LqNets(LqNets),
}

macro_rules! each_method {
    ($self:expr, $quantizer:ident => $body:expr) => {
        match $self {
            MethodModule::Lsq($quantizer) => $body,
            MethodModule::DorefaActivation($quantizer) => $body,
            MethodModule::DorefaWeight($quantizer) => $body,
            MethodModule::Pact($quantizer) => $body,
            MethodModule::SignActivation($quantizer) => $body,
            MethodModule::SignWeight($quantizer) => $body,
            MethodModule::Fatnn($quantizer) => $body,
            MethodModule::LqNets($quantizer) => $body,
        }
    };
}

/// A learned parameter of a quantizer.
#[derive(Debug)]
pub struct Learned<'a> {
    /// Its name in the module tree and in state dictionaries.
    pub name: &'static str,
    /// The parameter, `[groups]`.
    pub value: &'a Param<Tensor<1>>,
    /// Shape under PyTorch's names: `[1]` or `[1, groups, 1, 1]` for activations and outputs,
    /// `[groups, 1, 1, 1]` for weights.
    pub pytorch_shape: Vec<usize>,
}

impl Quantizer {
    pub(crate) fn new(
        config: &QuantizerConfig,
        site: &Site,
        device: &Device,
    ) -> Result<Self, QuantizerError> {
        let grouping = Grouping { groups: site.groups(config)?, channel_axis: site.channel_axis };
        let scale = config.gradient_scale.value(config, site, grouping.groups);
        let method = match (config.method, config.role) {
            (Method::Lsq, _) => MethodModule::Lsq(Lsq::new(config, grouping, scale, device)),
            (Method::Pact, _) => MethodModule::Pact(Pact::new(config, grouping, scale, device)),
            (Method::Xnor, Role::Weight) => {
                MethodModule::SignWeight(SignWeight::new(config, grouping, device))
            }
            (Method::Xnor, _) => MethodModule::SignActivation(SignActivation::new(config)),
            (Method::Fatnn, _) => MethodModule::Fatnn(Fatnn::new(config, grouping, scale, device)),
            (Method::LqNets, _) => {
                MethodModule::LqNets(LqNets::new(config, site, grouping, device))
            }
            (Method::Dorefa, Role::Weight) => {
                MethodModule::DorefaWeight(DorefaWeight::new(config, grouping, device))
            }
            (Method::Dorefa, _) => {
                MethodModule::DorefaActivation(DorefaActivation::new(config, grouping, device))
            }
        };
        Ok(Self {
            method,
            training: Param::from_bool(true),
            config: config.clone(),
            site: site.clone(),
            grouping,
            observer: Observer::default(),
        })
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &QuantizerConfig {
        &self.config
    }

    /// Name of the layer it stands at.
    pub fn name(&self) -> &str {
        &self.site.name
    }

    /// Number of clipping values.
    pub fn groups(&self) -> usize {
        self.grouping.groups
    }

    /// Quantizes `x`, of any shape the [`Site`] describes. Differentiable in `x` and in the learned
    /// parameters, as the method's page says. While it [observes](Self::observe) or
    /// [warms up](Self::warm_up), `x` passes through unchanged.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if x.shape().num_elements() == 0 {
            return x;
        }
        let training = self.training.is_enabled() && x.device().is_autodiff();
        if self.observer.passes(&x, self.grouping, training) {
            return x;
        }
        each_method!(&self.method, method => {
            if !training {
                return method.forward(x);
            }
            method.prepare_training(&x);
            let y = method.forward(x.clone());
            method.observe_training(&x);
            y
        })
    }

    /// The code of every element of `x`, and what it stands for:
    /// `quantizer.codes(x).decode() == quantizer.forward(x)`.
    pub fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        each_method!(&self.method, method => method.codes(x))
    }

    /// The values it can take, ascending: those of the first group, and of an all-ones input where
    /// they depend on the input.
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

    /// Whether zeros stay zeros and learn nothing, so that they may as well be added afterwards.
    pub fn ignores_zeros(&self) -> bool {
        let clamps = matches!(self.config.method, Method::Lsq | Method::Pact | Method::Dorefa);
        let unsigned = self.config.range == Range::Unsigned;
        clamps && unsigned && self.config.estimator == Estimator::Clipped
    }

    /// The learned clipping value, `[groups]`, of the methods that have one.
    pub fn clipping_value(&self) -> Option<&Param<Tensor<1>>> {
        match &self.method {
            MethodModule::Lsq(lsq) => Some(&lsq.clip_val),
            MethodModule::Pact(pact) => Some(&pact.clip_val),
            _ => None,
        }
    }

    /// All learned parameters.
    pub fn learned(&self) -> Vec<Learned<'_>> {
        let pytorch_shape = match (self.config.role, self.grouping.groups) {
            (Role::Weight, groups) => vec![groups, 1, 1, 1],
            (_, 1) => vec![1],
            (_, groups) => vec![1, groups, 1, 1],
        };
        let parameters = each_method!(&self.method, method => method.parameters());
        let learned = parameters.into_iter().map(|(name, value)| {
            let pytorch_shape = pytorch_shape.clone();
            Learned { name, value, pytorch_shape }
        });
        learned.collect()
    }

    /// Values that follow the data instead of a gradient, by name: LQ-Nets' basis, `[bits, groups]`
    /// row-major, and FATNN's closed form factor.
    pub fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        each_method!(&self.method, method => method.running())
    }

    /// Sets a running value; whether there is one of that name and size.
    pub fn set_running(&self, name: &str, values: &[f32]) -> bool {
        each_method!(&self.method, method => method.set_running(name, values))
    }

    /// Starts gathering what reaches [`forward`](Self::forward), which from now on returns its
    /// input unquantized, until [`calibrate`](Self::calibrate) ends it. Without effect on methods
    /// that learn no clipping value.
    pub fn observe(&self) {
        if self.clipping_value().is_some() {
            self.observer.start(true);
        }
    }

    /// Starts gathering what reaches [`forward`](Self::forward), which goes on quantizing, until
    /// [`recorded`](Self::recorded) ends it.
    pub fn record(&self) {
        self.observer.start(false);
    }

    /// Ends [`record`](Self::record): a sample of the inputs, at most 8192 per group. `None` where
    /// there were none.
    pub fn recorded(&self) -> Option<Vec<f32>> {
        Some(self.observer.finish()?.values())
    }

    /// Ends [`observe`](Self::observe) and sets the clipping value from what was gathered. `None`
    /// where nothing was.
    pub fn calibrate(&mut self, calibration: Calibration) -> Option<CalibrationInfo> {
        let samples = self.observer.finish()?;
        let before: Vec<f32> = host(self.clipping_value()?);
        let info = samples.calibrate(&self.config, &self.site.name, calibration, before);
        self.set_learned("clip_val", &info.after);
        Some(info)
    }

    /// Calibrates on one tensor: for a weight, that weight.
    pub fn calibrate_on<const D: usize>(
        &mut self,
        x: Tensor<D>,
        calibration: Calibration,
    ) -> Option<CalibrationInfo> {
        self.observe();
        self.forward(x);
        self.calibrate(calibration)
    }

    /// Passes inputs through unquantized for the next `calls` training calls, while the clipping
    /// value follows the running mean of max|x| (times `correlate`); `done` calls are behind.
    /// The clipping value is written by [`settle`](Self::settle) after each.
    pub fn warm_up(&self, calls: usize, correlate: f32, done: usize) {
        self.observer.warm_up(calls, correlate, done);
    }

    /// After a training call during [`warm_up`](Self::warm_up): clip := (max|x|·correlate +
    /// (k - 1)·clip)/k, with k the calls so far. Returns k, or `None` when not warming up.
    pub fn settle(&mut self) -> Option<usize> {
        let (calls, largest) = self.observer.take_largest()?;
        if let Some(clip) = self.clipping_value() {
            let done = calls as f32;
            let mut next = host(clip);
            for clip in &mut next {
                *clip = (largest + (done - 1.0) * *clip) / done;
            }
            self.set_learned("clip_val", &next);
        }
        Some(calls)
    }

    /// Sets the learned parameter `name`, one value per group; whether it has one of that name and
    /// size.
    pub fn set_learned(&mut self, name: &str, values: &[f32]) -> bool {
        let groups = self.grouping.groups;
        let parameters = each_method!(&mut self.method, method => method.parameters_mut());
        let named = parameters.into_iter().find(|(other, _)| *other == name);
        let Some((_, param)) = named.filter(|_| values.len() == groups) else {
            return false;
        };
        let old = param.val();
        let value = Tensor::<1>::from_floats(values, &old.device());
        *param = Param::initialized(param.id, value.set_require_grad(old.is_require_grad()));
        true
    }

    /// Checks that every clipping value is finite and above 0. Reads it back from the device.
    ///
    /// # Errors
    /// [`QuantizerError::Degenerate`] with the layer, group and value.
    pub fn check(&self) -> Result<(), QuantizerError> {
        let Some(clip) = self.clipping_value() else {
            return Ok(());
        };
        let degenerate = |value: &f32| !(value.is_finite() && *value > 0.0);
        match host(clip).iter().enumerate().find(|(_, value)| degenerate(value)) {
            None => Ok(()),
            Some((group, value)) => Err(QuantizerError::Degenerate {
                layer: self.site.name.clone(),
                parameter: "clip_val",
                group,
                value: *value,
            }),
        }
    }
}

fn host(param: &Param<Tensor<1>>) -> Vec<f32> {
    param.val().into_data().convert::<f32>().iter::<f32>().collect()
}
