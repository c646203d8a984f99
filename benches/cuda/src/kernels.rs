//! Every kernel of `quant-cube`, for each type, vector, layout and width of addresses.

use std::sync::Arc;

use cubecl::{
    ir::{ElemType, FloatKind},
    prelude::*,
};
use cubecl_runtime::kernel::{CubeKernel, KernelDefinition};
use quant_cube::{
    Groups, batch_norm,
    quantize::{self, Kind},
    update,
};
use quant_kernels::quantize::{Rule, SignSlope};

use crate::device::{properties, view};

/// A type of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    F32,
    F16,
    BF16,
}

impl Type {
    pub const ALL: [Type; 3] = [Type::F32, Type::F16, Type::BF16];

    pub fn elem(self) -> ElemType {
        ElemType::Float(match self {
            Type::F32 => FloatKind::F32,
            Type::F16 => FloatKind::F16,
            Type::BF16 => FloatKind::BF16,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Type::F32 => "f32",
            Type::F16 => "f16",
            Type::BF16 => "bf16",
        }
    }

    /// Returns the number of elements in 16 bytes, which is the longest vector.
    fn widest(self) -> usize {
        match self {
            Type::F32 => 4,
            Type::F16 | Type::BF16 => 8,
        }
    }
}

/// The properties that a kernel is compiled for, beside those of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    pub elements: Type,
    /// The type of results, and of their gradients.
    pub results: Type,
    pub parameters: Type,
    pub vector: usize,
    pub wide_addresses: bool,
    pub groups: Groups,
    /// The number of columns that a block sums next to each other.
    pub width: usize,
    /// Whether the gradient lies in memory in another order than x.
    pub strided: bool,
}

impl Variant {
    fn address(self) -> AddressType {
        if self.wide_addresses { AddressType::U64 } else { AddressType::U32 }
    }

    pub fn name(self) -> String {
        let results = if self.results == self.elements {
            String::new()
        } else {
            format!("to_{}_", self.results.name())
        };
        format!(
            "{}_{results}{}_v{}_{}_{:?}{}{}",
            self.elements.name(),
            self.parameters.name(),
            self.vector,
            if self.wide_addresses { "u64" } else { "u32" },
            self.groups,
            self.width,
            if self.strided { "_strided" } else { "" },
        )
        .to_lowercase()
    }
}

/// A kernel to compile.
pub struct Kernel {
    pub name: String,
    pub define: Box<dyn Fn() -> KernelDefinition>,
}

/// The number of threads of a block.
pub const UNITS: usize = 256;

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
        ("table15", Rule::Table { thresholds: 15 }),
        ("sign_one", Rule::Sign { slope: SignSlope::One }),
        ("sign_box", Rule::Sign { slope: SignSlope::Box }),
        ("sign_triangle", Rule::Sign { slope: SignSlope::Triangle }),
    ]
}

fn plain(
    length: usize,
) -> RuntimeArg<cubecl::std::tensor::layout::linear::LinearView<'static, f32>> {
    view(&[length], &[1])
}

/// The number of elements in the declared tensors. Kernels do not depend on it.
const LENGTH: usize = 4096;

fn tensor(strided: bool) -> cubecl::std::tensor::layout::linear::LinearViewLaunch {
    if strided { view(&[2, 64, 32], &[2048, 1, 64]) } else { view(&[LENGTH], &[1]) }
}

macro_rules! kernel {
    ($kernel:path, $variant:expr, $units:expr, $($argument:expr),* $(,)?) => {{
        use $kernel as kernel;
        kernel::create_dummy_kernel(
            properties(),
            Arc::new(TargetProperties::default()),
            CubeCount::new_1d(1),
            CubeDim::new_1d($units as u32),
            $variant.address(),
            $($argument),*
        )
        .define()
    }};
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
        rule.parameters(),
        v.groups,
        Kind::of(rule),
        v.elements.elem(),
        v.results.elem(),
        v.parameters.elem(),
    )
}

/// Defines the kernel that differentiates a quantizer. If `alone`, one block sums each column.
pub fn backward(rule: Rule, v: Variant, alone: bool) -> KernelDefinition {
    let [steps, lowest, highest, ewgs] = quantize::numbers(rule);
    let rescaled = matches!(rule, Rule::Clip { rescale: true, .. });
    kernel!(
        quantize::backward_kernel,
        v,
        UNITS,
        v.vector,
        plain(LENGTH),
        plain(rule.parameters()),
        plain(1),
        tensor(v.strided),
        plain(LENGTH),
        plain(LENGTH),
        plain(LENGTH),
        1,
        1,
        1,
        1,
        1,
        steps,
        lowest,
        highest,
        ewgs,
        1.0,
        rule.parameters(),
        quantize::terms(rule),
        rescaled,
        alone,
        v.groups,
        v.width,
        UNITS,
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
        quantize::terms(rule),
        units,
        v.parameters.elem(),
    )
}

