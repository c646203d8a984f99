//! Compiles the kernels of `quant-cube` for CUDA, and runs them on the CPU, without a GPU. The
//! script `.ci/cuda` calls this program and installs what it needs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use cpu::HostCompiler;
use nvrtc::{Compilers, Resources};

mod check;
mod cpu;
mod cuda;
mod device;
mod kernels;
mod nvrtc;
#[cfg(feature = "ptx")]
mod ptx;
mod tensor;

const HELP: &str = "\
Usage:
  quant-cuda sources FOLDER [NAME]            writes the CUDA C++ of the kernels
  quant-cuda compile CUDA FOLDER NAME ARCH..  compiles them by NVRTC and ptxas
  quant-cuda llvm CUDA FOLDER NAME ARCH..     the same by LLVM and ptxas (with the feature `ptx`)
  quant-cuda cpu CUDA FOLDER [NAME]           runs them on the CPU

NAME is a part of the names of kernels; 'all' stands for every kernel. CUDA is the folder `cu13` of
NVIDIA's Python packages, FOLDER is where files are written. An ARCH is 80 or 90a, for example.";

/// The largest number of registers of a thread. With more, fewer than 1024 threads run on a
/// multiprocessor at the same time.
const MOST_REGISTERS: usize = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["sources", folder, rest @ ..] => sources(folder.as_ref(), named(rest.first())),
        ["compile", cuda, folder, name, architectures @ ..] => {
            compile(cuda.as_ref(), folder.as_ref(), named(Some(name)), architectures, nvrtc_of)
        }
        #[cfg(feature = "ptx")]
        ["llvm", cuda, folder, name, architectures @ ..] => {
            compile(cuda.as_ref(), folder.as_ref(), named(Some(name)), architectures, llvm_of)
        }
        ["cpu", cuda, folder, rest @ ..] => {
            on_cpu(cuda.as_ref(), folder.as_ref(), named(rest.first()))
        }
        _ => Err(HELP.into()),
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the part of names that is asked for.
fn named<'a>(name: Option<&&'a str>) -> &'a str {
    match name {
        None | Some(&"all") => "",
        Some(name) => name,
    }
}

fn made(folder: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder.to_path_buf())
}

fn sources(folder: &Path, name: &str) -> Result<String, String> {
    let folder = made(folder)?;
    let mut count = 0;
    for kernel in kernels::all().iter().filter(|kernel| kernel.name.contains(name)) {
        let path = folder.join(format!("{}.cu", kernel.name));
        fs::write(&path, cuda::source((kernel.define)()))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        count += 1;
    }
    Ok(format!("{count} kernels"))
}

/// Compiles a kernel, and returns what it needs.
type CompileKernel = fn(&Compilers, &kernels::Kernel, &str, &Path) -> Result<Resources, String>;

fn nvrtc_of(
    compilers: &Compilers,
    kernel: &kernels::Kernel,
    architecture: &str,
    scratch: &Path,
) -> Result<Resources, String> {
    compilers.compile(&cuda::source((kernel.define)()), architecture, scratch)
}

#[cfg(feature = "ptx")]
fn llvm_of(
    compilers: &Compilers,
    kernel: &kernels::Kernel,
    architecture: &str,
    scratch: &Path,
) -> Result<Resources, String> {
    fs::write(scratch, ptx::source((kernel.define)(), architecture)?)
        .map_err(|error| format!("{}: {error}", scratch.display()))?;
    compilers.assemble(scratch, architecture)
}

fn compile(
    cuda: &Path,
    folder: &Path,
    name: &str,
    architectures: &[&str],
    of: CompileKernel,
) -> Result<String, String> {
    let compilers = Compilers::open(cuda)?;
    let scratch = made(folder)?.join("kernel.ptx");
    let mut faults = Vec::new();
    let mut most: BTreeMap<String, Resources> = BTreeMap::new();
    let mut count = 0;
    for kernel in kernels::all().iter().filter(|kernel| kernel.name.contains(name)) {
        for architecture in architectures {
            count += 1;
            let needs = match of(&compilers, kernel, architecture, &scratch) {
                Ok(needs) => needs,
                Err(error) => {
                    faults.push(format!("{} for sm_{architecture}: {error}", kernel.name));
                    continue;
                }
            };
            let (registers, spilled) = (needs.registers, needs.spilled);
            if spilled > 0 || registers > MOST_REGISTERS {
                faults.push(format!(
                    "{} for sm_{architecture}: {registers} registers, {spilled} bytes spilled",
                    kernel.name
                ));
            }
            let family =
                kernel.name.split("_f32_").next().and_then(|name| name.split("_f16_").next());
            let family = family.and_then(|name| name.split("_bf16_").next()).unwrap_or_default();
            let worst = most.entry(family.to_owned()).or_default();
            worst.registers = worst.registers.max(registers);
            worst.stack = worst.stack.max(needs.stack);
        }
    }
    for (family, Resources { registers, stack, .. }) in &most {
        println!("{family}: at most {registers} registers, {stack} bytes of local memory");
    }
    let failed = faults.len();
    faults.iter().take(20).for_each(|fault| println!("{fault}"));
    let summary = format!("{count} compilations for {architectures:?}, {failed} faults");
    if failed == 0 && count > 0 { Ok(summary) } else { Err(summary) }
}

fn on_cpu(cuda: &Path, folder: &Path, name: &str) -> Result<String, String> {
    let compiler = HostCompiler::new(cuda.join("include"), made(folder)?)?;
    let found = check::all(&compiler, name);
    let (runs, kernels, faults) = (found.runs, found.kernels, found.faults.len());
    let summary =
        format!("{kernels} kernels ran on the CPU in {runs} comparisons, {faults} faults");
    if found.faults.is_empty() && found.runs > 0 { Ok(summary) } else { Err(summary) }
}
