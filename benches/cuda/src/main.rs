//! Compiles the kernels of `quant-cube` for CUDA, and runs them on the CPU, without a GPU. The
//! script `.ci/cuda` calls this program and installs what it needs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use cpu::HostCompiler;

mod check;
mod compile;
mod cpu;
mod cuda;
mod device;
mod kernels;
mod nvrtc;
#[cfg(feature = "ptx")]
mod ptx;
mod tensor;
mod variant;
mod workers;

const HELP: &str = "\
Usage:
  quant-cuda sources FOLDER [NAME]            writes the CUDA C++ of the kernels
  quant-cuda compile CUDA FOLDER NAME ARCH..  compiles them by NVRTC and ptxas
  quant-cuda llvm CUDA FOLDER NAME ARCH..     the same by LLVM and ptxas (with the feature `ptx`)
  quant-cuda cpu CUDA FOLDER [NAME]           runs them on the CPU

NAME is a part of the names of kernels; 'all' stands for every kernel. CUDA is the folder `cu13` of
NVIDIA's Python packages, FOLDER is where files are written. An ARCH is 80 or 90a, for example.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["sources", folder, rest @ ..] => sources(folder.as_ref(), named(rest.first())),
        ["compile", cuda, folder, name, architectures @ ..] => {
            compile(cuda, folder, name, architectures, compile::by_nvrtc)
        }
        #[cfg(feature = "ptx")]
        ["llvm", cuda, folder, name, architectures @ ..] => {
            compile(cuda, folder, name, architectures, compile::by_llvm)
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

fn compile(
    cuda: &str,
    folder: &str,
    name: &str,
    architectures: &[&str],
    translate: compile::Translate,
) -> Result<String, String> {
    let folder = made(folder.as_ref())?;
    compile::all(cuda.as_ref(), &folder, named(Some(&name)), architectures, translate)
}

fn on_cpu(cuda: &Path, folder: &Path, name: &str) -> Result<String, String> {
    let compiler = HostCompiler::new(cuda.join("include"), made(folder)?)?;
    let found = check::all(&compiler, name);
    let (runs, kernels, faults) = (found.runs, found.kernels, found.faults.len());
    let summary =
        format!("{kernels} kernels ran on the CPU in {runs} comparisons, {faults} faults");
    if found.faults.is_empty() && found.runs > 0 { Ok(summary) } else { Err(summary) }
}