/// Defines the kernel that computes moments of parts of channels.
pub fn moments(v: Variant) -> KernelDefinition {
    kernel!(
        batch_norm::moments_kernel,
        v,
        UNITS,
        v.vector,
        tensor(v.strided),
        plain(LENGTH),
        1,
        1,
        1,
        1,
        1,
        v.groups,
        v.width,
        UNITS,
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
pub fn gradient_sums(v: Variant, relu: bool) -> KernelDefinition {
    kernel!(
        batch_norm::gradient_sums_kernel,
        v,
        UNITS,
        v.vector,
        plain(LENGTH),
        plain(LENGTH),
        tensor(v.strided),
        plain(LENGTH),
        plain(LENGTH),
        1,
        1,
        1,
        1,
        1,
        relu,
        v.groups,
        v.width,
        UNITS,
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

/// Returns the variants of kernels that compute element by element. Launches read rows by vectors
/// or as `Any`.
pub fn elementwise() -> Vec<Variant> {
    let layouts = [(Groups::One, 1), (Groups::Rows, 1), (Groups::Columns, 1), (Groups::Any, 1)];
    let mut all = variants(&layouts);
    all.retain(|v| v.groups != Groups::Rows || v.vector > 1);
    all
}

/// Returns the variants of kernels that sum over groups.
pub fn summing() -> Vec<Variant> {
    let layouts =
        [(Groups::One, 1), (Groups::Rows, 1), (Groups::Columns, 1), (Groups::Columns, 32)];
    let narrow = |v: Variant| match v.groups {
        Groups::Columns => Variant { vector: v.vector.min(4), ..v },
        _ => v,
    };
    variants(&layouts).into_iter().map(narrow).collect()
}

fn variants(layouts: &[(Groups, usize)]) -> Vec<Variant> {
    let mut all = Vec::new();
    for elements in Type::ALL {
        for (groups, width) in layouts.iter().copied() {
            let plain = |parameters, vector, wide_addresses| Variant {
                elements,
                results: elements,
                parameters,
                vector,
                wide_addresses,
                groups,
                width,
                strided: false,
            };
            all.push(plain(Type::F32, 1, false));
            all.push(plain(elements, elements.widest(), true));
            all.push(Variant { strided: true, ..plain(Type::F32, 1, true) });
            all.push(plain(Type::F32, elements.widest(), false));
            // What a quantizer writes for a convolution, and what a norm reads from one.
            let others = match elements {
                Type::F32 => vec![Type::F16, Type::BF16],
                Type::F16 | Type::BF16 => vec![Type::F32],
            };
            for results in others {
                all.push(Variant { results, ..plain(Type::F32, 4, false) });
            }
        }
    }
    all.dedup();
    all
}

/// Returns whether `Tiling` chooses such a variant for this number of sums.
pub fn fits(v: Variant, sums: usize) -> bool {
    v.groups != Groups::Columns || v.vector == 1 || (v.vector <= 4 && v.vector * sums <= 8)
}

/// Returns all kernels.
pub fn all() -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut add = |name: String, define: Box<dyn Fn() -> KernelDefinition>| {
        kernels.push(Kernel { name, define });
    };
    for (name, rule) in rules() {
        for v in elementwise() {
            add(format!("forward_{name}_{}", v.name()), Box::new(move || forward(rule, v)));
        }
        for v in summing() {
            if fits(v, quantize::terms(rule)) {
                for (ending, alone) in [("", false), ("_alone", true)] {
                    let name = format!("backward_{name}_{}{ending}", v.name());
                    add(name, Box::new(move || backward(rule, v, alone)));
                }
            }
        }
    }
    for (name, rule) in rules() {
        for v in elementwise().into_iter().filter(|v| v.groups == Groups::One && !v.strided) {
            add(format!("finish_{name}_{}", v.name()), Box::new(move || finish(rule, v, UNITS)));
        }
    }
    for v in elementwise() {
        for (adds, relu) in [(false, false), (false, true), (true, false), (true, true)] {
            let name = format!("{}_{}{}", v.name(), u8::from(adds), u8::from(relu));
            add(format!("normalize_{name}"), Box::new(move || normalize(v, adds, relu)));
            add(format!("input_gradient_{name}"), Box::new(move || input_gradient(v, adds, relu)));
        }
    }
    for v in summing() {
        if fits(v, 2) {
            add(format!("moments_{}", v.name()), Box::new(move || moments(v)));
        }
        if fits(v, 2) {
            for relu in [false, true] {
                let name = format!("gradient_sums_{}_{}", v.name(), u8::from(relu));
                add(name, Box::new(move || gradient_sums(v, relu)));
            }
        }
    }
    for v in elementwise().into_iter().filter(|v| v.groups == Groups::One && !v.strided) {
        for units in [32, UNITS] {
            let name = format!("{}_{units}", v.name());
            add(format!("statistics_{name}"), Box::new(move || statistics(v, units, true)));
            add(
                format!("parameter_gradients_{name}"),
                Box::new(move || parameter_gradients(v, units)),
            );
        }
    }
    for v in elementwise().into_iter().filter(|v| v.groups == Groups::One && !v.strided) {
        for count in [1, update::most(2)] {
            for is_first in [false, true] {
                let name = format!("adam{count}_{}_{}", v.name(), u8::from(is_first));
                add(name, Box::new(move || adam(v, count, is_first)));
            }
        }
        for count in [1, update::most(1)] {
            for (nesterov, is_first) in [(false, false), (true, false), (false, true)] {
                let [nesterov_name, first_name] = [nesterov, is_first].map(u8::from);
                let name = format!("sgd{count}_{}_{nesterov_name}{first_name}", v.name());
                add(name, Box::new(move || sgd(v, count, nesterov, is_first)));
            }
        }
    }
    kernels
}
