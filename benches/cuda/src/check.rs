//! Compares kernels that run on the CPU with the loops of `quant-kernels`.

use cubecl_runtime::kernel::KernelDefinition;
use quant_cube::{Groups, Lanes, Limits, Operand, Tiling, quantize};
use quant_kernels::{
    batch_norm::{self, Epilogue, Forward, Shape},
    quantize::{Elementwise, Rule, quantize as quantize_on_host, quantize_backward},
};

use crate::{
    cpu::{HostCompiler, HostKernel},
    cuda::source,
    device,
    kernels::{self, Type, UNITS, Variant, rules},
    tensor::{Numbers, drawn},
};

/// The differences that were found.
#[derive(Debug, Default)]
pub struct Findings {
    /// The number of comparisons.
    pub runs: usize,
    /// The number of kernels.
    pub kernels: usize,
    /// What was wrong.
    pub faults: Vec<String>,
}

impl Findings {
    fn fault(&mut self, fault: String) {
        println!("{fault}");
        self.faults.push(fault);
    }
}

/// A comparison, and the kernels that it runs.
struct Job {
    name: String,
    kernels: Vec<KernelDefinition>,
    run: Box<dyn Fn(&[HostKernel]) -> Result<(), String>>,
}

/// The number of kernels that are compiled together.
const TOGETHER: usize = 16;

/// Returns `[outer, groups, inner]` of a small tensor that a variant can read. The sizes are odd
/// but for the vectors.
fn view(v: Variant) -> [usize; 3] {
    match v.groups {
        Groups::One => [1, 1, 1037 * v.vector],
        Groups::Rows => [3, 5, 7 * v.vector],
        Groups::Columns => [211, 3 * v.vector, 1],
        Groups::Any => [3, 8, 7],
    }
}

/// Returns parameters of each group that are valid for the rule.
fn parameters(rule: Rule, groups: usize, seed: u64) -> Vec<f32> {
    let count = rule.parameters();
    let sorted = |values: &[f32]| {
        let mut values = values.to_vec();
        values.sort_by(f32::total_cmp);
        values
    };
    let positive = |x: &f32| x.abs() + 0.1;
    let row = |row: &[f32]| -> Vec<f32> {
        match rule {
            Rule::Table { thresholds } => {
                let (bounds, ladder) = row.split_at(3);
                let (limits, levels) = ladder.split_at(thresholds);
                let bounds =
                    vec![positive(&bounds[0]), -positive(&bounds[1]), positive(&bounds[2])];
                [bounds, sorted(limits), sorted(levels)].concat()
            }
            Rule::Clip { learned_bound: true, .. } => vec![row[0]],
            Rule::Step { .. } => vec![positive(&row[0]), row[1]],
            Rule::Sign { .. } => vec![row[0] * 0.5, positive(&row[1])],
            Rule::Intervals { .. } => [positive(&row[0]), row[1]]
                .into_iter()
                .chain(row[2..].iter().map(positive))
                .collect(),
            _ => row.iter().map(positive).collect(),
        }
    };
    drawn(seed, groups * count).chunks(count).flat_map(row).collect()
}

/// Returns the first place where numbers differ, beyond `allowed` of a number and the scale.
fn difference(ours: &[f32], theirs: &[f32], allowed: f32) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!("{} numbers, not {}", ours.len(), theirs.len()));
    }
    let differs = |(a, b): (&f32, &f32)| {
        let equal = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || a == b;
        !equal && !((a - b).abs() <= allowed * b.abs().max(1.0))
    };
    let at = ours.iter().zip(theirs).position(differs)?;
    let count = ours.iter().zip(theirs).filter(|pair| differs(*pair)).count();
    Some(format!("{count} of {} differ, first at {at}: {} {}", ours.len(), ours[at], theirs[at]))
}

/// Returns the numbers by which a kernel finds the group of an element, as `quant-cube` chooses
/// them on a device that reads such vectors.
fn grouping(v: Variant, view: [usize; 3]) -> Result<[u64; 2], String> {
    let tensor = operand(v, view);
    let lanes = Lanes::new(limits(v, 1), &[&tensor], view);
    if (lanes.vector, lanes.of) != (v.vector, v.groups) {
        return Err(format!("{lanes:?} is not the variant {v:?}"));
    }
    Ok([lanes.groups as u64, lanes.inner as u64])
}

