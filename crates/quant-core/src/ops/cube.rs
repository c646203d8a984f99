//! GPU kernels: one for each direction, compiled for the rule, by CubeCL for CUDA, ROCm, Vulkan, WebGPU and Metal. Elements are
//! loaded four at a time where groups allow it; arithmetic is in 32 bits, whatever the tensor's type.
//!
//! Divisions may be off by an ulp or two there: values near a threshold may take the next level.

use burn::backend::{
    TensorMetadata, cubecl::dtype_to_storage_type, ops::FloatTensorOps, tensor::FloatTensor,
};
use burn_cubecl::{
    CubeBackend, kernel::into_contiguous, ops::numeric::empty_device_dtype, tensor::CubeTensor,
};
use cubecl::{
    calculate_cube_count_elemwise,
    prelude::*,
    std::tensor::layout::linear::{LinearView, LinearViewMut},
};

use super::{Elementwise, QuantOps, Rule, SignSlope, reference};

/// Threads that share a group's elements, and leave a sum of each parameter's terms behind.
const THREADS: usize = 1 << 14;

/// The rule as far as kernels are compiled for it.
#[derive(CubeType, Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Kind {
    Clip(bool, bool),
    Step,
    Slopes(usize),
    SignedSlopes,
    Intervals(usize),
    Ternary,
    Table(usize),
    Sign(usize),
}

impl Kind {
    fn of(rule: Rule) -> Self {
        match rule {
            Rule::Clip { signed, learned_bound, .. } => Kind::Clip(signed, learned_bound),
            Rule::Step { .. } => Kind::Step,
            Rule::Slopes { signed: true, .. } => Kind::SignedSlopes,
            Rule::Slopes { pieces, .. } => Kind::Slopes(pieces),
            Rule::Intervals { pieces } => Kind::Intervals(pieces),
            Rule::Ternary => Kind::Ternary,
            Rule::Table { thresholds } => Kind::Table(thresholds),
            Rule::Sign { slope: SignSlope::One } => Kind::Sign(0),
            Rule::Sign { slope: SignSlope::Box } => Kind::Sign(1),
            Rule::Sign { slope: SignSlope::Triangle } => Kind::Sign(2),
        }
    }
}

/// Parameters with gradients: the first ones.
fn terms(rule: Rule) -> usize {
    match rule {
        Rule::Table { .. } | Rule::Sign { .. } => 1,
        Rule::Ternary => 2,
        rule => rule.parameters(),
    }
}

/// Steps, lowest, highest and d of element-wise gradient scaling.
fn numbers(rule: Rule) -> [f32; 4] {
    match rule {
        Rule::Clip { steps, signed, ewgs, .. } => {
            [steps, if signed { -1.0 } else { 0.0 }, 1.0, ewgs]
        }
        Rule::Step { lowest, highest, ewgs } => [highest - lowest, lowest, highest, ewgs],
        _ => [1.0, 0.0, 1.0, 0.0],
    }
}

#[cube]
fn parameter<F: Float>(parameters: &LinearView<'_, F>, at: usize) -> f32 {
    f32::cast_from(parameters.read(at))
}

#[cube]
fn limited(x: f32, lowest: f32, highest: f32) -> f32 {
    let raised = select(x < lowest, lowest, x);
    select(raised > highest, highest, raised)
}

#[cube]
fn between(x: f32, lowest: f32, highest: f32) -> bool {
    x > lowest && x < highest
}

/// R(clamp(u, 0, 1)).
#[cube]
fn unit_step(u: f32) -> f32 {
    f32::round(limited(u, 0.0f32, 1.0f32))
}

/// g·(1 + factor·sign(g)·(u - R(u))).
#[cube]
fn scaled_by_element(g: f32, u: f32, factor: f32) -> f32 {
    let sign = select(g > 0.0f32, 1.0f32, select(g < 0.0f32, -1.0f32, 0.0f32));
    g * (sign * ((u - f32::round(u)) * factor) + 1.0f32)
}

/// u of `Rule::Clip`.
#[cube]
fn clip_position(v: f32, #[comptime] signed: bool) -> f32 {
    if comptime!(signed) {
        (limited(v, -1.0f32, 1.0f32) + 1.0f32) * 0.5f32
    } else {
        limited(v, 0.0f32, 1.0f32)
    }
}

/// m·R(n·u)/n - z of `Rule::Clip`.
#[cube]
fn clip_level(v: f32, steps: f32, #[comptime] signed: bool) -> f32 {
    let parts = f32::round(clip_position(v, signed) * steps) / steps;
    if comptime!(signed) { parts * 2.0f32 - 1.0f32 } else { parts }
}

