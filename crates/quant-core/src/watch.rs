//! Observes what reaches the quantizers of a model while a function runs: to calibrate them, to
//! inspect them, and to let them warm up.

use std::collections::HashSet;

use burn::{
    module::{Module, ParamId},
    tensor::{Device, Tensor, TensorData},
};

use crate::{
    calibrate::{Calibration, CalibrationInfo, Samples},
    host::{self, data},
    quantizer::Quantizer,
    reach::{Reached, change_quantizers, name_quantizers, quantizers},
    scope::{TrainingCall, calls, inputs, training_call},
};

impl TrainingCall {
    /// Returns the model with updated clipping values in the quantizers that warm up, as
    /// [`Quantizer::set_warm_up`] says.
    pub fn settle<M: Module>(&self, model: M) -> M {
        if !self.has_warmed_up() {
            return model;
        }
        change_quantizers(model, |_, quantizer| {
            if let Some(largest) = self.largest(quantizer.id()) {
                quantizer.settle(largest);
            }
        })
    }
}

/// Runs one training call of `model`, whose loss, `[1]`, `run` computes. Returns the loss with the
/// losses of the quantizers added ([`Quantizer::set_loss`]), and the model after the call, in which
/// the quantizers that warm up have followed their inputs ([`Quantizer::set_warm_up`]).
///
/// A training loop takes the gradients of the loss by the parameters of the returned model. A loop
/// whose quantizers neither warm up nor have losses does not need this function.
/// [`training_call`] is for loops that need both steps apart from each other.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{Levels, Method, QuantizerConfig, Role, Site, training_loss};
///
/// let device = Device::flex().autodiff();
/// let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::from_bits(2)?);
/// let mut model = config.init(&Site::activation("quant", 1), &device)?;
/// model.set_warm_up(2, 1.0, 0);
/// for largest in [4.0, 2.0] {
///     let x = Tensor::<1>::from_floats([0.5, largest], &device);
///     let (settled, loss) = training_loss(model, |model| model.forward(x).mean());
///     assert_eq!(loss.into_scalar::<f32>(), (0.5 + largest) / 2.0, "x passes through");
///     model = settled;
/// }
/// assert_eq!(model.warm_up_left(), 0);
/// assert_eq!(model.learned_values("clip_val"), Some(vec![3.0]));
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn training_loss<M: Module>(model: M, run: impl FnOnce(&M) -> Tensor<1>) -> (M, Tensor<1>) {
    let (loss, mut call) = training_call(|| run(&model));
    let loss = call.add_losses(loss);
    (call.settle(model), loss)
}

/// The inputs that a quantizer had while [`record`] ran.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The quantizer, and its path.
    pub reached: Reached,
    samples: Samples,
}

impl Recorded {
    /// Returns a sample of the inputs, at most 8192 per group. Where the method normalises its
    /// input, the values are normalised.
    pub fn values(self) -> Vec<f32> {
        self.samples.values()
    }

    /// Returns the codes of a sample of the inputs, equally many for each group, or `None` where
    /// the sample is too small.
    pub fn codes(self, device: &Device) -> Option<Vec<u8>> {
        let samples = self.samples.by_group();
        let quantizer = &self.reached.quantizer;
        let of_group = (quantizer.channels() / samples.len()).max(1);
        let fewest = samples.iter().map(Vec::len).min()?;
        let positions = fewest / of_group;
        if positions == 0 {
            return None;
        }
        let kept = samples.iter().flat_map(|group| &group[..positions * of_group]);
        let values: Vec<f32> = kept.copied().collect();
        let shape = [1, samples.len() * of_group, positions, 1];
        let values = Tensor::<1>::from_floats(values.as_slice(), device).reshape(shape);
        Some(host::codes(quantizer.codes(values).codes))
    }
}

fn ids(chosen: &[Reached]) -> HashSet<ParamId> {
    chosen.iter().map(|reached| reached.quantizer.id()).collect()
}

/// Returns the quantizers of `model` that `select` chooses.
fn chosen<M: Module>(model: &M, select: impl Fn(&Reached) -> bool) -> Vec<Reached> {
    quantizers(model).into_iter().filter(select).collect()
}

