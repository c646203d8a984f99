//! A device, tensors in several layouts on it, and its launches.

#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::{Arc, Mutex, MutexGuard};

use cubecl::{
    Device,
    client::Client,
    ir::{ElemType, FloatKind},
    logging::{LaunchObservation, LaunchObserver},
    prelude::TensorBinding,
};
use quant_cube::{Operand, Output};

pub(crate) const FLOAT: ElemType = ElemType::Float(FloatKind::F32);

pub(crate) fn client() -> Client {
    cfg_select! {
        feature = "cuda" => Device::cuda(0).unwrap().client(),
        feature = "rocm" => Device::rocm(0).unwrap().client(),
        feature = "metal" => Device::wgpu(Default::default()).unwrap().client(),
        feature = "vulkan" => Device::vulkan(Default::default()).unwrap().client(),
        _ => Device::wgpu(Default::default()).unwrap().client(),
    }
}

/// The launches of the whole process are observed, so tests that launch take turns.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A layout of `[batch, channels, pixels]` in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The order of the shape.
    Contiguous,
    /// `[batch, pixels, channels]`, as Burn's convolutions return it.
    ChannelsLast,
    /// Rows of pixels with three unused numbers behind each, as CUDA pads rows.
    Gaps,
    /// The last images of a larger batch.
    Sliced,
}

pub(crate) const LAYOUTS: [Layout; 4] =
    [Layout::Contiguous, Layout::ChannelsLast, Layout::Gaps, Layout::Sliced];

pub(crate) type Sizes = [usize; 3];

impl Layout {
    pub(crate) fn strides(self, [_, channels, pixels]: Sizes) -> Sizes {
        match self {
            Layout::Contiguous | Layout::Sliced => [channels * pixels, pixels, 1],
            Layout::ChannelsLast => [channels * pixels, 1, channels],
            Layout::Gaps => [channels * (pixels + 3), pixels + 3, 1],
        }
    }
}

fn place(strides: Sizes, at: Sizes) -> usize {
    at.iter().zip(strides).map(|(at, stride)| at * stride).sum()
}

fn indices([batch, channels, pixels]: Sizes) -> impl Iterator<Item = Sizes> {
    (0..batch).flat_map(move |image| {
        (0..channels).flat_map(move |channel| (0..pixels).map(move |pixel| [image, channel, pixel]))
    })
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Brings `[batch, channels, pixels]` to the device in a layout.
pub(crate) fn upload(client: &Client, values: &[f32], sizes: Sizes, layout: Layout) -> Operand {
    let strides = layout.strides(sizes);
    let length = place(strides, sizes.map(|size| size - 1)) + 1;
    let mut memory = vec![f32::NAN; length];
    for (value, at) in values.iter().zip(indices(sizes)) {
        memory[place(strides, at)] = *value;
    }
    let handle = if layout == Layout::Sliced {
        // 256 bytes are a place at which every device may begin a tensor.
        let whole = [vec![f32::NAN; 64], memory].concat();
        client.create_from_slice(&bytes(&whole)).offset_start(256)
    } else {
        client.create_from_slice(&bytes(&memory))
    };
    let binding = TensorBinding {
        handle: handle.binding(),
        shape: sizes.as_slice().into(),
        strides: strides.as_slice().into(),
        tiling: Default::default(),
    };
    Operand { binding, dtype: FLOAT }
}

pub(crate) fn row(client: &Client, values: &[f32]) -> Operand {
    upload(client, values, [1, 1, values.len()], Layout::Contiguous).shaped(&[values.len()], &[1])
}

pub(crate) trait Shaped {
    fn shaped(self, shape: &[usize], strides: &[usize]) -> Self;
}

impl Shaped for Operand {
    fn shaped(mut self, shape: &[usize], strides: &[usize]) -> Self {
        self.binding.shape = shape.into();
        self.binding.strides = strides.into();
        self
    }
}

/// Returns the numbers of a tensor in the order of its shape.
pub(crate) fn download(client: &Client, output: &Output) -> Vec<f32> {
    let read = client.read_one(output.handle.clone()).unwrap();
    let memory: Vec<f32> =
        read.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    let mut indices = vec![0usize];
    for (size, stride) in output.shape.iter().zip(&output.strides) {
        let next = |index: usize| (0..*size).map(move |at| index + at * stride);
        indices = indices.into_iter().flat_map(next).collect();
    }
    indices.into_iter().map(|index| memory[index]).collect()
}

pub(crate) fn operand(output: &Output) -> Operand {
    let binding = TensorBinding {
        handle: output.handle.clone().binding(),
        shape: output.shape.as_slice().into(),
        strides: output.strides.as_slice().into(),
        tiling: Default::default(),
    };
    Operand { binding, dtype: FLOAT }
}

/// Returns reproducible values in -2..2.
pub(crate) fn drawn(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 22) as f32 - 2.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[derive(Default)]
struct Names(Mutex<Vec<&'static str>>);

impl LaunchObserver for Names {
    fn launched(&self, kernel: &'static str) {
        self.0.lock().unwrap().push(kernel);
    }
}

/// Returns the result of a task and the names of the kernels that it launches.
pub(crate) fn observed<T>(task: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
    let names = Arc::new(Names::default());
    let watching = LaunchObservation::new(names.clone());
    let result = task();
    drop(watching);
    let names = names.0.lock().unwrap().clone();
    (result, names)
}
