//! Every kernel of `quant-cube`, for each type, vector, layout and width of addresses.

pub use define::Kernel;

pub mod bases;
mod define;
pub mod norms;
pub mod quantizers;
pub mod updates;

/// Returns all kernels.
pub fn all() -> Vec<Kernel> {
    let mut kernels = quantizers::all();
    kernels.extend(bases::all());
    kernels.extend(norms::all());
    kernels.extend(updates::all());
    kernels
}
