//! Quantized weights for Burn's own layers.

use std::fmt::{self, Display, Formatter};

use burn::{
    module::{Module, ModuleVisitor, Param, Reparameterization, Reparameterizer},
    tensor::Tensor,
};

use crate::{
    calibrate::{Calibration, CalibrationInfo},
    config::QuantizerConfig,
    error::QuantizerError,
    method::Role,
    number::significant,
    quantizer::Quantizer,
    reach::{change_quantizers, quantized_weights},
    site::Site,
};

impl Reparameterization for Quantizer {
    const NAME: &'static str = "quant_weight";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        self.forward(base)
    }
}

/// Puts a quantizer on each weight of `model` that `select` chooses. It is [`WeightQuantization`]
/// with a single configuration and without the report.
///
/// `select` is called with the path of every weight that can be quantized, such as `conv1.weight`.
///
/// # Errors
/// The errors of [`WeightQuantization::apply`].
///
/// ```
/// use burn::{nn::{Linear, LinearConfig}, tensor::Device};
/// use quant_core::{Levels, Method, QuantizerConfig, Role, quantize_weights};
///
/// let layer = LinearConfig::new(8, 4).init(&Device::flex());
/// let config = QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(2)?);
/// let layer = quantize_weights(layer, &config, |path| path == "weight")?;
/// let mut values: Vec<f32> = layer.weight.val().into_data().iter().collect();
/// values.sort_by(f32::total_cmp);
/// values.dedup();
/// assert!(values.len() <= 4);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn quantize_weights<M: Module>(
    model: M,
    config: &QuantizerConfig,
    select: impl Fn(&str) -> bool,
) -> Result<M, QuantizerError> {
    let quantization = WeightQuantization::new(config.clone()).only(select);
    Ok(quantization.apply(model)?.0)
}

/// Describes which weights of a model are quantized, and how.
///
/// By default these are the weights of all of Burn's convolutional and linear layers, and of any
/// other module with parameters of two or more dimensions. Embeddings are not quantized. The output
/// channels are the first dimension of a weight, except that they are the second dimension in
/// linear layers, in transposed convolutions and in other weights of two dimensions. In a
/// transposed convolution of several groups, the output channels at the same place in each group
/// share the parameters of [`PerChannel`](crate::Granularity::PerChannel).
///
/// After [`apply`](Self::apply), `layer.weight.val()` returns quantized weights wherever Burn's
/// layers read them. The parameters of the quantizers are trained, saved and put into parameter
/// groups with those of the model, under `<weight>.quant_weight`. [`quantizers`](crate::quantizers)
/// finds the quantizers, and `model.materialize()` replaces the weights by their quantized values.
/// Load a record of the model in full precision before quantizing it. To load it into the quantized
/// model instead, use [`allow_partial(true)`](burn::store::ModuleRecord::allow_partial) and
/// calibrate the quantizers afterwards.
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::Device};
/// use quant_core::{Levels, Method, QuantizerConfig, Role, WeightQuantization};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     hidden: Linear,
///     classifier: Linear,
/// }
///
/// let device = Device::flex();
/// let net = Net {
///     hidden: LinearConfig::new(16, 8).init(&device),
///     classifier: LinearConfig::new(8, 4).init(&device),
/// };
/// let bits = |bits| Levels::from_bits(bits);
/// let two = QuantizerConfig::new(Method::Lsq, Role::Weight, bits(2)?);
/// let eight = QuantizerConfig::new(Method::Lsq, Role::Weight, bits(8)?);
/// let quantization = WeightQuantization::new(two).with("classifier.weight", eight);
/// let (net, report) = quantization.apply(net)?;
/// println!("{report}");
/// assert_eq!(report.weights.len(), 2);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub struct WeightQuantization<'a> {
    config: QuantizerConfig,
    select: Box<dyn Fn(&str) -> bool + 'a>,
    exceptions: Vec<(String, QuantizerConfig)>,
    calibration: Calibration,
}

/// What was done with the weights of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WeightReport {
    /// The weights that have quantizers now.
    pub weights: Vec<ReportedWeight>,
    /// The paths of the weights that could have a quantizer but have none.
    pub left: Vec<String>,
}

