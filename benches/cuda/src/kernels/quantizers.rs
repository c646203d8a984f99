//! The kernels of quantizers.

use cubecl_runtime::kernel::KernelDefinition;
use quant_cube::{
    Groups,
    quantize::{self, Kind},
};
use quant_kernels::quantize::{Rule, SignSlope};

use super::define::{Kernel, LENGTH, kernel, path, plain, tensor};
use crate::variant::{MOST_UNITS, UNITS, Variant, elementwise, fits, quantizing, summing};

/// Returns rules that together need every property that kernels are compiled for.
pub fn rules() -> Vec<(&'static str, Rule)> {
    let clip = |signed, rescale, learned_bound, ewgs| Rule::Clip {
        steps: 3.0,
        signed,
        rescale,
        learned_bound,
        ewgs,
    };
    vec![
        ("clip", clip(false, false, false, 0.0)),
        ("clip_signed", clip(true, false, false, 0.01)),
        ("clip_bound", clip(false, false, true, 0.0)),
        ("clip_rescaled", clip(true, true, false, 0.0)),
        ("step", Rule::Step { lowest: -2.0, highest: 1.0, ewgs: 0.01 }),
        ("slopes1", Rule::Slopes { pieces: 1, signed: false }),
        ("slopes3", Rule::Slopes { pieces: 3, signed: false }),
        ("slopes_signed", Rule::Slopes { pieces: 2, signed: true }),
        ("intervals3", Rule::Intervals { pieces: 3 }),
        ("intervals15", Rule::Intervals { pieces: 15 }),
        ("ternary", Rule::Ternary),
        ("table3", Rule::Table { thresholds: 3 }),
        ("table5", Rule::Table { thresholds: 5 }),
        ("table15", Rule::Table { thresholds: 15 }),
        ("sign_one", Rule::Sign { slope: SignSlope::One }),
        ("sign_box", Rule::Sign { slope: SignSlope::Box }),
        ("sign_triangle", Rule::Sign { slope: SignSlope::Triangle }),
    ]
}

/// Defines the kernel that quantizes.
pub fn forward(rule: Rule, v: Variant) -> KernelDefinition {
    let [steps, lowest, highest, _] = quantize::numbers(rule);
    kernel!(
        quantize::forward_kernel,
        v,
        UNITS,
        v.vector,
        tensor(v.strided),
        plain(rule.parameters()),
        plain(LENGTH),
        1,
        1,
        steps,
        lowest,
        highest,
        quantize::pieces(rule),
        rule.parameters(),
        v.groups,
        Kind::of(rule),
        v.elements.elem(),
        v.results.elem(),
        v.parameters.elem(),
    )
}

/// Defines the kernel that differentiates a quantizer, with at most `most` threads. If `alone`, one
/// block sums each column.
pub fn backward(rule: Rule, v: Variant, alone: bool, most: usize) -> KernelDefinition {
    let [steps, lowest, highest, ewgs] = quantize::numbers(rule);
    let rescaled = matches!(rule, Rule::Clip { rescale: true, .. });
    let sums = quantize::sums(rule);
    let units = sums.units(most);
    kernel!(
        quantize::backward_kernel,
        v,
        units,
        v.vector,
        plain(LENGTH),
        plain(rule.parameters()),
        plain(1),
        tensor(v.strided),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        path(),
        steps,
        lowest,
        highest,
        ewgs,
        1.0,
        rule.parameters(),
        sums.all(),
        sums.shared,
        rescaled,
        alone,
        v.groups,
        v.width,
        units,
        Kind::of(rule),
        v.elements.elem(),
        v.results.elem(),
        v.parameters.elem(),
    )
}

/// Defines the kernel that adds what blocks have summed.
pub fn finish(rule: Rule, v: Variant, units: usize) -> KernelDefinition {
    kernel!(
        quantize::finish_kernel,
        v,
        units,
        plain(LENGTH),
        plain(LENGTH),
        1,
        1,
        1.0,
        rule.parameters(),
        quantize::sums(rule).all(),
        units,
        v.parameters.elem(),
    )
}

/// Returns the variants of the kernel that differentiates a rule.
pub fn summing_of(rule: Rule) -> Vec<Variant> {
    let mut all = summing();
    all.retain(|v| fits(*v, quantize::sums(rule)));
    all
}

pub(super) fn all() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for (name, rule) in rules() {
        for v in quantizing() {
            let name = format!("forward_{name}_{}", v.name());
            kernels.push(Kernel::new(name, move || forward(rule, v)));
        }
        for v in summing_of(rule) {
            let name = format!("backward_{name}_{}", v.name());
            let mut add = |ending: &str, alone, most| {
                let define = move || backward(rule, v, alone, most);
                kernels.push(Kernel::new(format!("{name}{ending}"), define));
            };
            add("", false, UNITS);
            add("_alone", true, UNITS);
            let sums = quantize::sums(rule);
            if v.takes_large_blocks() && sums.units(MOST_UNITS) > sums.units(UNITS) {
                add("_alone_large", true, MOST_UNITS);
            }
        }
        for v in elementwise().into_iter().filter(|v| v.groups == Groups::One && !v.strided) {
            for units in [32, UNITS] {
                let name = format!("finish_{name}_{}_{units}", v.name());
                kernels.push(Kernel::new(name, move || finish(rule, v, units)));
            }
        }
    }
    kernels
}