/// Returns the division of a tensor among `cubes` blocks, as `quant-cube` chooses it.
fn tiling(v: Variant, view: [usize; 3], sums: usize, cubes: usize) -> Result<Tiling, String> {
    let tensor = operand(v, view);
    let tiling = Tiling::new(limits(v, cubes), &[&tensor], view, sums);
    if (tiling.vector, tiling.of) != (v.vector, v.groups) {
        return Err(format!("{tiling:?} is not the variant {v:?}"));
    }
    // The kernel was compiled for this width, which need not be the chosen one. So small a tensor
    // would have one block.
    let tiles = tiling.columns.div_ceil(v.width);
    let splits = cubes.min(tiling.length.div_ceil(UNITS / v.width));
    Ok(Tiling { width: v.width, tiles, splits, ..tiling })
}

fn operand(v: Variant, [outer, groups, inner]: [usize; 3]) -> Operand {
    let binding = device::tensor(&[outer, groups, inner], &[groups * inner, inner, 1]);
    Operand { binding, dtype: v.elements.elem() }
}

fn limits(v: Variant, cubes: usize) -> Limits {
    Limits { cubes, bytes: 16, elements: v.vector, units: UNITS }
}

fn numbers(tiling: &Tiling) -> [u64; 5] {
    let Tiling { columns, length, inner, tiles, splits, .. } = *tiling;
    [columns, length, inner, tiles, splits].map(|x| x as u64)
}

/// Compares everything that `name` is part of the name of.
pub fn all(compiler: &HostCompiler, name: &str) -> Findings {
    let mut found = Findings::default();
    let mut waiting: Vec<Job> = Vec::new();
    let flush = |waiting: &mut Vec<Job>, found: &mut Findings| {
        let counts: Vec<usize> = waiting.iter().map(|job| job.kernels.len()).collect();
        let taken = waiting.iter_mut().flat_map(|job| std::mem::take(&mut job.kernels));
        let sources: Vec<String> = taken.map(source).collect();
        found.kernels += sources.len();
        let program = format!("kernels{}", found.runs);
        let compiled = match compiler.compile(&sources, &program) {
            Ok(compiled) => compiled,
            Err(error) => return found.fault(error),
        };
        let mut rest = compiled.as_slice();
        for (job, count) in waiting.drain(..).zip(counts) {
            let (kernels, after) = rest.split_at(count);
            rest = after;
            found.runs += 1;
            if let Err(error) = (job.run)(kernels) {
                found.fault(format!("{}: {error}", job.name));
            }
        }
    };
    for job in jobs(name) {
        waiting.push(job);
        if waiting.iter().map(|job| job.kernels.len()).sum::<usize>() >= TOGETHER {
            flush(&mut waiting, &mut found);
        }
    }
    if !waiting.is_empty() {
        flush(&mut waiting, &mut found);
    }
    found
}

/// Returns the comparisons whose names contain `part`.
fn jobs(part: &str) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut add = |name: String, job: &dyn Fn() -> Job| {
        if name.contains(part) {
            jobs.push(Job { name, ..job() });
        }
    };
    for (name, rule) in rules() {
        for v in kernels::elementwise().into_iter().filter(|v| !v.strided) {
            add(format!("forward_{name}_{}", v.name()), &|| forward(rule, v));
        }
        for v in kernels::summing().into_iter().filter(|v| !v.strided) {
            if kernels::fits(v, quantize::terms(rule)) {
                add(format!("backward_{name}_{}", v.name()), &|| backward(rule, v));
            }
        }
    }
    let epilogues = [(false, false), (false, true), (true, false), (true, true)];
    for (adds, relu) in epilogues {
        let ending = format!("{}{}", u8::from(adds), u8::from(relu));
        for v in kernels::elementwise().into_iter().filter(|v| !v.strided) {
            add(format!("normalize_{}_{ending}", v.name()), &|| normalize(v, adds, relu));
        }
        for v in kernels::summing().into_iter().filter(|v| !v.strided && kernels::fits(*v, 2)) {
            add(format!("batch_norm_{}_{ending}", v.name()), &|| whole_batch_norm(v, adds, relu));
        }
    }
    let plain = |v: &Variant| v.groups == Groups::One && !v.strided && v.results == v.elements;
    for v in kernels::elementwise().into_iter().filter(plain) {
        for (nesterov, is_first) in [(false, false), (true, false), (true, true)] {
            let ending = format!("{}{}", u8::from(nesterov), u8::from(is_first));
            add(format!("sgd_{}_{ending}", v.name()), &|| sgd(v, nesterov, is_first));
        }
    }
    jobs
}

