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
    module::ParamId,
    tensor::{Tensor, TensorData},
};

use crate::{calibrate::Samples, host::data, site::Grouping};

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
    /// ([`Quantizer::set_loss`](crate::Quantizer::set_loss)), `[1]`.
    pub fn add_losses(&mut self, loss: Tensor<1>) -> Tensor<1> {
        self.losses.drain(..).fold(loss, |loss, term| loss + term)
    }

    /// Whether a quantizer has warmed up.
    pub fn has_warmed_up(&self) -> bool {
        !self.largest.is_empty()
    }

    /// The largest magnitude that a quantizer saw while it warmed up, `[1]`.
    pub(crate) fn largest(&self, id: ParamId) -> Option<Tensor<1>> {
        self.largest.get(&id).cloned()
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

/// The inputs of the quantizers that are `wanted`, which may pass them on unquantized, while something
/// runs.
pub(crate) fn inputs(
    wanted: HashSet<ParamId>,
    pass: bool,
    run: impl FnOnce(),
) -> HashMap<ParamId, Samples> {
    let opened = Opened::new(Scope::Inputs { wanted, pass, samples: HashMap::new() });
    run();
    match opened.close() {
        Some(Scope::Inputs { samples, .. }) => samples,
        _ => HashMap::new(),
    }
}

/// Input and output of the last evaluation call of the quantizers that are `wanted`, while something
/// runs.
pub(crate) fn calls(
    wanted: HashSet<ParamId>,
    run: impl FnOnce(),
) -> HashMap<ParamId, (TensorData, TensorData)> {
    let opened = Opened::new(Scope::Calls { wanted, last: HashMap::new() });
    run();
    match opened.close() {
        Some(Scope::Calls { last, .. }) => last,
        _ => HashMap::new(),
    }
}
