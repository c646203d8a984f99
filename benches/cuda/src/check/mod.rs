//! Compares kernels that run on the CPU with the loops of `quant-kernels`.

use cubecl_runtime::kernel::KernelDefinition;
use quant_cube::{Groups, Lanes, Limits, Operand, Sums, Tiling};
use quant_kernels::quantize::Basis;

use crate::{
    cpu::{HostCompiler, HostKernel},
    cuda::source,
    device,
    kernels::{
        bases::summing_levels,
        quantizers::{rules, summing_of},
    },
    variant::{self, Type, UNITS, Variant},
    workers::{self, Progress, Share},
};

mod bases;
mod norms;
mod quantizers;
mod updates;

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

    /// Compiles the kernels of comparisons together, and runs the comparisons.
    fn run(&mut self, compiler: &HostCompiler, share: Share, mut jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let counts: Vec<usize> = jobs.iter().map(|job| job.kernels.len()).collect();
        let taken = jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.kernels));
        let sources: Vec<String> = taken.map(source).collect();
        self.kernels += sources.len();
        let program = format!("kernels{}_{}", share.thread, self.runs);
        let compiled = match compiler.compile(&sources, &program) {
            Ok(compiled) => compiled,
            Err(error) => return self.fault(error),
        };
        let mut rest = compiled.as_slice();
        for (job, count) in jobs.into_iter().zip(counts) {
            let (kernels, after) = rest.split_at(count);
            rest = after;
            self.runs += 1;
            if let Err(error) = (job.run)(kernels) {
                self.fault(format!("{}: {error}", job.name));
            }
        }
    }
}

/// Runs compiled kernels, and returns how their results are wrong.
type Comparison = Box<dyn Fn(&[HostKernel]) -> Result<(), String>>;

/// A comparison, and the kernels that it runs.
struct Job {
    name: String,
    kernels: Vec<KernelDefinition>,
    run: Comparison,
}

/// The number of kernels that are compiled together.
const TOGETHER: usize = 16;

/// Compares everything that `name` is part of the name of.
pub fn all(compiler: &HostCompiler, name: &str) -> Findings {
    let everything = Share { thread: 0, threads: 1 };
    let mut count = 0;
    for_each(name, everything, &mut |_, _| count += 1);
    let progress = Progress::new("comparisons", count);
    let found = workers::on_all(|share| {
        let mut found = Findings::default();
        let mut waiting: Vec<Job> = Vec::new();
        for_each(name, share, &mut |name, job| {
            waiting.push(Job { name, ..job() });
            if waiting.iter().map(|job| job.kernels.len()).sum::<usize>() >= TOGETHER {
                found.run(compiler, share, std::mem::take(&mut waiting));
            }
            progress.step();
        });
        found.run(compiler, share, waiting);
        found
    });
    found.into_iter().fold(Findings::default(), |mut all, one| {
        all.runs += one.runs;
        all.kernels += one.kernels;
        all.faults.extend(one.faults);
        all
    })
}

/// Calls `take` with the name of each comparison of a share whose name contains `part`, and a
/// function that makes it.
fn for_each(part: &str, share: Share, take: &mut dyn FnMut(String, &dyn Fn() -> Job)) {
    let mut count = 0;
    let mut add = |name: String, job: &dyn Fn() -> Job| {
        if name.contains(part) {
            count += 1;
            if share.has(count) {
                take(name, job);
            }
        }
    };
    for (name, rule) in rules() {
        for v in variant::quantizing() {
            add(format!("forward_{name}_{}", v.name()), &|| quantizers::forward(rule, v));
        }
        for v in summing_of(rule) {
            add(format!("backward_{name}_{}", v.name()), &|| quantizers::backward(rule, v));
        }
    }
    let epilogues = [(false, false), (false, true), (true, false), (true, true)];
    for (adds, relu) in epilogues {
        let ending = format!("{}{}", u8::from(adds), u8::from(relu));
        for v in variant::elementwise() {
            add(format!("normalize_{}_{ending}", v.name()), &|| norms::normalize(v, adds, relu));
        }
        for v in variant::summing().into_iter().filter(|v| variant::fits(*v, Sums::in_registers(2)))
        {
            add(format!("batch_norm_{}_{ending}", v.name()), &|| norms::whole(v, adds, relu));
        }
    }
    for v in summing_levels() {
        for (levels, of_weight) in
            [2usize, 3, 4, 16].into_iter().flat_map(|l| [(l, false), (l, true)])
        {
            let bits = if levels == 3 { 1 } else { levels.ilog2() as usize };
            let (signed, weight) = (of_weight, of_weight);
            let basis = Basis { bits, levels, signed, position: 0.4, weight };
            let ending = format!("{levels}{}", if of_weight { "_weight" } else { "" });
            add(format!("fit_basis_{}_{ending}", v.name()), &|| bases::fit(v, basis));
        }
    }
    let plain = |v: &Variant| v.groups == Groups::One && !v.strided && v.results == v.elements;
    for v in variant::elementwise().into_iter().filter(plain) {
        for (nesterov, is_first) in [(false, false), (true, false), (true, true)] {
            let ending = format!("{}{}", u8::from(nesterov), u8::from(is_first));
            add(format!("sgd_{}_{ending}", v.name()), &|| updates::sgd(v, nesterov, is_first));
        }
        for is_first in [false, true] {
            let ending = u8::from(is_first);
            add(format!("adam_{}_{ending}", v.name()), &|| updates::adam(v, is_first));
        }
    }
}

fn job(
    kernels: Vec<KernelDefinition>,
    run: impl Fn(&[HostKernel]) -> Result<(), String> + 'static,
) -> Job {
    Job { name: String::new(), kernels, run: Box::new(run) }
}

/// Returns the first place where numbers differ, beyond `allowed` of a number and the scale.
fn difference(ours: &[f32], theirs: &[f32], allowed: f32) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!("{} numbers, not {}", ours.len(), theirs.len()));
    }
    let differs = |(a, b): (&f32, &f32)| {
        let equal = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || a == b;
        let close = (a - b).abs() <= allowed * b.abs().max(1.0);
        !(equal || close)
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
fn tiling(v: Variant, view: [usize; 3], sums: Sums, cubes: usize) -> Result<Tiling, String> {
    let tensor = operand(v, view);
    let tiling = Tiling::new(limits(v, cubes), &[&tensor], view, sums);
    if (tiling.vector, tiling.of) != (v.vector, v.groups) {
        return Err(format!("{tiling:?} is not the variant {v:?}"));
    }
    // The kernel was compiled for this width, which need not be the chosen one. So small a tensor
    // would have one block.
    let tiles = tiling.columns.div_ceil(v.width);
    let splits = cubes.min(tiling.length.div_ceil(tiling.units / v.width));
    Ok(Tiling { width: v.width, tiles, splits, ..tiling })
}

fn operand(v: Variant, [outer, groups, inner]: [usize; 3]) -> Operand {
    let binding = device::tensor(&[outer, groups, inner], &[groups * inner, inner, 1]);
    Operand { binding, dtype: v.elements.elem() }
}

fn limits(v: Variant, cubes: usize) -> Limits {
    Limits { cubes, bytes: 16, elements: v.vector, units: UNITS }
}

fn numbers(tiling: &Tiling) -> [u64; 8] {
    tiling.numbers().map(|x| x as u64)
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