/// q of `Rule::Table`, whose parameters begin at `from`.
#[cube]
fn table_value<F: Float>(
    v: f32,
    parameters: &LinearView<'_, F>,
    from: usize,
    #[comptime] thresholds: usize,
) -> f32 {
    let mut y = parameter::<F>(parameters, from + 3 + thresholds);
    for index in 0..thresholds {
        let above = v > parameter::<F>(parameters, from + 3 + index);
        y = select(above, parameter::<F>(parameters, from + 4 + thresholds + index), y);
    }
    y
}

#[cube]
fn quantized<F: Float>(
    x: f32,
    parameters: &LinearView<'_, F>,
    from: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    #[comptime] kind: Kind,
) -> f32 {
    let first = parameter::<F>(parameters, from);
    let y = match kind {
        Kind::Clip(signed, _) => clip_level(x / first, steps, signed) * first,
        Kind::Step => {
            let offset = parameter::<F>(parameters, from + 1);
            f32::round(limited((x - offset) / first, lowest, highest)) * first + offset
        }
        Kind::Slopes(pieces) => {
            let mut y = unit_step(x * first);
            let mut start = 1.0f32 / first;
            for piece in 1..pieces {
                let slope = parameter::<F>(parameters, from + piece);
                y += unit_step((x - start) * slope);
                start += 1.0f32 / slope;
            }
            y
        }
        Kind::SignedSlopes => {
            let above = parameter::<F>(parameters, from + 1);
            f32::round(limited(x * first, -1.0f32, 0.0f32)) + unit_step(x * above)
        }
        Kind::Intervals(pieces) => {
            let mut y = 0.0f32;
            let mut start = parameter::<F>(parameters, from + 1);
            for piece in 0..pieces {
                let width = parameter::<F>(parameters, from + 2 + piece);
                y += unit_step((x - start) / width);
                start += width;
            }
            y * first
        }
        Kind::Ternary => {
            let negative = parameter::<F>(parameters, from + 1);
            let bound = parameter::<F>(parameters, from + 2);
            select(x > bound, first, select(x < -bound, -negative, 0.0f32))
        }
        Kind::Table(thresholds) => {
            table_value::<F>(x / first, parameters, from, thresholds) * first
        }
        Kind::Sign(_) => {
            let scale = parameter::<F>(parameters, from + 1);
            select(x - first < 0.0f32, -scale, scale)
        }
    };
    // What is not a number stays that.
    select(x == x, y, x)
}

