//! The launches on GPUs, whose kernels are in `quant-cube`.

use std::collections::VecDeque;

use burn::{
    backend::{
        Backend, Dispatch, DispatchDevice, ExtensionType, backend_extension, tensor::FloatTensor,
    },
    tensor::{DType, Tensor},
};
use burn_cubecl::CubeBackend;
use quant_core::ops::{operand, tensor};
use quant_cube::update::{self, MOST, Parameter, Sgd, Updated};

use super::tensors::{Computed, Gathered, SgdStep};

/// The tensors of a parameter.
#[derive(Debug, ExtensionType)]
#[extension_type(fusion)]
pub(crate) struct Slot<B: Backend> {
    pub(crate) weight: FloatTensor<B>,
    pub(crate) gradient: FloatTensor<B>,
    pub(crate) velocity: FloatTensor<B>,
}

/// The next values of a parameter.
#[derive(Debug, ExtensionType)]
#[extension_type(fusion)]
pub(crate) struct Next<B: Backend> {
    pub(crate) weight: FloatTensor<B>,
    pub(crate) velocity: FloatTensor<B>,
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

/// Optimizer steps of several parameters.
#[backend_extension(Cube, Fusion)]
pub(crate) trait UpdateOps: Backend {
    /// Returns the next values of the first `count` parameters, and any values of the others.
    /// Without velocities, as `is_first` says, those that are given are any tensors.
    #[fusion(meta = |slots, _step, _is_first, _count| {
        let next = |slot: &SlotMetadata| NextMetadata {
            weight: slot.weight.clone(),
            velocity: slot.weight.clone(),
        };
        NextsMetadata {
            a: next(&slots.a),
            b: next(&slots.b),
            c: next(&slots.c),
            d: next(&slots.d),
            e: next(&slots.e),
        }
    })]
    fn sgd_step(
        #[extension_type] slots: Slots<Self>,
        step: SgdStep,
        is_first: bool,
        count: usize,
    ) -> Nexts<Self>;
}

impl UpdateOps for CubeBackend {
    fn sgd_step(slots: Slots<Self>, step: SgdStep, is_first: bool, count: usize) -> Nexts<Self> {
        let Slots { a, b, c, d, e } = slots;
        let slots = [a, b, c, d, e];
        let SgdStep { rate, decay, momentum, nesterov } = step;
        let step = Sgd { rate, decay, momentum, nesterov, is_first };
        let parameters: Vec<Parameter> = slots[..count]
            .iter()
            .map(|slot| Parameter {
                weight: operand(slot.weight.clone()),
                gradient: operand(slot.gradient.clone()),
                velocity: operand(slot.velocity.clone()),
            })
            .collect();
        let client = &slots[0].weight.client;
        let together = update::most(client);
        let updated =
            parameters.chunks(together).flat_map(|chunk| update::sgd(client, chunk, step));
        let mut nexts = updated.zip(&slots).map(|(Updated { weight, velocity }, slot)| {
            let as_weight = |output| tensor(output, slot.weight.dtype, &slot.weight);
            Next { weight: as_weight(weight), velocity: as_weight(velocity) }
        });
        let mut next = |slot: usize| {
            let unused = || Next {
                weight: slots[slot].weight.clone(),
                velocity: slots[slot].weight.clone(),
            };
            nexts.next().unwrap_or_else(unused)
        };
        Nexts { a: next(0), b: next(1), c: next(2), d: next(3), e: next(4) }
    }
}

/// Returns whether a kernel updates several parameters with such gradients.
pub(super) fn is_known<const D: usize>(gradient: &Tensor<D>) -> bool {
    let known = matches!(gradient.dtype(), DType::F32 | DType::F16 | DType::BF16);
    let device = gradient.device().without_autodiff();
    known && matches!(device.as_dispatch(), DispatchDevice::Cube(_))
}

/// Computes the steps of all parameters: together those that have a velocity, and together those
/// that have none yet.
pub(super) fn compute(gathered: Vec<Gathered>, step: SgdStep) -> VecDeque<Computed> {
    let mut computed: Vec<Option<Computed>> = gathered.iter().map(|_| None).collect();
    for is_first in [false, true] {
        let of: Vec<usize> = (0..gathered.len())
            .filter(|index| gathered[*index].velocity.is_none() == is_first)
            .collect();
        for indices in of.chunks(MOST) {
            let mut slots = (0..MOST).map(|slot| {
                let Gathered { weight, gradient, velocity } =
                    &gathered[indices[slot.min(indices.len() - 1)]];
                Slot {
                    weight: weight.clone(),
                    gradient: gradient.clone(),
                    velocity: velocity.clone().unwrap_or_else(|| gradient.clone()),
                }
            });
            let mut slot = || slots.next().expect("as many slots as MOST");
            let slots = Slots { a: slot(), b: slot(), c: slot(), d: slot(), e: slot() };
            let count = indices.len();
            let Nexts { a, b, c, d, e } =
                <Dispatch as UpdateOps>::sgd_step(slots, step, is_first, count);
            for (index, Next { weight, velocity }) in indices.iter().zip([a, b, c, d, e]) {
                computed[*index] = Some(Computed { weight, velocity });
            }
        }
    }
    computed.into_iter().flatten().collect()
}
