//! The kernels of batch norms.

use cubecl_runtime::kernel::KernelDefinition;
use quant_cube::{Groups, Sums, batch_norm};

use super::define::{Kernel, LENGTH, kernel, path, plain, tensor};
use crate::variant::{MOST_UNITS, UNITS, Variant, elementwise, fits, summing};

/// Defines the kernel that computes moments of parts of channels.
pub fn moments(v: Variant, units: usize) -> KernelDefinition {
    kernel!(
        batch_norm::moments_kernel,
        v,
        units,
        v.vector,
        tensor(v.strided),
        plain(LENGTH),
        path(),
        v.groups,
        v.width,
        units,
        v.elements.elem(),
    )
}

/// Defines the kernel that computes mean and variance, and the running values if `tracks`.
pub fn statistics(v: Variant, units: usize, tracks: bool) -> KernelDefinition {
    kernel!(
        batch_norm::statistics_kernel,
        v,
        units,
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        1,
        1,
        1e-5,
        0.9,
        0.1,
        1.0,
        tracks,
        units,
        v.parameters.elem(),
    )
}

/// Defines the kernel that normalises.
pub fn normalize(v: Variant, adds: bool, relu: bool) -> KernelDefinition {
    kernel!(
        batch_norm::normalize_kernel,
        v,
        UNITS,
        v.vector,
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        tensor(v.strided),
        plain(LENGTH),
        1,
        1,
        adds,
        relu,
        v.groups,
        v.elements.elem(),
        v.results.elem(),
        v.parameters.elem(),
    )
}

/// Defines the kernel that sums the gradients of channels.
pub fn gradient_sums(v: Variant, relu: bool, units: usize) -> KernelDefinition {
    kernel!(
        batch_norm::gradient_sums_kernel,
        v,
        units,
        v.vector,
        plain(LENGTH),
        plain(LENGTH),
        tensor(v.strided),
        plain(LENGTH),
        plain(LENGTH),
        path(),
        relu,
        v.groups,
        v.width,
        units,
        v.elements.elem(),
        v.results.elem(),
    )
}

/// Defines the kernel that computes the gradients of scale and shift.
pub fn parameter_gradients(v: Variant, units: usize) -> KernelDefinition {
    kernel!(
        batch_norm::parameter_gradients_kernel,
        v,
        units,
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        1,
        1,
        1.0,
        1e-5,
        units,
        v.parameters.elem(),
    )
}

/// Defines the kernel that computes the gradient of the input of a batch norm.
pub fn input_gradient(v: Variant, adds: bool, relu: bool) -> KernelDefinition {
    kernel!(
        batch_norm::input_gradient_kernel,
        v,
        UNITS,
        v.vector,
        plain(LENGTH),
        plain(LENGTH),
        tensor(v.strided),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        1,
        1,
        adds,
        relu,
        v.groups,
        v.elements.elem(),
        v.results.elem(),
    )
}

pub(super) fn all() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for v in elementwise() {
        for (adds, relu) in [(false, false), (false, true), (true, false), (true, true)] {
            let name = format!("{}_{}{}", v.name(), u8::from(adds), u8::from(relu));
            let define = move || normalize(v, adds, relu);
            kernels.push(Kernel::new(format!("normalize_{name}"), define));
            let define = move || input_gradient(v, adds, relu);
            kernels.push(Kernel::new(format!("input_gradient_{name}"), define));
        }
    }
    for v in summing().into_iter().filter(|v| fits(*v, Sums::in_registers(2))) {
        let large = v.takes_large_blocks().then_some(("_large", MOST_UNITS));
        for (ending, units) in [("", UNITS)].into_iter().chain(large) {
            let name = format!("{}{ending}", v.name());
            kernels.push(Kernel::new(format!("moments_{name}"), move || moments(v, units)));
            for relu in [false, true] {
                let name = format!("gradient_sums_{name}_{}", u8::from(relu));
                kernels.push(Kernel::new(name, move || gradient_sums(v, relu, units)));
            }
        }
    }
    for v in elementwise().into_iter().filter(|v| v.groups == Groups::One && !v.strided) {
        for units in [32, UNITS] {
            let name = format!("{}_{units}", v.name());
            let define = move || statistics(v, units, true);
            kernels.push(Kernel::new(format!("statistics_{name}"), define));
            let define = move || parameter_gradients(v, units);
            kernels.push(Kernel::new(format!("parameter_gradients_{name}"), define));
        }
    }
    kernels
}