/// The gradient of x, after which the parameters' terms are added to `sums`.
#[cube]
fn differentiated<F: Float>(
    x: f32,
    g: f32,
    parameters: &LinearView<'_, F>,
    from: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    ewgs: f32,
    factor: f32,
    sums: &mut Array<f32>,
    #[comptime] kind: Kind,
) -> f32 {
    let first = parameter::<F>(parameters, from);
    match kind {
        Kind::Clip(signed, bound) => {
            let v = x / first;
            let u = clip_position(v, signed) * steps;
            let passed = scaled_by_element(g, u, ewgs / steps);
            let passed = select(between(v, lowest, 1.0f32), passed, 0.0f32) * factor;
            if comptime!(bound) {
                sums[0] += select(v >= 1.0f32, g, 0.0f32);
            } else {
                sums[0] += g * clip_level(v, steps, signed) - passed * limited(v, lowest, 1.0f32);
            }
            passed
        }
        Kind::Step => {
            let at = (x - parameter::<F>(parameters, from + 1)) / first;
            let v = limited(at, lowest, highest);
            let passed = scaled_by_element(g, v, ewgs / steps);
            let passed = select(between(at, lowest, highest), passed, 0.0f32);
            sums[0] += g * f32::round(v) - passed * v;
            sums[1] += g - passed;
            passed
        }
        Kind::Slopes(pieces) => {
            let mut grad = 0.0f32;
            let mut start = 0.0f32;
            #[unroll]
            for piece in 0..pieces {
                let slope = parameter::<F>(parameters, from + piece);
                let inside = between((x - start) * slope, 0.0f32, 1.0f32);
                let passed = select(inside, g * slope, 0.0f32);
                #[unroll]
                for earlier in 0..piece {
                    let other = parameter::<F>(parameters, from + earlier);
                    sums[earlier] += passed / (other * other);
                }
                sums[piece] += select(inside, g * (x - start), 0.0f32);
                grad += passed;
                start += 1.0f32 / slope;
            }
            grad
        }
        Kind::SignedSlopes => {
            let above = parameter::<F>(parameters, from + 1);
            let in_below = between(x * first, -1.0f32, 0.0f32);
            let in_above = between(x * above, 0.0f32, 1.0f32);
            sums[0] += select(in_below, g * x, 0.0f32);
            sums[1] += select(in_above, g * x, 0.0f32);
            select(in_below, g * first, 0.0f32) + select(in_above, g * above, 0.0f32)
        }
        Kind::Intervals(pieces) => {
            let mut grad = 0.0f32;
            let mut integers = 0.0f32;
            let mut start = parameter::<F>(parameters, from + 1);
            #[unroll]
            for piece in 0..pieces {
                let width = parameter::<F>(parameters, from + 2 + piece);
                let u = (x - start) / width;
                let passed = select(between(u, 0.0f32, 1.0f32), g * (first / width), 0.0f32);
                #[unroll]
                for earlier in 0..piece {
                    sums[2 + earlier] -= passed;
                }
                sums[2 + piece] -= select(between(u, 0.0f32, 1.0f32), passed * u, 0.0f32);
                integers += unit_step(u);
                grad += passed;
                start += width;
            }
            sums[0] += g * integers;
            sums[1] -= grad;
            grad
        }
        Kind::Ternary => {
            let negative = parameter::<F>(parameters, from + 1);
            let bound = parameter::<F>(parameters, from + 2);
            let (above, below) = (x > bound, x < -bound);
            sums[0] += select(above, g, 0.0f32);
            sums[1] -= select(below, g, 0.0f32);
            g * select(above, first, select(below, negative, 1.0f32))
        }
        Kind::Table(thresholds) => {
            let v = x / first;
            let lowest = parameter::<F>(parameters, from + 1);
            let highest = parameter::<F>(parameters, from + 2);
            let inside = between(v, lowest, highest);
            let passed = select(inside, g, 0.0f32);
            let value = table_value::<F>(v, parameters, from, thresholds);
            sums[0] += g * value - passed * select(inside, v, 0.0f32);
            passed
        }
        Kind::Sign(slope) => {
            let at = f32::abs(x - first);
            let passed = if comptime!(slope == 0) {
                g
            } else if comptime!(slope == 1) {
                select(at < 1.0f32, g, 0.0f32)
            } else {
                select(at < 1.0f32, g * (at * -2.0f32 + 2.0f32), 0.0f32)
            };
            sums[0] -= passed;
            passed
        }
    }
}

#[cube(launch, address_type = "dynamic")]
fn forward_kernel<F: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    parameters: LinearView<'_, F>,
    mut y: LinearViewMut<'_, Vector<F, N>>,
    groups: usize,
    inner: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    #[comptime] count: usize,
    #[comptime] kind: Kind,
    #[define(F)] _dtype: ElemType,
) {
    if !y.is_in_bounds(ABSOLUTE_POS) {
        terminate!();
    }
    let from = (ABSOLUTE_POS / inner) % groups * count;
    let values = x.read(ABSOLUTE_POS);
    let mut out = values;
    #[unroll]
    for lane in 0..values.vector_size() {
        let x = f32::cast_from(values.extract(lane));
        let level = quantized::<F>(x, &parameters, from, steps, lowest, highest, kind);
        out.insert(lane, F::cast_from(level));
    }
    y.write(ABSOLUTE_POS, out);
}

#[cube(launch, address_type = "dynamic")]
fn backward_kernel<F: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    parameters: LinearView<'_, F>,
    factor: LinearView<'_, F>,
    grad: LinearView<'_, Vector<F, N>>,
    mut grad_x: LinearViewMut<'_, Vector<F, N>>,
    mut partial: LinearViewMut<'_, f32>,
    elements: usize,
    groups: usize,
    inner: usize,
    threads: usize,
    steps: f32,
    lowest: f32,
    highest: f32,
    ewgs: f32,
    #[comptime] count: usize,
    #[comptime] terms: usize,
    #[comptime] kind: Kind,
    #[define(F)] _dtype: ElemType,
) {
    let group = ABSOLUTE_POS / threads;
    if group >= groups {
        terminate!();
    }
    let from = group * count;
    let factor = parameter::<F>(&factor, 0);
    let mut sums = Array::<f32>::new(terms);
    #[unroll]
    for term in 0..terms {
        sums[term] = 0.0f32;
    }
    let mut element = ABSOLUTE_POS % threads;
    while element < elements {
        let at = (element / inner * groups + group) * inner + element % inner;
        let values = x.read(at);
        let gradients = grad.read(at);
        let mut out = gradients;
        #[unroll]
        for lane in 0..values.vector_size() {
            let passed = differentiated::<F>(
                f32::cast_from(values.extract(lane)),
                f32::cast_from(gradients.extract(lane)),
                &parameters,
                from,
                steps,
                lowest,
                highest,
                ewgs,
                factor,
                &mut sums,
                kind,
            );
            out.insert(lane, F::cast_from(passed));
        }
        grad_x.write(at, out);
        element += threads;
    }
    #[unroll]
    for term in 0..terms {
        partial.write(ABSOLUTE_POS * terms + term, sums[term]);
    }
}

