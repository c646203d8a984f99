//! What helps training along, whatever the method: proximal quantization, a loss on the quantization
//! error, probes.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{host::data, quantizer::Quantizer};

/// A loss on the difference between x and its quantized value y, means over the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuantizationLoss {
    /// mean |y - x|.
    L1,
    /// mean (y - x)².
    L2,
    /// |Σxy/Σy² - 1|: how far the least squares factor between x and y is from 1; 0 where y is all zero.
    Distribution,
}

impl QuantizationLoss {
    fn of<const D: usize>(self, x: Tensor<D>, y: Tensor<D>) -> Tensor<1> {
        match self {
            QuantizationLoss::L1 => (y - x).abs().mean(),
            QuantizationLoss::L2 => (y - x).square().mean(),
            QuantizationLoss::Distribution => {
                let squares = y.clone().square().sum();
                let none = squares.clone().detach().equal_elem(0.0);
                let factor = (x * y).sum() / squares.mask_fill(none.clone(), 1.0);
                (factor - 1.0).abs().mask_fill(none, 0.0)
            }
        }
    }
}

/// What a probe saw of one call in evaluation.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Name of the layer.
    pub layer: String,
    /// `before-quant`, `after-quant`, and the quantizer's parameters and running values by name.
    pub tensors: Vec<(String, TensorData)>,
}

/// The state of the aids. Clones share it, because `forward` borrows the quantizer immutably.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aids(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    proximal: f32,
    loss: Option<(QuantizationLoss, f32)>,
    terms: Vec<Tensor<1>>,
    probing: bool,
    seen: Option<(TensorData, TensorData)>,
}

impl Aids {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_proximal(&self, share: f32) {
        self.state().proximal = share;
    }

    pub(crate) fn set_loss(&self, loss: Option<(QuantizationLoss, f32)>) {
        let mut state = self.state();
        state.loss = loss;
        state.terms.clear();
    }

    /// The sum of the losses of all calls since the last time.
    pub(crate) fn take_loss(&self) -> Option<Tensor<1>> {
        let terms = std::mem::take(&mut self.state().terms);
        terms.into_iter().reduce(|sum, term| sum + term)
    }

    pub(crate) fn probe(&self) {
        let mut state = self.state();
        (state.probing, state.seen) = (true, None);
    }

    pub(crate) fn take_probe(&self) -> Option<(TensorData, TensorData)> {
        let mut state = self.state();
        state.probing = false;
        state.seen.take()
    }

    /// What a training call returns for x and its quantized value y.
    pub(crate) fn train<const D: usize>(&self, x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
        let mut state = self.state();
        if let Some((loss, factor)) = state.loss {
            let term = loss.of(x.clone(), y.clone()).mul_scalar(factor);
            state.terms.push(term);
        }
        match state.proximal {
            0.0 => y,
            share => x.mul_scalar(share) + y.mul_scalar(1.0 - share),
        }
    }

    /// Whether training calls return what the method computes, and nothing else.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        state.proximal == 0.0 && state.loss.is_none() && !state.probing
    }

    pub(crate) fn is_probing(&self) -> bool {
        self.state().probing
    }

    /// Takes note of an evaluation call.
    pub(crate) fn evaluate<const D: usize>(&self, x: &Tensor<D>, y: &Tensor<D>) {
        let of = |t: &Tensor<D>| data(t.clone().detach());
        self.state().seen = Some((of(x), of(y)));
    }
}

impl Quantizer {
    /// From now on training calls return share·x + (1 - share)·Q(x): proximal quantization (ProxQuant; Bai
    /// et al., ICLR 2019). Let `share`, 0 to 1, fall to 0 over training. Evaluation quantizes fully.
    pub fn set_proximal(&self, share: f32) {
        self.aids.set_proximal(share.clamp(0.0, 1.0));
    }

    /// From now on training calls add `factor` times this loss on their quantization error, to be
    /// [taken](Self::take_loss) after each step; `None` ends it.
    pub fn set_loss(&self, loss: Option<(QuantizationLoss, f32)>) {
        self.aids.set_loss(loss);
    }

    /// The losses of the training calls since the last time, summed, `[1]`: to add to the training loss.
    /// `None` where there were none.
    pub fn take_loss(&self) -> Option<Tensor<1>> {
        self.aids.take_loss()
    }

    /// Starts recording the last evaluation call's input and output.
    pub fn probe(&self) {
        self.aids.probe();
    }

    /// Ends [`probe`](Self::probe): what was seen, with the parameters it was seen with. `None` where
    /// there was no evaluation call.
    pub fn probed(&self) -> Option<Probe> {
        let (before, after) = self.aids.take_probe()?;
        let seen = [("before-quant", before), ("after-quant", after)];
        let learned = self.learned().into_iter();
        let learned = learned.map(|l| (l.name, data(l.value.val())));
        let running = self.running().into_iter().map(|(name, value)| (name, data(value)));
        let tensors = seen.into_iter().chain(learned).chain(running);
        let tensors = tensors.map(|(name, data)| (name.to_owned(), data)).collect();
        Some(Probe { layer: self.name().to_owned(), tensors })
    }
}
