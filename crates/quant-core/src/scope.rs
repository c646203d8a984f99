//! Scopes: what quantizers do in addition to quantizing while a function runs. They sample their
//! inputs, keep their last call, and collect what training adds to the loss.
//!
//! `forward` borrows a quantizer immutably, and models are cloned freely, so quantizers cannot hold
//! this state themselves. Instead, a scope belongs to the thread that opened it and ends with the
//! call that it was opened for. A scope does not see quantizers that run on other threads.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use burn::{
    module::ParamId,
    tensor::{Tensor, TensorData},
};

use crate::{calibrate::Samples, host::data, site::Grouping};

/// The purpose of a scope, and what it has collected.
enum Scope {
    /// Collects samples of the inputs of the `wanted` quantizers, which pass them through
    /// unquantized where `pass` is set.
    Inputs { wanted: HashSet<ParamId>, pass: bool, samples: HashMap<ParamId, Samples> },
    /// Keeps the input and the output of the last evaluation call of the `wanted` quantizers.
    Calls { wanted: HashSet<ParamId>, last: HashMap<ParamId, (TensorData, TensorData)> },
    /// Collects what training calls add.
    Training(TrainingCall),
}

thread_local! {
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

/// Closes the scope with this index and all later ones when it is dropped, also after a panic.
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

/// Returns whether a scope collects the inputs or calls of this quantizer.
pub(crate) fn looks_at(id: ParamId) -> bool {
    SCOPES.with_borrow(|scopes| {
        scopes.iter().any(|scope| match scope {
            Scope::Inputs { wanted, .. } | Scope::Calls { wanted, .. } => wanted.contains(&id),
            Scope::Training(_) => false,
        })
    })
}

/// Samples an input in the scopes that collect it, as the tensor that the method presents for it.
/// Returns whether the input has to pass through unquantized.
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

/// Stores a call in evaluation in the scopes that keep it.
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

/// Adds a loss to the innermost training call, if there is one.
pub(crate) fn add_loss(term: impl FnOnce() -> Tensor<1>) {
    training(|call| call.losses.push(term()));
}

/// Stores the largest magnitude that a quantizer saw in a call of its warm-up.
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

/// What the quantizers of a model add to a training call: losses on their quantization error, and
/// the largest inputs of those that warm up.
#[derive(Debug, Default)]
pub struct TrainingCall {
    losses: Vec<Tensor<1>>,
    largest: HashMap<ParamId, Tensor<1>>,
}

impl TrainingCall {
    /// Returns the sum of `loss` and the losses of the quantizers that have one
    /// ([`Quantizer::set_loss`](crate::Quantizer::set_loss)), of shape `[1]`.
    pub fn add_losses(&mut self, loss: Tensor<1>) -> Tensor<1> {
        self.losses.drain(..).fold(loss, |loss, term| loss + term)
    }

    /// Returns whether a quantizer was in its warm-up in this call.
    pub fn has_warmed_up(&self) -> bool {
        !self.largest.is_empty()
    }

    /// Returns the largest magnitude that a quantizer saw in a call of its warm-up, `[1]`.
    pub(crate) fn largest(&self, id: ParamId) -> Option<Tensor<1>> {
        self.largest.get(&id).cloned()
    }
}

/// Runs one training call of a model whose quantizers warm up or have losses. Returns the result of
/// `run` and what the quantizers add.
///
/// ```
/// # use burn::tensor::{Device, Tensor};
/// # use quant_core::{
/// #     Levels, Method, QuantizationLoss, QuantizerConfig, Role, Site, training_call,
/// # };
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

/// Samples the inputs of the `wanted` quantizers while `run` runs. With `pass` they pass their
/// inputs through unquantized.
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

/// Returns the input and output of the last evaluation call of each of the `wanted` quantizers
/// while `run` runs.
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