/// How many elements are loaded together: those of one group.
fn vector_size(view: [usize; 3]) -> usize {
    let [outer, groups, inner] = view;
    let run = if groups == 1 { outer * inner } else { inner };
    if run.is_multiple_of(4) { 4 } else { 1 }
}

fn empty(like: &CubeTensor, shape: burn::tensor::Shape, dtype: burn::tensor::DType) -> CubeTensor {
    empty_device_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

impl QuantOps for CubeBackend {
    fn fake_quantize(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        operation: Elementwise,
    ) -> FloatTensor<Self> {
        let (x, parameters) = (into_contiguous(x), into_contiguous(parameters));
        let y = empty(&x, x.shape(), x.dtype);
        let Elementwise { rule, view: [outer, groups, inner] } = operation;
        let vector = vector_size(operation.view);
        let run = if groups == 1 { outer * inner } else { inner };
        let units = x.meta.num_elements() / vector;
        let dim = CubeDim::new(&x.client, units);
        let cubes = calculate_cube_count_elemwise(&x.client, units, dim);
        let [steps, lowest, highest, _] = numbers(rule);
        let (client, dtype) = (x.client.clone(), x.dtype);
        forward_kernel::launch(
            &client,
            cubes,
            dim,
            x.required_address_type(),
            vector,
            x.into_linear_view(),
            parameters.into_linear_view(),
            y.clone().into_linear_view(),
            groups,
            run / vector,
            steps,
            lowest,
            highest,
            rule.parameters(),
            Kind::of(rule),
            dtype_to_storage_type(dtype),
        );
        y
    }

    fn fake_quantize_backward(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        operation: Elementwise,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Elementwise { rule, view: [outer, groups, inner] } = operation;
        let factor = reference::rescale_factor::<Self>(x.clone(), parameters.clone(), operation);
        let (x, parameters) = (into_contiguous(x), into_contiguous(parameters));
        let (grad, factor) = (into_contiguous(grad), into_contiguous(factor));
        let grad_x = empty(&x, x.shape(), x.dtype);
        let vector = vector_size(operation.view);
        let (rows, run) = if groups == 1 { (1, outer * inner) } else { (outer, inner) };
        let elements = rows * run / vector;
        let threads = (THREADS / groups).clamp(1, elements);
        let (terms, count) = (terms(rule), rule.parameters());
        let float = burn::tensor::DType::F32;
        let partial = empty(&x, [groups, threads, terms].into(), float);
        let dim = CubeDim::new(&x.client, groups * threads);
        let cubes = calculate_cube_count_elemwise(&x.client, groups * threads, dim);
        let [steps, lowest, highest, ewgs] = numbers(rule);
        let (client, dtype) = (x.client.clone(), x.dtype);
        backward_kernel::launch(
            &client,
            cubes,
            dim,
            x.required_address_type(),
            vector,
            x.into_linear_view(),
            parameters.clone().into_linear_view(),
            factor.into_linear_view(),
            grad.into_linear_view(),
            grad_x.clone().into_linear_view(),
            partial.clone().into_linear_view(),
            elements,
            groups,
            run / vector,
            threads,
            steps,
            lowest,
            highest,
            ewgs,
            count,
            terms,
            Kind::of(rule),
            dtype_to_storage_type(dtype),
        );
        let sums = Self::float_sum_dim(partial, 1);
        let sums =
            Self::float_cast(Self::float_reshape(sums, [groups, terms].into()), dtype.into());
        let rest = [groups, count - terms];
        let grad_parameters = match count - terms {
            0 => sums,
            _ => {
                let zeros = Self::float_zeros(rest.into(), &grad_x.device(), dtype.into());
                Self::float_cat(vec![sums, zeros], 1)
            }
        };
        let shape = parameters.shape();
        (grad_x, Self::float_reshape(grad_parameters, shape))
    }
}
