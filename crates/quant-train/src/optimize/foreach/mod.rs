//! Optimizer steps of several parameters in one launch, which PyTorch calls `foreach`.
//!
//! Burn's optimizers get one parameter after the other. On a GPU, a [`Foreach`] goes through them
//! twice: the first time it gathers their tensors, then it computes the steps of all of them, and
//! the second time it hands out the results.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::{GradientsParams, ModuleOptimizer},
    tensor::{DType, Device, Tensor},
};

#[cfg(feature = "cube")]
mod cube;
mod tensors;

pub(crate) use tensors::{AdamRule, Kept, SgdStep, Step};
use tensors::{Computed, Gathered};

/// The steps of several parameters. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Foreach(Arc<Mutex<Stage>>);

#[derive(Debug, Default)]
enum Stage {
    /// Every parameter is computed on its own.
    #[default]
    Each,
    /// Tensors are gathered.
    Gathering(Vec<Gathered>),
    /// Results are handed out, in the order in which the tensors were gathered.
    Computed(VecDeque<Computed>),
}

impl Foreach {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next weight of a parameter and what the optimizer keeps of it, or the present
    /// ones while tensors are gathered. Returns nothing if every parameter is computed on its own.
    pub(crate) fn next<const D: usize>(
        &self,
        weight: &Tensor<D>,
        gradient: &Tensor<D>,
        kept: Option<Kept<Tensor<D>>>,
    ) -> Option<(Tensor<D>, Option<Kept<Tensor<D>>>)> {
        match &mut *self.stage() {
            Stage::Each => None,
            Stage::Gathering(gathered) => {
                gathered.push(Gathered {
                    weight: weight.clone().into_dispatch(),
                    gradient: gradient.clone().into_dispatch(),
                    kept: kept.clone().map(|kept| kept.map(Tensor::into_dispatch)),
                });
                Some((weight.clone(), kept))
            }
            Stage::Computed(computed) => {
                let Computed { weight, kept } = computed.pop_front()?;
                Some((Tensor::from_dispatch(weight), Some(kept.map(Tensor::from_dispatch))))
            }
        }
    }

    /// Performs a step of the parameters that have gradients. Where no kernel computes several
    /// parameters at once, the optimizer computes each on its own.
    pub(crate) fn step<M: Module>(
        &self,
        optimizer: &mut ModuleOptimizer,
        (rate, step): (f64, Step),
        network: M,
        gradients: GradientsParams,
    ) -> M {
        let to = GradientsParams::new();
        let mut copied = Copied { from: &gradients, to, device: None, known: true };
        network.visit(&mut copied);
        let Copied { to, known, .. } = copied;
        if !known || !step.is_known() {
            return optimizer.step(rate, network, gradients);
        }
        *self.stage() = Stage::Gathering(Vec::new());
        // The network that this returns is the same.
        optimizer.step(rate, network.clone(), to);
        let gathered = match std::mem::take(&mut *self.stage()) {
            Stage::Gathering(gathered) => gathered,
            Stage::Each | Stage::Computed(_) => Vec::new(),
        };
        *self.stage() = Stage::Computed(compute(gathered, step.at(rate)));
        let network = optimizer.step(rate, network, gradients);
        *self.stage() = Stage::Each;
        network
    }
}

/// Copies handles of gradients, and finds out whether kernels compute them together.
struct Copied<'a> {
    from: &'a GradientsParams,
    to: GradientsParams,
    device: Option<Device>,
    known: bool,
}

impl ModuleVisitor for Copied<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.known {
            return;
        }
        if let Some(gradient) = self.from.get::<D>(param.id) {
            // The tensors of a launch are on one device, and have one type.
            let device = gradient.device();
            let types = [gradient.dtype(), param.val().dtype()];
            self.known = is_known(&gradient)
                && types == [DType::F32; 2]
                && self.device.get_or_insert_with(|| device.clone()) == &device;
            self.to.register::<D>(param.id, gradient);
        }
    }
}

#[cfg(feature = "cube")]
use cube::{compute, is_known};

#[cfg(not(feature = "cube"))]
fn is_known<const D: usize>(_gradient: &Tensor<D>) -> bool {
    false
}

#[cfg(not(feature = "cube"))]
fn compute(_gathered: Vec<Gathered>, _step: Step) -> VecDeque<Computed> {
    VecDeque::new()
}
