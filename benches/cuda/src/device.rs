//! A device that only exists for the compilers: its properties, and memory that nobody allocates.

use std::{any::TypeId, sync::Arc};

use cubecl::{
    prelude::*,
    std::tensor::layout::linear::{LinearViewLaunch, linear_view},
};
use cubecl_common::device::{DeviceId, ServiceId};
use cubecl_core::{
    ir::{DeviceIdentity, HardwareProperties, MemoryDeviceProperties},
    profile::TimingMethod,
};
use cubecl_cpp::shared::register_supported_types;
use cubecl_environment::stream::StreamId;
use cubecl_runtime::server::Handle;

/// Returns the properties of an H100, as CubeCL's CUDA backend finds them.
pub fn properties() -> Arc<DeviceProperties> {
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 32,
        max_shared_memory_size: 65536,
        max_cube_count: (u32::MAX, u16::MAX as u32, u16::MAX as u32),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 1024),
        num_streaming_multiprocessors: Some(132),
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: VectorSize::MAX,
        cube_mma_reserved_shared_memory: 0,
    };
    let mut properties = DeviceProperties::new(
        Default::default(),
        MemoryDeviceProperties::new(u64::MAX, 256),
        hardware,
        TimingMethod::Device,
        DeviceIdentity { name: "offline".into(), fingerprint: "offline".into(), physical: None },
    );
    register_supported_types(&mut properties);
    Arc::new(properties)
}

/// Returns an argument for a tensor with these sizes and strides.
pub fn view(shape: &[usize], strides: &[usize]) -> LinearViewLaunch {
    linear_view(tensor(shape, strides))
}

/// Returns a tensor with these sizes and strides.
pub fn tensor(shape: &[usize], strides: &[usize]) -> TensorBinding {
    let service = ServiceId { device: DeviceId::new(0, 0), service: TypeId::of::<()>() };
    let elements: usize = shape.iter().product();
    let handle = Handle::new(service, StreamId::current(), 8 * elements as u64);
    TensorBinding {
        handle: handle.binding(),
        strides: strides.into(),
        shape: shape.into(),
        tiling: Default::default(),
    }
}
