//! The launches on GPUs, whose kernels are in `quant-cube`.

use std::collections::{BTreeMap, VecDeque};

use burn::{
    backend::{
        Backend, Dispatch, DispatchDevice, ExtensionType, backend_extension, tensor::FloatTensor,
    },
    tensor::{DType, Tensor},
};
use burn_cubecl::{CubeBackend, cubecl::client::Client};
use quant_core::ops::{operand, tensor};
use quant_cube::{
    Operand,
    update::{self, Adam, Parameter, Sgd, Updated},
};

use super::tensors::{AdamRule, Computed, Gathered, Kept, SgdStep, Step};

/// The tensors of a parameter. SGD keeps only the first of the last two.
#[derive(Debug, ExtensionType)]
#[extension_type(fusion)]
pub(crate) struct Slot<B: Backend> {
    pub(crate) weight: FloatTensor<B>,
    pub(crate) gradient: FloatTensor<B>,
    pub(crate) first: FloatTensor<B>,
    pub(crate) second: FloatTensor<B>,
}

/// The next values of a parameter.
#[derive(Debug, ExtensionType)]
#[extension_type(fusion)]
pub(crate) struct Next<B: Backend> {
    pub(crate) weight: FloatTensor<B>,
    pub(crate) first: FloatTensor<B>,
    pub(crate) second: FloatTensor<B>,
}

/// The parameters of a call. Where it has fewer, the last one is repeated.
#[derive(Debug, ExtensionType)]
#[extension_type(fusion)]
pub(crate) struct Slots<B: Backend> {
    #[extension_type]
    pub(crate) a: Slot<B>,
    #[extension_type]
    pub(crate) b: Slot<B>,
    #[extension_type]
    pub(crate) c: Slot<B>,
    #[extension_type]
    pub(crate) d: Slot<B>,
    #[extension_type]
    pub(crate) e: Slot<B>,
}

/// The next values of the parameters of a call.
#[derive(Debug, ExtensionType)]
#[extension_type(fusion)]
pub(crate) struct Nexts<B: Backend> {
    #[extension_type]
    pub(crate) a: Next<B>,
    #[extension_type]
    pub(crate) b: Next<B>,
    #[extension_type]
    pub(crate) c: Next<B>,
    #[extension_type]
    pub(crate) d: Next<B>,
    #[extension_type]
    pub(crate) e: Next<B>,
}

/// The number of slots.
const SLOTS: usize = 5;

const _: () = assert!(update::most(1) <= SLOTS && update::most(2) <= SLOTS);

/// Optimizer steps of several parameters.
#[backend_extension(Cube, Fusion)]
pub(crate) trait UpdateOps: Backend {
    /// Returns the next values of the first `count` parameters, and any values of the others.
    /// `steps` is the number of steps that were taken before: before the first one, the tensors
    /// that the optimizer keeps are any tensors.
    #[fusion(meta = |slots, _step, _steps, _count| {
        let next = |slot: &SlotMetadata| NextMetadata {
            weight: slot.weight.clone(),
            first: slot.weight.clone(),
            second: slot.weight.clone(),
        };
        NextsMetadata {
            a: next(&slots.a),
            b: next(&slots.b),
            c: next(&slots.c),
            d: next(&slots.d),
            e: next(&slots.e),
        }
    })]
    fn update_step(
        #[extension_type] slots: Slots<Self>,
        step: Step,
        steps: usize,
        count: usize,
    ) -> Nexts<Self>;
}

impl UpdateOps for CubeBackend {
    fn update_step(slots: Slots<Self>, step: Step, steps: usize, count: usize) -> Nexts<Self> {
        let Slots { a, b, c, d, e } = slots;
        let slots = [a, b, c, d, e];
        let mut nexts = match step {
            Step::Sgd(SgdStep { rate, decay, momentum, nesterov }) => {
                let step = Sgd { rate, decay, momentum, nesterov, is_first: steps == 0 };
                let kept = |slot: &Slot<Self>| [operand(slot.first.clone())];
                updated(&slots[..count], kept, |client, chunk| update::sgd(client, chunk, step))
            }
            Step::Adam { rate, rule } => {
                let AdamRule { beta1, beta2, epsilon, weight_decay: decay, decoupled } = rule;
                let step = Adam { rate, beta1, beta2, epsilon, decay, decoupled, step: steps + 1 };
                let kept =
                    |slot: &Slot<Self>| [&slot.first, &slot.second].map(|of| operand(of.clone()));
                updated(&slots[..count], kept, |client, chunk| update::adam(client, chunk, step))
            }
        }
        .into_iter();
        let mut next = |slot: usize| {
            let weight = || slots[slot].weight.clone();
            let unused = || Next { weight: weight(), first: weight(), second: weight() };
            nexts.next().unwrap_or_else(unused)
        };
        Nexts { a: next(0), b: next(1), c: next(2), d: next(3), e: next(4) }
    }
}

