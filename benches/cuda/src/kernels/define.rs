//! What the definitions of kernels have in common.

use cubecl::{
    prelude::*,
    std::tensor::layout::linear::{LinearView, LinearViewLaunch},
};
use cubecl_runtime::kernel::KernelDefinition;
use quant_cube::PathLaunch;

use crate::device::view;

/// A kernel to compile.
pub struct Kernel {
    pub name: String,
    pub define: Box<dyn Fn() -> KernelDefinition>,
}

impl Kernel {
    pub fn new(name: String, define: impl Fn() -> KernelDefinition + 'static) -> Self {
        Self { name, define: Box::new(define) }
    }
}

/// The number of elements in the declared tensors. Kernels do not depend on it.
pub const LENGTH: usize = 4096;

/// Declares a tensor without gaps.
pub fn plain(length: usize) -> RuntimeArg<LinearView<'static, f32>> {
    view(&[length], &[1])
}

/// Declares a tensor, without gaps or in another order.
pub fn tensor(strided: bool) -> LinearViewLaunch {
    if strided { view(&[2, 64, 32], &[2048, 1, 64]) } else { view(&[LENGTH], &[1]) }
}

/// Declares the numbers by which units step through a tensor. Kernels do not depend on them.
pub fn path() -> PathLaunch {
    PathLaunch::new(1, 1, 1, 1, 1, 1, 1, 1)
}

/// Returns the definition of a kernel with these arguments, for a variant and a number of threads.
macro_rules! kernel {
    ($kernel:path, $variant:expr, $units:expr, $($argument:expr),* $(,)?) => {{
        use $kernel as kernel;
        let definition = kernel::create_dummy_kernel(
            $crate::device::properties(),
            ::std::sync::Arc::new(::cubecl::prelude::TargetProperties::default()),
            ::cubecl::prelude::CubeCount::new_1d(1),
            ::cubecl::prelude::CubeDim::new_1d($units as u32),
            $variant.address(),
            $($argument),*
        );
        ::cubecl_runtime::kernel::CubeKernel::define(&definition)
    }};
}
pub(super) use kernel;