/// A weight that was quantized.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedWeight {
    /// The path of the weight.
    pub path: String,
    /// The shape of the weight.
    pub shape: Vec<usize>,
    /// The configuration of its quantizer.
    pub config: QuantizerConfig,
    /// The number of groups that have parameters of their own.
    pub groups: usize,
    /// The result of the calibration, or `None` for methods that calibrate nothing.
    pub calibration: Option<CalibrationInfo>,
}

impl Display for WeightReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for ReportedWeight { path, shape, config, groups, calibration } in &self.weights {
            let (method, levels) = (config.method, config.levels.count());
            write!(f, "{path} {shape:?}: {method}, {levels} levels, {groups} groups")?;
            if let Some(info) = calibration {
                write!(f, ", relative squared error {}", significant(info.error_after, 2))?;
            }
            writeln!(f)?;
        }
        if self.left.is_empty() {
            Ok(())
        } else {
            writeln!(f, "in full precision: {}", self.left.join(", "))
        }
    }
}

impl<'a> WeightQuantization<'a> {
    /// Returns a description that quantizes all weights by `config`, whose role is
    /// [`Role::Weight`].
    pub fn new(config: QuantizerConfig) -> Self {
        let calibration = Calibration::default();
        Self { config, select: Box::new(|_| true), exceptions: Vec::new(), calibration }
    }

    /// Quantizes only the weights whose paths `select` chooses.
    #[must_use]
    pub fn only(mut self, select: impl Fn(&str) -> bool + 'a) -> Self {
        self.select = Box::new(select);
        self
    }

    /// Quantizes the weight at `path` by a configuration of its own, whether or not it is selected.
    #[must_use]
    pub fn with(mut self, path: impl Into<String>, config: QuantizerConfig) -> Self {
        self.exceptions.push((path.into(), config));
        self
    }

    /// Sets how the initial clipping values are found.
    #[must_use]
    pub fn calibrated_by(mut self, calibration: Calibration) -> Self {
        self.calibration = calibration;
        self
    }

    /// Puts the quantizers on the weights of `model` and calibrates them on these weights. Weights
    /// that already have a quantizer get the new configuration and are calibrated again.
    ///
    /// # Errors
    /// - The errors of [`QuantizerConfig::init`], for the first weight that a configuration does
    ///   not fit.
    /// - [`QuantizerError::Option`] for a configuration of another role.
    /// - [`QuantizerError::NoWeight`] where nothing is selected, and for a path that the model does
    ///   not have.
    pub fn apply<M: Module>(self, model: M) -> Result<(M, WeightReport), QuantizerError> {
        let configs = self.exceptions.iter().map(|(_, config)| config);
        for config in configs.chain([&self.config]) {
            if config.role != Role::Weight {
                return Err(QuantizerError::Option {
                    option: "role".into(),
                    value: config.role.to_string(),
                    accepted: "expected weight, because these quantizers are put on weights",
                });
            }
        }
        let found = weights(&model);
        let absent = |wanted: Option<String>| QuantizerError::NoWeight {
            wanted,
            weights: found.iter().map(|weight| weight.path.clone()).collect(),
        };
        let mut exceptions = self.exceptions.iter().map(|(path, _)| path);
        if let Some(path) = exceptions.find(|path| found.iter().all(|w| w.path != **path)) {
            return Err(absent(Some(path.clone())));
        }
        let mut report = WeightReport::default();
        let mut fresh = Vec::new();
        let mut again = Vec::new();
        for weight in &found {
            let exception = self.exceptions.iter().rfind(|(path, _)| *path == weight.path);
            let config = match exception {
                Some((_, config)) => config,
                None if (self.select)(&weight.path) => &self.config,
                None => {
                    if !weight.quantized {
                        report.left.push(weight.path.clone());
                    }
                    continue;
                }
            };
            if weight.quantized {
                again.push((weight, config));
            } else {
                fresh.push((weight, config));
            }
        }
        if fresh.is_empty() && again.is_empty() {
            return Err(absent(None));
        }
        let mut result = Ok(());
        let attach = Attach {
            chosen: &fresh,
            calibration: self.calibration,
            report: &mut report,
            result: &mut result,
        };
        let model = model.apply_reparameterization(attach);
        result?;
        let model = reconfigure(model, &again, self.calibration, &mut report)?;
        // The report lists the weights in the order of the model.
        let place = |path: &String| found.iter().position(|weight| weight.path == *path);
        report.weights.sort_by_key(|weight| place(&weight.path));
        Ok((model, report))
    }
}

