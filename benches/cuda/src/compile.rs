//! Kernels compiled for GPUs, and what a thread of each needs.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    cuda,
    kernels::{self, Kernel},
    nvrtc::{Compilers, Resources, allowing_registers},
    workers::{self, Progress, Share},
};

/// The largest number of registers of a thread. With more, fewer than 1024 threads run on a
/// multiprocessor at the same time.
const MOST_REGISTERS: usize = 64;

/// Translates a kernel to PTX, for each architecture.
pub type Translate = fn(&Compilers, &Kernel, &[&str]) -> Vec<Result<String, String>>;

/// CubeCL's way through CUDA C++.
pub fn by_nvrtc(
    compilers: &Compilers,
    kernel: &Kernel,
    architectures: &[&str],
) -> Vec<Result<String, String>> {
    let source = cuda::source((kernel.define)());
    architectures.iter().map(|architecture| compilers.ptx(&source, architecture)).collect()
}

/// CubeCL's way through LLVM, which is that of its CUDA backend by default.
#[cfg(feature = "ptx")]
pub fn by_llvm(
    _compilers: &Compilers,
    kernel: &Kernel,
    architectures: &[&str],
) -> Vec<Result<String, String>> {
    let of = |architecture: &&str| crate::ptx::source((kernel.define)(), architecture);
    architectures.iter().map(of).collect()
}

/// What a thread found.
#[derive(Default)]
struct Findings {
    compilations: usize,
    faults: Vec<String>,
    /// The most that any kernel of a name needs.
    most: BTreeMap<String, Resources>,
}

/// Compiles the kernels whose names contain `name`, and prints what they need. `folder` is written
/// to.
///
/// # Errors
/// A summary, if a kernel does not compile, spills registers or needs too many.
pub fn all(
    compilers: &Path,
    folder: &Path,
    name: &str,
    architectures: &[&str],
    translate: Translate,
) -> Result<String, String> {
    let compilers = Compilers::open(compilers)?;
    let count = kernels::all().iter().filter(|kernel| kernel.name.contains(name)).count();
    let progress = Progress::new("kernels", count);
    let found = workers::on_all(|share: Share| {
        let scratch = folder.join(format!("kernel{}.ptx", share.thread));
        let mut found = Findings::default();
        let named = kernels::all().into_iter().filter(|kernel| kernel.name.contains(name));
        for (_, kernel) in named.enumerate().filter(|(at, _)| share.has(*at)) {
            let all = translate(&compilers, &kernel, architectures);
            for (ptx, architecture) in all.into_iter().zip(architectures) {
                found.compilations += 1;
                let assemble = |ptx: String| {
                    fs::write(&scratch, ptx)
                        .map_err(|error| format!("{}: {error}", scratch.display()))?;
                    compilers.assemble(&scratch, architecture)
                };
                if let Err(fault) = ptx.and_then(|ptx| found.add(&kernel.name, &ptx, assemble)) {
                    found.faults.push(format!("{} for sm_{architecture}: {fault}", kernel.name));
                }
            }
            progress.step();
        }
        found
    });
    report(found, architectures)
}

impl Findings {
    /// Notes what a kernel needs.
    fn add(
        &mut self,
        kernel: &str,
        ptx: &str,
        assemble: impl Fn(String) -> Result<Resources, String>,
    ) -> Result<(), String> {
        let Resources { registers, spilled, stack } = assemble(ptx.to_owned())?;
        self.need(family(kernel).to_owned(), registers, stack);
        if spilled > 0 {
            // `ptxas` may take fewer registers, so that one more block runs at the same time.
            let allowed = assemble(allowing_registers(ptx, MOST_REGISTERS)?)?;
            return Err(format!(
                "{registers} registers, {spilled} bytes spilled; if it is allowed {MOST_REGISTERS} \
                 registers, it takes {} and spills {} bytes",
                allowed.registers, allowed.spilled
            ));
        }
        if registers > MOST_REGISTERS {
            return Err(format!("{registers} registers"));
        }
        Ok(())
    }

    fn need(&mut self, family: String, registers: usize, stack: usize) {
        let most = self.most.entry(family).or_default();
        most.registers = most.registers.max(registers);
        most.stack = most.stack.max(stack);
    }
}

/// Returns the name of a kernel without that of its variant, which begins with the type of its
/// elements.
fn family(kernel: &str) -> &str {
    let starts = ["_f32_", "_f16_", "_bf16_"].into_iter().filter_map(|of| kernel.find(of));
    starts.min().map_or(kernel, |end| &kernel[..end])
}

fn report(found: Vec<Findings>, architectures: &[&str]) -> Result<String, String> {
    let mut all = Findings::default();
    for one in found {
        all.compilations += one.compilations;
        all.faults.extend(one.faults);
        for (family, Resources { registers, stack, .. }) in one.most {
            all.need(family, registers, stack);
        }
    }
    for (family, Resources { registers, stack, .. }) in &all.most {
        println!("{family}: at most {registers} registers, {stack} bytes of local memory");
    }
    all.faults.iter().for_each(|fault| println!("{fault}"));
    let (count, faults) = (all.compilations, all.faults.len());
    let summary = format!("{count} compilations for {architectures:?}, {faults} faults");
    if faults == 0 && count > 0 { Ok(summary) } else { Err(summary) }
}