fn job(
    kernels: Vec<KernelDefinition>,
    run: impl Fn(&[HostKernel]) -> Result<(), String> + 'static,
) -> Job {
    Job { name: String::new(), kernels, run: Box::new(run) }
}

fn forward(rule: Rule, v: Variant) -> Job {
    job(vec![kernels::forward(rule, v)], move |kernels| run_forward(&kernels[0], rule, v))
}

fn backward(rule: Rule, v: Variant) -> Job {
    let kernels = vec![
        kernels::backward(rule, v, false),
        kernels::finish(rule, v, UNITS),
        kernels::backward(rule, v, true),
    ];
    job(kernels, move |kernels| run_backward(kernels, rule, v))
}

fn normalize(v: Variant, adds: bool, relu: bool) -> Job {
    let kernels = vec![kernels::normalize(v, adds, relu)];
    job(kernels, move |kernels| run_normalize(&kernels[0], v, adds, relu))
}

fn whole_batch_norm(v: Variant, adds: bool, relu: bool) -> Job {
    let kernels = vec![
        kernels::moments(v),
        kernels::statistics(v, 32, true),
        kernels::gradient_sums(v, relu),
        kernels::parameter_gradients(v, 32),
        kernels::input_gradient(v, adds, relu),
    ];
    job(kernels, move |kernels| run_batch_norm(kernels, v, adds, relu))
}

fn sgd(v: Variant, nesterov: bool, is_first: bool) -> Job {
    let kernels = vec![kernels::sgd(v, SIZES.len(), nesterov, is_first)];
    job(kernels, move |kernels| run_sgd(&kernels[0], v, nesterov, is_first))
}

/// The sizes of the parameters of an optimizer step.
const SIZES: [usize; 3] = [700, 1, 256];

/// Compares the step of three parameters with the formula, in 32 bits.
fn run_sgd(kernel: &HostKernel, v: Variant, nesterov: bool, is_first: bool) -> Result<(), String> {
    let [rate, decay, momentum] = [0.1f32, 0.01, 0.9];
    let mut tensors: Vec<Vec<Numbers>> = Vec::new();
    for tensor in 0..3 {
        let of = |(at, size): (usize, &usize)| {
            Numbers::new(&drawn(10 * tensor + at as u64, *size), v.parameters)
        };
        tensors.push(SIZES.iter().enumerate().map(of).collect());
    }
    for _ in 0..2 {
        tensors.push(SIZES.iter().map(|size| Numbers::unwritten(*size, v.parameters)).collect());
    }
    let lengths = SIZES.map(|size| size as u64).repeat(5);
    let mut blocks = 0;
    let ends = SIZES.map(|size| {
        blocks += size.div_ceil(UNITS);
        blocks as u64
    });
    let mut buffers: Vec<_> = tensors.iter_mut().flatten().map(Numbers::buffer).collect();
    kernel.run(
        &mut buffers,
        &[lengths, ends.to_vec()].concat(),
        &[rate, decay, momentum],
        [blocks, UNITS],
    );
    for at in 0..SIZES.len() {
        let values = |tensor: usize| tensors[tensor][at].values();
        let mut next = (Vec::new(), Vec::new());
        for ((weight, gradient), old) in values(0).iter().zip(values(1)).zip(values(2)) {
            let gradient = weight * decay + gradient;
            let velocity = if is_first { gradient } else { gradient + old * momentum };
            let direction = if nesterov { velocity * momentum + gradient } else { velocity };
            next.0.push(weight - direction * rate);
            next.1.push(velocity);
        }
        let allowed = 1e-6 + unit_of_parameters(v);
        for (what, ours, theirs) in [("weight", values(3), next.0), ("velocity", values(4), next.1)]
        {
            if let Some(error) = difference(&ours, &theirs, allowed) {
                return Err(format!("the {what} of parameter {at}: {error}"));
            }
        }
    }
    Ok(())
}