/// Records the inputs of those quantizers of `model` that `select` chooses, while `run` calls the
/// model. The quantizers continue to quantize. The result leaves out quantizers that had no input.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{Levels, Method, QuantizerConfig, Role, Site, record};
///
/// let device = Device::flex();
/// let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::from_bits(2)?);
/// let model = config.init(&Site::activation("quant", 3), &device)?;
/// let x = Tensor::<2>::from_floats([[0.1, 0.5, 2.0]], &device);
/// let recorded = record(&model, |_| true, |model| {
///     model.forward(x);
/// });
/// assert_eq!(recorded[0].clone().values(), [0.1, 0.5, 2.0]);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn record<M: Module>(
    model: &M,
    select: impl Fn(&Reached) -> bool,
    run: impl FnOnce(&M),
) -> Vec<Recorded> {
    let chosen = chosen(model, select);
    let mut samples = inputs(ids(&chosen), false, || run(model));
    let seen = chosen.into_iter().filter_map(|reached| {
        let samples = samples.remove(&reached.quantizer.id())?;
        Some(Recorded { reached, samples })
    });
    seen.collect()
}

/// The tensors of one quantizer in one call in evaluation.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Name of the layer.
    pub layer: String,
    /// The tensors by name: `before-quant`, `after-quant`, and the quantizer's learned parameters
    /// and running values.
    pub tensors: Vec<(String, TensorData)>,
}

/// Returns the last evaluation call of each quantizer of `model` that `select` chooses, while `run`
/// calls the model. The result leaves out quantizers that were not called.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{Levels, Method, QuantizerConfig, Role, Site, probe};
///
/// let device = Device::flex();
/// let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::BINARY);
/// let model = config.init(&Site::activation("quant", 3), &device)?;
/// let x = Tensor::<2>::from_floats([[0.1, 0.7, 2.0]], &device);
/// let probes = probe(&model, |_| true, |model| {
///     model.forward(x);
/// });
/// let (name, after) = &probes[0].tensors[1];
/// assert_eq!(name, "after-quant");
/// assert_eq!(after.iter::<f32>().collect::<Vec<_>>(), [0.0, 1.0, 1.0]);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn probe<M: Module>(
    model: &M,
    select: impl Fn(&Reached) -> bool,
    run: impl FnOnce(&M),
) -> Vec<Probe> {
    let chosen = chosen(model, select);
    let mut last = calls(ids(&chosen), || run(model));
    let probes = chosen.into_iter().filter_map(|Reached { quantizer, .. }| {
        let (before, after) = last.remove(&quantizer.id())?;
        let seen = [("before-quant", before), ("after-quant", after)];
        let learned = quantizer.learned().into_iter();
        let learned = learned.map(|l| (l.name, data(l.value.val())));
        let running = quantizer.running().into_iter().map(|(name, value)| (name, data(value)));
        let tensors = seen.into_iter().chain(learned).chain(running);
        let tensors = tensors.map(|(name, data)| (name.to_owned(), data)).collect();
        Some(Probe { layer: quantizer.name().to_owned(), tensors })
    });
    probes.collect()
}

/// Calibrates those quantizers of `model` that `select` chooses, on their inputs while `run` calls
/// the model. Meanwhile the chosen quantizers pass their inputs through unchanged, and the others
/// quantize. [`calibrate`](crate::calibrate()) is the short form for all quantizers.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{Calibration, Levels, Method, QuantizerConfig, Role, Site, calibrate_where};
///
/// let device = Device::flex();
/// let config = |role| QuantizerConfig::new(Method::Lsq, role, Levels::BINARY);
/// let quantizer = |role, name| config(role).init(&Site::activation(name, 3), &device);
/// let model = [quantizer(Role::Activation, "in")?, quantizer(Role::Output, "out")?];
/// let x = Tensor::<2>::from_floats([[0.5, 1.0, 2.0]], &device);
/// let outputs = |quantizer: &quant_core::Quantizer| quantizer.config().role == Role::Output;
/// let (model, found) = calibrate_where(model, outputs, Calibration::MinMax, |[first, last]| {
///     last.forward(first.forward(x));
/// });
/// // The first quantizer clips at its default of 1, and keeps it.
/// assert_eq!(found.len(), 1);
/// assert_eq!((found[0].layer.as_str(), &found[0].after[..]), ("out", &[1.0][..]));
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn calibrate_where<M: Module>(
    model: M,
    select: impl Fn(&Quantizer) -> bool,
    calibration: Calibration,
    run: impl FnOnce(&M),
) -> (M, Vec<CalibrationInfo>) {
    let evaluated = model.valid();
    calibrate_by_calls(model, &evaluated, select, calibration, run)
}