/// Gives new quantizers to weights that already have one.
fn reconfigure<M: Module>(
    model: M,
    chosen: &[(&Weight, &QuantizerConfig)],
    calibration: Calibration,
    report: &mut WeightReport,
) -> Result<M, QuantizerError> {
    let values = quantized_weights(&model);
    let mut result = Ok(());
    let model = change_quantizers(model, |path, quantizer| {
        let of = |owner: &str| path.strip_suffix(".quant_weight") == Some(owner);
        let Some((weight, config)) = chosen.iter().find(|(weight, _)| of(&weight.path)) else {
            return;
        };
        if result.is_ok() {
            result = quantizer.reconfigure(config, false).map(drop);
        }
        if let (Ok(()), Some(value)) = (&result, values.iter().find(|v| v.reached.path == path)) {
            let info = quantizer.calibrate_on(value.weight.clone(), calibration);
            report.weights.push(reported(weight, quantizer, info));
        }
    });
    result.map(|()| model)
}

fn reported(
    weight: &Weight,
    quantizer: &Quantizer,
    calibration: Option<CalibrationInfo>,
) -> ReportedWeight {
    ReportedWeight {
        path: weight.path.clone(),
        shape: weight.shape.clone(),
        config: quantizer.config().clone(),
        groups: quantizer.groups(),
        calibration,
    }
}

struct Attach<'a> {
    chosen: &'a [(&'a Weight, &'a QuantizerConfig)],
    calibration: Calibration,
    report: &'a mut WeightReport,
    result: &'a mut Result<(), QuantizerError>,
}

impl Reparameterizer for Attach<'_> {
    type Reparam = Quantizer;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Quantizer>) {
        let chosen = self.chosen.iter().find(|(weight, _)| weight.full_path == path);
        let Some((weight, config)) = chosen.filter(|_| self.result.is_ok()) else {
            return (param, None);
        };
        let value = param.val();
        let mut site = Site::weight(format!("{path}.quant_weight"), weight.shape.clone());
        site.channel_axis = weight.channel_axis;
        match config.init(&site, &value.device()) {
            Ok(mut quantizer) => {
                let info = quantizer.calibrate_on(value.detach(), self.calibration);
                self.report.weights.push(reported(weight, &quantizer, info));
                (param, Some(quantizer))
            }
            Err(error) => {
                *self.result = Err(error);
                (param, None)
            }
        }
    }
}

/// Modules whose parameters are not quantized: lookup tables, and layers with their own weight
/// quantizers.
const NOT_QUANTIZED: [&str; 3] = ["Embedding", "QuantConv2d", "QuantLinear"];

/// A weight that can be quantized.
struct Weight {
    /// The path without the names of enum variants.
    path: String,
    /// The path with the names of enum variants.
    full_path: String,
    shape: Vec<usize>,
    channel_axis: usize,
    /// Whether the weight has a quantizer.
    quantized: bool,
}

/// Returns the weights of a module that can be quantized.
fn weights<M: Module>(module: &M) -> Vec<Weight> {
    struct Weights {
        /// The names of the modules on the path, with their container types.
        path: Vec<(String, String)>,
        found: Vec<Weight>,
    }
    impl ModuleVisitor for Weights {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            if container_type == "Reparameterization"
                && let Some(last) = self.found.last_mut()
            {
                last.quantized = name == Quantizer::NAME;
            }
            self.path.push((name.to_owned(), container_type.to_owned()));
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let container = self.path.last().map_or("", |(_, container)| container.as_str());
            let kind = container.strip_prefix("Struct:").unwrap_or(container);
            let inside = self.path.iter().any(|(_, kind)| kind == "Reparameterization");
            if D < 2 || inside || NOT_QUANTIZED.contains(&kind) {
                return;
            }
            let join = |named: &dyn Fn(&str) -> bool| {
                let parts = self.path.iter().filter(|(_, container)| named(container));
                parts.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(".")
            };
            self.found.push(Weight {
                path: join(&|container| !container.starts_with("Enum:")),
                full_path: join(&|_| true),
                shape: param.lazy_shape().to_vec(),
                channel_axis: usize::from(D == 2 || kind.starts_with("ConvTranspose")),
                quantized: false,
            });
        }
    }
    let mut weights = Weights { path: Vec::new(), found: Vec::new() };
    module.visit(&mut weights);
    weights.found
}