fn run_forward(kernel: &HostKernel, rule: Rule, v: Variant) -> Result<(), String> {
    let view = view(v);
    let elements: usize = view.iter().product();
    let mut values = drawn(1, elements);
    (values[0], values[1], values[2]) = (0.0, -0.5, f32::NAN);
    let mut x = Numbers::new(&values, v.elements);
    let mut p = Numbers::new(&parameters(rule, view[1], 2), v.parameters);
    let mut y = Numbers::unwritten(elements, v.results);
    let vectors = elements / v.vector;
    let [groups, inner] = grouping(v, view)?;
    let lengths = [vectors, p.values().len(), vectors].map(|length| length as u64);
    let [steps, lowest, highest, _] = quantize::numbers(rule);
    let expected = quantize_on_host(&x.values(), &p.values(), Elementwise { rule, view });
    kernel.run(
        &mut [x.buffer(), p.buffer(), y.buffer()],
        &[&lengths[..], &[groups, inner]].concat(),
        &[steps, lowest, highest],
        [vectors.div_ceil(UNITS), UNITS],
    );
    let expected = Numbers::new(&expected, v.results).values();
    difference(&y.values(), &expected, 0.0).map_or(Ok(()), Err)
}

fn run_backward(kernels: &[HostKernel], rule: Rule, v: Variant) -> Result<(), String> {
    let [kernel, finish, alone] = kernels else {
        return Err("three kernels are expected".into());
    };
    let view = view(v);
    let elements: usize = view.iter().product();
    let (count, terms) = (rule.parameters(), quantize::terms(rule));
    let mut x = Numbers::new(&drawn(1, elements), v.elements);
    let mut p = Numbers::new(&parameters(rule, view[1], 2), v.parameters);
    let mut g = Numbers::new(&drawn(3, elements), v.results);
    let operation = Elementwise { rule, view };
    let mut expected_x = g.values();
    let (xs, ps) = (x.values(), p.values());
    let expected = quantize_backward(&xs, &ps, &mut expected_x, operation);
    // The sums of the magnitudes of the terms bound the errors of the sums.
    let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let mut factor = Numbers::new(&[1.0], v.elements);
    // A factor for all gradients rounds once more.
    let mut allowed_of_x = 0.0;
    if let Rule::Clip { rescale: true, signed, .. } = rule {
        let lowest = if signed { -1.0 } else { 0.0 };
        let of = |at: usize| xs[at] / ps[at / view[2] % view[1]];
        let inside = (0..elements).filter(|at| of(*at) > lowest && of(*at) < 1.0).count();
        let value = (elements as f32 / inside.max(1) as f32).sqrt();
        factor = Numbers::new(&[value], v.elements);
        allowed_of_x = unit(v.elements).max(4.0 * f32::EPSILON);
    }
    let [steps, lowest, highest, ewgs] = quantize::numbers(rule);
    let mut before: Option<Vec<f32>> = None;
    for (cubes, is_alone) in [(1, false), (64, false), (64, false), (1, true)] {
        let tiles = tiling(v, view, terms, cubes)?;
        let splits = tiles.splits;
        let mut grad_x = Numbers::unwritten(elements, v.elements);
        let mut partial = Numbers::unwritten(view[1] * splits * terms, Type::F32);
        let vectors = elements / v.vector;
        let mut sums = Numbers::unwritten(view[1] * count, v.parameters);
        let parts = partial.values().len();
        let lengths = [vectors, ps.len(), 1, vectors, vectors, parts, view[1] * count];
        let lengths = lengths.map(|x| x as u64);
        let kernel = if is_alone { alone } else { kernel };
        kernel.run(
            &mut [
                x.buffer(),
                p.buffer(),
                factor.buffer(),
                g.buffer(),
                grad_x.buffer(),
                partial.buffer(),
                sums.buffer(),
            ],
            &[&lengths[..], &numbers(&tiles)].concat(),
            &[steps, lowest, highest, ewgs, 0.5],
            [tiles.tiles * splits, UNITS],
        );
        if !is_alone {
            let lengths = [view[1] * splits * terms, view[1] * count, view[1], splits];
            finish.run(
                &mut [partial.buffer(), sums.buffer()],
                &lengths.map(|x| x as u64),
                &[0.5],
                [view[1], UNITS],
            );
        }
        let rounded = Numbers::new(&expected_x, v.elements).values();
        if let Some(error) = difference(&grad_x.values(), &rounded, allowed_of_x) {
            return Err(format!("the gradient of x: {error}"));
        }
        let half: Vec<f32> = expected.iter().map(|sum| sum * 0.5).collect();
        let allowed = 1e-5 * largest.max(elements as f32 * 0.1);
        let allowed = allowed + (allowed_of_x + unit_of_parameters(v)) * largest;
        if let Some(error) = difference(&sums.values(), &half, allowed) {
            return Err(format!("the gradients of the parameters, {splits} splits: {error}"));
        }
        if cubes == 64 {
            if before.as_ref().is_some_and(|before| *before != sums.values()) {
                return Err("the same sums differ".into());
            }
            before = Some(sums.values());
        }
    }
    Ok(())
}