/// Returns the next values of all parameters, of which `compute` takes as many at a time as the
/// device allows.
fn updated<const KEPT: usize>(
    slots: &[Slot<CubeBackend>],
    kept: impl Fn(&Slot<CubeBackend>) -> [Operand; KEPT],
    compute: impl Fn(&Client, &[Parameter<KEPT>]) -> Vec<Updated<KEPT>>,
) -> Vec<Next<CubeBackend>> {
    let Some(Slot { weight, .. }) = slots.first() else {
        return Vec::new();
    };
    let parameter = |slot: &Slot<CubeBackend>| Parameter {
        weight: operand(slot.weight.clone()),
        gradient: operand(slot.gradient.clone()),
        kept: kept(slot),
    };
    let parameters: Vec<Parameter<KEPT>> = slots.iter().map(parameter).collect();
    let together = update::most_on(&weight.client, KEPT);
    let all = parameters.chunks(together).flat_map(|chunk| compute(&weight.client, chunk));
    let next = |(Updated { weight, kept }, slot): (Updated<KEPT>, &Slot<CubeBackend>)| {
        let as_weight = |output| tensor(output, slot.weight.dtype, &slot.weight);
        let mut kept = kept.into_iter().map(as_weight);
        let mut kept = || kept.next().unwrap_or_else(|| slot.weight.clone());
        Next { weight: as_weight(weight), first: kept(), second: kept() }
    };
    all.zip(slots).map(next).collect()
}

/// Returns whether a kernel updates several parameters with such gradients.
pub(super) fn is_known<const D: usize>(gradient: &Tensor<D>) -> bool {
    let known = matches!(gradient.dtype(), DType::F32 | DType::F16 | DType::BF16);
    let device = gradient.device().without_autodiff();
    known && matches!(device.as_dispatch(), DispatchDevice::Cube(_))
}

/// Computes the steps of all parameters: together those of which the optimizer took equally many
/// steps before.
pub(super) fn compute(gathered: Vec<Gathered>, step: Step) -> VecDeque<Computed> {
    let kept_tensors = match step {
        Step::Sgd(_) => 1,
        Step::Adam { .. } => 2,
    };
    let mut by_steps: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, Gathered { kept, .. }) in gathered.iter().enumerate() {
        let steps = kept.as_ref().map_or(0, |kept| kept.steps);
        by_steps.entry(steps).or_default().push(index);
    }
    let mut computed: Vec<Option<Computed>> = gathered.iter().map(|_| None).collect();
    for (steps, of) in by_steps {
        for indices in of.chunks(update::most(kept_tensors)) {
            let mut slots = (0..SLOTS).map(|slot| {
                let Gathered { weight, gradient, kept } =
                    &gathered[indices[slot.min(indices.len() - 1)]];
                let first = kept.as_ref().map_or(gradient, |kept| &kept.first);
                let second = kept.as_ref().and_then(|kept| kept.second.as_ref());
                Slot {
                    weight: weight.clone(),
                    gradient: gradient.clone(),
                    first: first.clone(),
                    second: second.unwrap_or(first).clone(),
                }
            });
            let mut slot = || slots.next().expect("as many slots as SLOTS");
            let slots = Slots { a: slot(), b: slot(), c: slot(), d: slot(), e: slot() };
            let count = indices.len();
            let Nexts { a, b, c, d, e } =
                <Dispatch as UpdateOps>::update_step(slots, step, steps, count);
            for (index, next) in indices.iter().zip([a, b, c, d, e]) {
                let Next { weight, first, second } = next;
                let second = (kept_tensors == 2).then_some(second);
                computed[*index] =
                    Some(Computed { weight, kept: Kept { first, second, steps: steps + 1 } });
            }
        }
    }
    computed.into_iter().flatten().collect()
}
