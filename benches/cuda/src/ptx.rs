//! PTX of a kernel by LLVM, which is the way of CubeCL's CUDA backend.

use std::ffi::CStr;

use cubecl_core::ir::nvidia::SmArch;
use cubecl_llvm::{
    LlvmTarget, PlironArtifact, PlironCompiler, PlironOptions, nvptx::ptx_version::PtxVersion,
};
use cubecl_runtime::{compiler::Compiler, kernel::KernelDefinition};

/// Returns the PTX of a kernel for an architecture, such as `80` or `90a`.
pub fn source(kernel: KernelDefinition, architecture: &str) -> Result<String, String> {
    let (number, special) = match architecture.strip_suffix('a') {
        Some(number) => (number, true),
        None => (architecture, false),
    };
    let number = number.parse().map_err(|_| format!("{architecture} is no architecture"))?;
    let options = PlironOptions {
        sm_arch: Some(SmArch::new(number, special)),
        ptx_version: PtxVersion::for_driver(13000),
        grid_constants: true,
        ..Default::default()
    };
    let mut compiler = PlironCompiler { target: LlvmTarget::Nvptx };
    let compiled = compiler.compile(kernel, &options).map_err(|error| format!("{error:?}"))?;
    let PlironArtifact::NvptxCode(module) = compiled else {
        return Err("LLVM did not return PTX".into());
    };
    // SAFETY: the module holds the text of the kernel, with a NUL at its end.
    let text = unsafe { CStr::from_ptr(module.ptx.as_ptr()) };
    Ok(text.to_string_lossy().into_owned())
}