/// Returns the relative distance of neighbouring numbers.
fn unit(of: Type) -> f32 {
    match of {
        Type::F32 => f32::EPSILON,
        Type::F16 => 1.0 / 1024.0,
        Type::BF16 => 1.0 / 128.0,
    }
}

fn unit_of_parameters(v: Variant) -> f32 {
    if v.parameters == Type::F32 { 0.0 } else { unit(v.parameters) }
}

/// Returns numbers in the order of `quant-kernels`, `[batch, channels, pixels]`, from the order of
/// the variant, or back.
fn reordered(values: &[f32], v: Variant, shape: Shape, to_rows: bool) -> Vec<f32> {
    if v.groups != Groups::Columns {
        return values.to_vec();
    }
    let mut out = vec![0.0; values.len()];
    for at in 0..values.len() {
        let (row, channel) = (at / shape.channels, at % shape.channels);
        let (image, pixel) = (row / shape.pixels, row % shape.pixels);
        let other = (image * shape.channels + channel) * shape.pixels + pixel;
        let (from, to) = if to_rows { (at, other) } else { (other, at) };
        out[to] = values[from];
    }
    out
}

/// Returns the sizes of a small tensor, and its view in the order of the variant.
fn sizes(v: Variant) -> (Shape, [usize; 3]) {
    match v.groups {
        Groups::One => {
            let pixels = 211 * v.vector;
            (Shape { batch: 1, channels: 1, pixels }, [1, 1, pixels])
        }
        Groups::Rows => {
            let pixels = 7 * v.vector;
            (Shape { batch: 3, channels: 5, pixels }, [3, 5, pixels])
        }
        Groups::Columns => {
            let channels = 3 * v.vector;
            (Shape { batch: 3, channels, pixels: 35 }, [105, channels, 1])
        }
        Groups::Any => (Shape { batch: 3, channels: 8, pixels: 7 }, [3, 8, 7]),
    }
}

const EPSILON: f32 = 1e-5;

