//! What quantizers are asked beside quantizing, while something runs: what reaches them, what they make
//! of it, and what training adds.
//!
//! `forward` borrows a quantizer immutably, and models are cloned freely. So nothing of this is kept in
//! quantizers: a scope belongs to the thread that opened it and ends with the call that it was opened
//! for. Quantizers that run on other threads meanwhile are not seen.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use burn::{
    module::{Module, ParamId},
    tensor::{Device, Tensor, TensorData},
};

use crate::{
    calibrate::{Calibration, CalibrationInfo, Samples},
    host::{self, data},
    quantizer::Quantizer,
    reach::{Reached, change_quantizers, quantizers},
    site::Grouping,
};

/// What a scope has seen.
enum Scope {
    /// Samples of the inputs of some quantizers, which may pass them on unquantized.
    Inputs { wanted: HashSet<ParamId>, pass: bool, samples: HashMap<ParamId, Samples> },
    /// The last evaluation call of some quantizers: input and output.
    Calls { wanted: HashSet<ParamId>, last: HashMap<ParamId, (TensorData, TensorData)> },
    /// What training calls add.
    Training(TrainingCall),
}

thread_local! {
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

/// Closes the scopes from one on, also where what they were opened for panics.
struct Opened(usize);

impl Opened {
    fn new(scope: Scope) -> Self {
        SCOPES.with_borrow_mut(|scopes| {
            scopes.push(scope);
            Self(scopes.len() - 1)
        })
    }

    fn close(self) -> Option<Scope> {
        SCOPES.with_borrow_mut(|scopes| scopes.drain(self.0..).next())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        SCOPES.with_borrow_mut(|scopes| scopes.truncate(self.0));
    }
}

/// Whether the inputs or calls of a quantizer are looked at.
pub(crate) fn looks_at(id: ParamId) -> bool {
    SCOPES.with_borrow(|scopes| {
        scopes.iter().any(|scope| match scope {
            Scope::Inputs { wanted, .. } | Scope::Calls { wanted, .. } => wanted.contains(&id),
            Scope::Training(_) => false,
        })
    })
}

/// Takes note of an input, of which the method is `presented` something; whether it is to pass
/// through unquantized.
pub(crate) fn input<const D: usize>(
    id: ParamId,
    grouping: Grouping,
    presented: impl Fn() -> Tensor<D>,
) -> bool {
    let wants =
        |scope: &Scope| matches!(scope, Scope::Inputs { wanted, .. } if wanted.contains(&id));
    if !SCOPES.with_borrow(|scopes| scopes.iter().any(wants)) {
        return false;
    }
    let presented = presented();
    SCOPES.with_borrow_mut(|scopes| {
        let mut passes = false;
        for scope in scopes.iter_mut() {
            if let Scope::Inputs { wanted, pass, samples } = scope
                && wanted.contains(&id)
            {
                samples.entry(id).or_default().add(&presented, grouping);
                passes |= *pass;
            }
        }
        passes
    })
}

/// Takes note of a call in evaluation.
pub(crate) fn call<const D: usize>(id: ParamId, x: &Tensor<D>, y: &Tensor<D>) {
    SCOPES.with_borrow_mut(|scopes| {
        for scope in scopes.iter_mut() {
            if let Scope::Calls { wanted, last } = scope
                && wanted.contains(&id)
            {
                last.insert(id, (data(x.clone().detach()), data(y.clone().detach())));
            }
        }
    });
}

/// Adds a loss to the training call that goes on, if one does.
pub(crate) fn add_loss(term: impl FnOnce() -> Tensor<1>) {
    training(|call| call.losses.push(term()));
}

/// Takes note of the largest magnitude that a quantizer saw while it warms up.
pub(crate) fn add_largest(id: ParamId, largest: impl FnOnce() -> Tensor<1>) {
    training(|call| {
        call.largest.insert(id, largest());
    });
}

fn training(change: impl FnOnce(&mut TrainingCall)) {
    SCOPES.with_borrow_mut(|scopes| {
        let innermost = scopes.iter_mut().rev().find_map(|scope| match scope {
            Scope::Training(call) => Some(call),
            _ => None,
        });
        if let Some(call) = innermost {
            change(call);
        }
    });
}

/// What a training call adds to a model's output: losses on the quantization error, and what warming
/// up quantizers have seen.
#[derive(Debug, Default)]
pub struct TrainingCall {
    losses: Vec<Tensor<1>>,
    largest: HashMap<ParamId, Tensor<1>>,
}

impl TrainingCall {
    /// `loss` and the losses of the quantizers that have one
    /// ([`Quantizer::set_loss`]), `[1]`.
    pub fn add_losses(&mut self, loss: Tensor<1>) -> Tensor<1> {
        self.losses.drain(..).fold(loss, |loss, term| loss + term)
    }

    /// Whether a quantizer has warmed up.
    pub fn has_warmed_up(&self) -> bool {
        !self.largest.is_empty()
    }

    /// The model with the clipping values of warming up quantizers moved, as
    /// [`Quantizer::set_warm_up`] says.
    pub fn settle<M: Module>(&self, model: M) -> M {
        if !self.has_warmed_up() {
            return model;
        }
        change_quantizers(model, |_, quantizer| {
            if let Some(largest) = self.largest.get(&quantizer.id()) {
                quantizer.settle(largest.clone());
            }
        })
    }
}

/// Runs one training call of a model whose quantizers warm up or have losses, and returns what it
/// returned and what its quantizers add.
///
/// ```
/// # use burn::tensor::{Device, Tensor};
/// # use quant_core::{Levels, Method, QuantizationLoss, QuantizerConfig, Role, Site, training_call};
/// # let device = Device::flex().autodiff();
/// # let config = QuantizerConfig::new(Method::Lsq, Role::Activation, Levels::BINARY);
/// # let mut quantizer = config.init(&Site::activation("a", 1), &device)?;
/// # let x = Tensor::<1>::from_floats([0.25, 0.75], &device);
/// quantizer.set_loss(Some((QuantizationLoss::L1, 2.0)));
/// let (y, mut call) = training_call(|| quantizer.forward(x));
/// let loss: f32 = call.add_losses(y.mean()).into_scalar();
/// // 0.25 became 0 and 0.75 became 1: a mean of 0.5, and twice a mean error of 0.25.
/// assert_eq!(loss, 0.5 + 2.0 * 0.25);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn training_call<R>(run: impl FnOnce() -> R) -> (R, TrainingCall) {
    let opened = Opened::new(Scope::Training(TrainingCall::default()));
    let result = run();
    match opened.close() {
        Some(Scope::Training(call)) => (result, call),
        _ => (result, TrainingCall::default()),
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

/// The inputs of some quantizers while something runs.
fn inputs(chosen: &[Reached], pass: bool, run: impl FnOnce()) -> HashMap<ParamId, Samples> {
    let (wanted, samples) = (ids(chosen), HashMap::new());
    let opened = Opened::new(Scope::Inputs { wanted, pass, samples });
    run();
    match opened.close() {
        Some(Scope::Inputs { samples, .. }) => samples,
        _ => HashMap::new(),
    }
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
    let mut samples = inputs(&chosen, false, || run(model));
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
    let opened = Opened::new(Scope::Calls { wanted: ids(&chosen), last: HashMap::new() });
    run(model);
    let Some(Scope::Calls { mut last, .. }) = opened.close() else { return Vec::new() };
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
    let samples = inputs(&chosen, true, || run(&evaluated));
    let mut infos = Vec::new();
    let model = change_quantizers(model, |_, quantizer| {
        if let Some(samples) = samples.get(&quantizer.id()) {
            infos.extend(quantizer.calibrate_by(samples, calibration));
        }
    });
    (model, infos)
}
