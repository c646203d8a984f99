//! What reaches the quantizers of a model while something runs: to calibrate them, to look at them, and
//! to let them warm up.

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
    scope::{TrainingCall, calls, inputs},
};

impl TrainingCall {
    /// The model with the clipping values of warming up quantizers moved, as
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

/// What a quantizer saw while [`record`] ran.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The quantizer.
    pub reached: Reached,
    samples: Samples,
}

impl Recorded {
    /// A sample of the inputs, normalised where the method does that, at most 8192 per group.
    pub fn values(self) -> Vec<f32> {
        self.samples.values()
    }

    /// The codes of a sample of the inputs, as many of each group. `None` where there are too few.
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

/// The quantizers of `model` that `select` wants.
fn chosen<M: Module>(model: &M, select: impl Fn(&Reached) -> bool) -> Vec<Reached> {
    quantizers(model).into_iter().filter(select).collect()
}

/// What reaches the quantizers of `model` that `select` wants while `run` calls it. They go on
/// quantizing. Quantizers that nothing reached are not among them.
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

/// What a probe saw of one call in evaluation.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Name of the layer.
    pub layer: String,
    /// `before-quant`, `after-quant`, and the quantizer's parameters and running values by name.
    pub tensors: Vec<(String, TensorData)>,
}

/// The last evaluation call of each quantizer of `model` that `select` wants, while `run` calls it.
/// Quantizers that were not called are not among them.
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

/// Calibrates the quantizers of `model` that `select` wants on what reaches them while `run` calls it.
/// Meanwhile these pass everything through, and the others quantize. [`calibrate`](crate::calibrate)
/// is the short form for all quantizers.
pub fn calibrate_where<M: Module>(
    model: M,
    select: impl Fn(&Quantizer) -> bool,
    calibration: Calibration,
    run: impl FnOnce(&M),
) -> (M, Vec<CalibrationInfo>) {
    let chosen =
        chosen(&model, |reached| reached.quantizer.calibrates() && select(&reached.quantizer));
    let evaluated = model.valid();
    let samples = inputs(ids(&chosen), true, || run(&evaluated));
    let mut infos = Vec::new();
    let model = change_quantizers(model, |_, quantizer| {
        if let Some(samples) = samples.get(&quantizer.id()) {
            infos.extend(quantizer.calibrate_by(samples, calibration));
        }
    });
    (model, infos)
}

/// Calibrates every quantizer of `model`, of activations, outputs and weights, on what reaches it
/// while `forward` is called with each of `batches`. Meanwhile they pass everything through: what
/// runs is the model in full precision. Quantizers get their paths as names.
///
/// Returns the model and what was found, in the order of the model's fields. A quantizer that
/// nothing reached, or whose method calibrates nothing, stays as it is and is not among them.
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