fn run_normalize(kernel: &HostKernel, v: Variant, adds: bool, relu: bool) -> Result<(), String> {
    let (shape, view) = sizes(v);
    let elements: usize = view.iter().product();
    let mut x = Numbers::new(&drawn(1, elements), v.elements);
    let mut residual = Numbers::new(&drawn(2, elements), v.results);
    let weight = Numbers::new(&drawn(3, shape.channels), v.parameters).values();
    let mut bias = Numbers::new(&drawn(4, shape.channels), v.parameters);
    let rows = |numbers: &Numbers| reordered(&numbers.values(), v, shape, true);
    let (xs, added) = (rows(&x), rows(&residual));
    let epilogue = Epilogue { residual: adds.then_some(added.as_slice()), relu };
    let expected = batch_norm::forward(shape, &xs, (&weight, &bias.values()), EPSILON, epilogue);
    let scale = |channel: usize| weight[channel] / (expected.variance[channel] + EPSILON).sqrt();
    let scales: Vec<f32> = (0..shape.channels).map(scale).collect();
    let mut mean = Numbers::new(&expected.mean, Type::F32);
    let mut scales = Numbers::new(&scales, Type::F32);
    let mut y = Numbers::unwritten(elements, v.results);
    let vectors = elements / v.vector;
    let channels = shape.channels;
    let lengths = [vectors, channels, channels, channels, vectors, vectors].map(|x| x as u64);
    kernel.run(
        &mut [
            x.buffer(),
            mean.buffer(),
            scales.buffer(),
            bias.buffer(),
            residual.buffer(),
            y.buffer(),
        ],
        &[&lengths[..], &grouping(v, view)?].concat(),
        &[],
        [vectors.div_ceil(UNITS), UNITS],
    );
    let expected = Numbers::new(&reordered(&expected.values, v, shape, false), v.results);
    // CubeCL rounds a product and a sum once, as a fused operation.
    let narrow = if v.results == Type::F32 { 0.0 } else { unit(v.results) };
    difference(&y.values(), &expected.values(), 1e-6 + narrow).map_or(Ok(()), Err)
}

