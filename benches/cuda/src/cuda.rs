//! CubeCL's CUDA C++ of a kernel.

use cubecl_cpp::{
    shared::{CompilationOptions, CppCompiler, CppSupportedFeatures},
    target::Cuda,
};
use cubecl_runtime::{compiler::Compiler, kernel::KernelDefinition};

/// Returns the CUDA C++ of a kernel.
///
/// # Panics
/// If CubeCL cannot compile the kernel.
pub fn source(kernel: KernelDefinition) -> String {
    let options = CompilationOptions {
        supports_features: CppSupportedFeatures {
            fast_math: true,
            dp4a: true,
            grid_constants: true,
            ..Default::default()
        },
        ..Default::default()
    };
    let mut compiler = CppCompiler::<Cuda>::default();
    compiler.compile(kernel, &options).expect("CubeCL compiles the kernel").to_string()
}
