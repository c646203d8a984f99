//! The kernels of optimizers.

use cubecl_runtime::kernel::KernelDefinition;
use quant_cube::{Groups, update};

use super::define::{Kernel, LENGTH, kernel, plain};
use crate::variant::{UNITS, Variant, elementwise};

/// Defines the kernel that computes the SGD step of `count` parameters.
pub fn sgd(v: Variant, count: usize, nesterov: bool, is_first: bool) -> KernelDefinition {
    let views = || (0..count).map(|_| plain(LENGTH)).collect();
    let outputs = || (0..count).map(|_| plain(LENGTH)).collect();
    kernel!(
        update::sgd_kernel,
        v,
        UNITS,
        views(),
        views(),
        views(),
        outputs(),
        outputs(),
        (0..count).collect(),
        0.1,
        1e-4,
        0.9,
        count,
        nesterov,
        is_first,
        UNITS,
        v.parameters.elem(),
    )
}

/// Defines the kernel that computes the step of Adam of `count` parameters.
pub fn adam(v: Variant, count: usize, is_first: bool) -> KernelDefinition {
    let views = || (0..count).map(|_| plain(LENGTH)).collect();
    let outputs = || (0..count).map(|_| plain(LENGTH)).collect();
    kernel!(
        update::adam_kernel,
        v,
        UNITS,
        views(),
        views(),
        views(),
        views(),
        outputs(),
        outputs(),
        outputs(),
        (0..count).collect(),
        0.1,
        1.0,
        1.0,
        1e-4,
        0.1,
        0.999,
        0.001,
        1e-8,
        count,
        is_first,
        UNITS,
        v.parameters.elem(),
    )
}

pub(super) fn all() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for v in elementwise().into_iter().filter(|v| v.groups == Groups::One && !v.strided) {
        for count in [1, update::most(2)] {
            for is_first in [false, true] {
                let name = format!("adam{count}_{}_{}", v.name(), u8::from(is_first));
                kernels.push(Kernel::new(name, move || adam(v, count, is_first)));
            }
        }
        for count in [1, update::most(1)] {
            for (nesterov, is_first) in [(false, false), (true, false), (false, true)] {
                let [nesterov_name, first_name] = [nesterov, is_first].map(u8::from);
                let name = format!("sgd{count}_{}_{nesterov_name}{first_name}", v.name());
                kernels.push(Kernel::new(name, move || sgd(v, count, nesterov, is_first)));
            }
        }
    }
    kernels
}