/// Runs the kernels of a batch norm one after another, forward and backward.
fn run_batch_norm(
    kernels: &[HostKernel],
    v: Variant,
    adds: bool,
    relu: bool,
) -> Result<(), String> {
    let (shape, view) = sizes(v);
    let elements: usize = view.iter().product();
    let channels = shape.channels;
    let [moments_kernel, statistics_kernel, sums_kernel, parameters_kernel, input_kernel] = kernels
    else {
        return Err("five kernels are expected".into());
    };
    // A mean that is large beside the deviation.
    let values: Vec<f32> = drawn(1, elements).iter().map(|x| x * 0.5 + 9.0).collect();
    let mut x = Numbers::new(&values, v.elements);
    let mut g = Numbers::new(&drawn(5, elements), v.results);
    let mut weight = Numbers::new(&drawn(3, channels), v.parameters);
    let bias = Numbers::new(&drawn(4, channels), v.parameters).values();
    let added = Numbers::new(&drawn(2, elements), v.results).values();
    let rows = |values: &[f32]| reordered(values, v, shape, true);
    let (xs, added, ws) = (rows(&x.values()), rows(&added), weight.values());
    let epilogue = Epilogue { residual: adds.then_some(added.as_slice()), relu };
    let expected = batch_norm::forward(shape, &xs, (&ws, &bias), EPSILON, epilogue);
    let lengths = |of: &[usize]| of.iter().map(|x| *x as u64).collect::<Vec<u64>>();
    let vectors = elements / v.vector;
    let float = |values: &[f32]| Numbers::new(values, Type::F32);
    for cubes in [1, 64] {
        let tiles = tiling(v, view, 2, cubes)?;
        let splits = tiles.splits;
        let mut partial = float(&vec![-77.0; channels * splits * 3]);
        moments_kernel.run(
            &mut [x.buffer(), partial.buffer()],
            &[lengths(&[vectors, channels * splits * 3]), numbers(&tiles).to_vec()].concat(),
            &[],
            [tiles.tiles * splits, UNITS],
        );
        let [mut mean, mut variance, mut scale] = [(); 3].map(|()| float(&vec![-77.0; channels]));
        let [mut next_mean, mut next_variance] =
            [(); 2].map(|()| Numbers::unwritten(channels, v.parameters));
        let mut old = Numbers::new(&drawn(6, channels), v.parameters);
        let unbiased = (elements / channels) as f32 / ((elements / channels) as f32 - 1.0);
        statistics_kernel.run(
            &mut [
                partial.buffer(),
                weight.buffer(),
                mean.buffer(),
                variance.buffer(),
                scale.buffer(),
                weight.clone().buffer(),
                old.buffer(),
                next_mean.buffer(),
                next_variance.buffer(),
            ],
            &[vec![(channels * splits * 3) as u64], lengths(&[channels; 9]), lengths(&[splits])]
                .concat(),
            &[EPSILON, 0.75, 0.25, unbiased],
            [channels, 32],
        );
        let next = |old: &Numbers, batch: &[f32], factor: f32| -> Vec<f32> {
            let pairs = old.values().into_iter().zip(batch);
            pairs.map(|(old, batch)| 0.75 * old + 0.25 * factor * batch).collect()
        };
        let allowed = 3e-6 + unit_of_parameters(v);
        for (what, ours, theirs) in [
            ("mean", &next_mean, next(&weight, &expected.mean, 1.0)),
            ("variance", &next_variance, next(&old, &expected.variance, unbiased)),
        ] {
            if let Some(error) = difference(&ours.values(), &theirs, allowed) {
                return Err(format!("the running {what}, {splits} splits: {error}"));
            }
        }
        if let Some(error) = difference(&mean.values(), &expected.mean, 1e-6) {
            return Err(format!("the mean, {splits} splits: {error}"));
        }
        if let Some(error) = difference(&variance.values(), &expected.variance, 3e-6) {
            return Err(format!("the variance, {splits} splits: {error}"));
        }
        let (of_mean, of_variance) = (mean.values(), variance.values());
        // The result of the forward pass decides where a gradient passes the ReLU.
        let result = Numbers::new(&reordered(&expected.values, v, shape, false), v.results);
        let results = rows(&result.values());
        let forward = Forward {
            x: &xs,
            weight: &ws,
            mean: &of_mean,
            variance: &of_variance,
            epsilon: EPSILON,
            relu_output: relu.then_some(results.as_slice()),
            has_residual: adds,
        };
        let mut passed = rows(&g.values());
        let gradients = batch_norm::backward(shape, &forward, &mut passed);
        let by_x = gradients.input.as_ref().unwrap_or(&passed);
        let mut result = result;
        let mut partial = float(&vec![-77.0; channels * splits * 2]);
        sums_kernel.run(
            &mut [x.buffer(), result.buffer(), g.buffer(), mean.buffer(), partial.buffer()],
            &[
                lengths(&[vectors, vectors, vectors, channels, channels * splits * 2]),
                numbers(&tiles).to_vec(),
            ]
            .concat(),
            &[],
            [tiles.tiles * splits, UNITS],
        );
        let [mut by_weight, mut by_bias] =
            [(); 2].map(|()| Numbers::unwritten(channels, v.parameters));
        let mut numbers = float(&vec![-77.0; channels * 3]);
        parameters_kernel.run(
            &mut [
                partial.buffer(),
                weight.buffer(),
                variance.buffer(),
                by_weight.buffer(),
                by_bias.buffer(),
                numbers.buffer(),
            ],
            &lengths(&[
                channels * splits * 2,
                channels,
                channels,
                channels,
                channels,
                channels * 3,
                channels,
                splits,
            ]),
            &[(elements / channels) as f32, EPSILON],
            [channels, 32],
        );
        let of_sums = 2e-5 + unit(v.parameters);
        for (what, ours, theirs) in
            [("γ", &by_weight, &gradients.weight), ("β", &by_bias, &gradients.bias)]
        {
            if let Some(error) = difference(&ours.values(), theirs, of_sums) {
                return Err(format!("the gradient of {what}, {splits} splits: {error}"));
            }
        }
        let mut x_gradient = Numbers::unwritten(elements, v.elements);
        let mut residual_gradient = Numbers::unwritten(elements, v.results);
        input_kernel.run(
            &mut [
                x.buffer(),
                result.buffer(),
                g.buffer(),
                mean.buffer(),
                numbers.buffer(),
                x_gradient.buffer(),
                residual_gradient.buffer(),
            ],
            &[
                lengths(&[vectors, vectors, vectors, channels, channels * 3, vectors, vectors]),
                grouping(v, view)?.to_vec(),
            ]
            .concat(),
            &[],
            [vectors.div_ceil(UNITS), UNITS],
        );
        let allowed = 1e-5 + if v.elements == Type::F32 { 0.0 } else { unit(v.elements) };
        let ours = rows(&x_gradient.values());
        if let Some(error) = difference(&ours, by_x, allowed) {
            return Err(format!("the gradient of x, {splits} splits: {error}"));
        }
        if adds {
            let ours = rows(&residual_gradient.values());
            if let Some(error) = difference(&ours, &passed, 0.0) {
                return Err(format!("the gradient of the residual: {error}"));
            }
        }
    }
    Ok(())
}
