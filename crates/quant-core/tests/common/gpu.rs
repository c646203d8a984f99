//! The GPU of a build.

use burn::tensor::Device;

/// Returns the first device of the GPU backend that this build has.
pub(crate) fn gpu() -> Device {
    cfg_select! {
        feature = "cuda" => Device::cuda(0),
        feature = "rocm" => Device::rocm(0),
        feature = "metal" => Device::metal(Default::default()),
        feature = "vulkan" => Device::vulkan(Default::default()),
        _ => Device::wgpu(Default::default()),
    }
}