/// Calibrates quantizers as [`calibrate_where`] does, but `run` gets a copy of the model as it is
/// in training: batch norms use the statistics of the batch. This is right for a model whose
/// weights are random, because its running statistics do not fit its activations yet. The model's
/// own running statistics do not change. Tensors have to be on a device with autodiff.
///
/// ```
/// use burn::{module::Module, nn::{BatchNorm, BatchNormConfig}, tensor::{Device, Tensor}};
/// use quant_core::{
///     Calibration, Levels, Method, Quantizer, QuantizerConfig, Role, Site, calibrate_in_training,
/// };
///
/// #[derive(Module, Debug)]
/// struct Net {
///     norm: BatchNorm,
///     quant: Quantizer,
/// }
///
/// let device = Device::flex().autodiff();
/// let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::BINARY);
/// let quant = config.init(&Site::activation("quant", 1), &device)?;
/// let model = Net { norm: BatchNormConfig::new(1).init(&device), quant };
/// // The norm makes -1 and 1 of these numbers, of which the quantizer gets the positive ones.
/// let x = Tensor::<1>::from_floats([0.0, 200.0], &device).reshape([2, 1, 1]);
/// let (_, found) = calibrate_in_training(model, |_| true, Calibration::MinMax, |model| {
///     model.quant.forward(model.norm.forward(x));
/// });
/// assert!((found[0].after[0] - 1.0).abs() < 1e-4);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn calibrate_in_training<M: Module>(
    model: M,
    select: impl Fn(&Quantizer) -> bool,
    calibration: Calibration,
    run: impl FnOnce(&M),
) -> (M, Vec<CalibrationInfo>) {
    let trained = model.valid().train();
    calibrate_by_calls(model, &trained, select, calibration, run)
}

/// Calibrates the chosen quantizers of `model` on their inputs while `run` calls `copy`.
fn calibrate_by_calls<M: Module>(
    model: M,
    copy: &M,
    select: impl Fn(&Quantizer) -> bool,
    calibration: Calibration,
    run: impl FnOnce(&M),
) -> (M, Vec<CalibrationInfo>) {
    let chosen =
        chosen(&model, |reached| reached.quantizer.calibrates() && select(&reached.quantizer));
    let samples = inputs(ids(&chosen), true, || run(copy));
    let mut infos = Vec::new();
    let model = change_quantizers(model, |_, quantizer| {
        if let Some(samples) = samples.get(&quantizer.id()) {
            infos.extend(quantizer.calibrate_by(samples, calibration));
        }
    });
    (model, infos)
}

/// Calibrates every quantizer of `model` (for activations, outputs and weights) on its inputs while
/// `forward` is called with each of `batches`. Meanwhile all quantizers pass their inputs through
/// unchanged, so that the model runs in full precision. Each quantizer is named by its path.
///
/// Returns the model and the results, in the order of the model's fields. A quantizer that had no
/// input, or whose method calibrates nothing, stays as it is and has no result.
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::{Device, Tensor}};
/// use quant_core::{
///     Calibration, Levels, Method, Quantizer, QuantizerConfig, Role, Site, calibrate,
/// };
///
/// #[derive(Module, Debug)]
/// struct Net {
///     quant: Quantizer,
///     fc: Linear,
/// }
///
/// let device = Device::flex();
/// let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::from_bits(2)?);
/// let quant = config.init(&Site::activation("quant", 8), &device)?;
/// let net = Net { quant, fc: LinearConfig::new(8, 4).init(&device) };
/// let batches = [Tensor::<2>::ones([3, 8], &device)];
/// let (net, infos) = calibrate(net, Calibration::MinMax, batches, |net, x| {
///     net.fc.forward(net.quant.forward(x))
/// });
/// assert_eq!(infos[0].after, [1.0]);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn calibrate<M: Module, B, O>(
    model: M,
    calibration: Calibration,
    batches: impl IntoIterator<Item = B>,
    forward: impl Fn(&M, B) -> O,
) -> (M, Vec<CalibrationInfo>) {
    calibrate_where(
        name_quantizers(model),
        |_| true,
        calibration,
        |model| {
            for batch in batches {
                forward(model, batch);
            }
        },
    )
}
