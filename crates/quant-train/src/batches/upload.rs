//! Moves batches to the device as bytes, before the step needs them, and normalises them there.

use std::{
    panic::resume_unwind,
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use quant_data::{Batch, DataError, Epoch};
use quant_infer::model::Input;

/// A batch on the device.
#[derive(Debug, Clone)]
pub struct DeviceBatch {
    /// The number of the batch in its epoch, counted from 0.
    pub number: usize,
    /// The labels, `[batch]`.
    pub labels: Tensor<1, Int>,
    /// The number of images.
    pub count: usize,
    /// The images that could not be used, each with the reason.
    pub skipped: Vec<String>,
    pixels: Pixels,
}

/// Pixels, `[batch, 3, size, size]`, in 0..=255.
#[derive(Debug, Clone)]
enum Pixels {
    Bytes(Tensor<4, Int>),
    /// Pixels on devices that do not have bytes as a type.
    Floats(Tensor<4>),
}

impl DeviceBatch {
    /// Moves a batch to `device`. Not every device has tensors without elements, so a batch without
    /// images has one black pixel and `count` 0. It contains only the messages about skipped
    /// images, and nothing is computed with it.
    pub fn new(mut batch: Batch, device: &Device) -> Self {
        let count = batch.labels.len();
        if count == 0 {
            (batch.size, batch.pixels, batch.labels) = (1, vec![0; 3], vec![0]);
        }
        let labels: Vec<i64> = batch.labels.iter().map(|label| *label as i64).collect();
        let data = TensorData::new(batch.pixels, [labels.len(), 3, batch.size, batch.size]);
        let pixels = if device.supports_dtype(DType::U8) {
            Pixels::Bytes(Tensor::from_data(data, (device, DType::U8)))
        } else {
            Pixels::Floats(Tensor::from_data(data, device))
        };
        Self {
            number: batch.number,
            count,
            labels: Tensor::from_data(labels.as_slice(), device),
            skipped: batch.skipped,
            pixels,
        }
    }
}

/// The normalisation of images on the device.
#[derive(Debug, Clone)]
pub struct ImageNormalizer {
    scale: Tensor<4>,
    shift: Tensor<4>,
}

impl ImageNormalizer {
    /// Returns the normalisation (byte/255 - mean)/std for each channel.
    pub fn new((mean, std): ([f64; 3], [f64; 3]), device: &Device) -> Self {
        let per_channel =
            |values: &[f32]| Tensor::<1>::from_floats(values, device).reshape([1, 3, 1, 1]);
        // The numbers that a packed network has too.
        let Input { scale, shift, .. } = Input::normalized([1, 1], &mean, &std);
        Self { scale: per_channel(&scale), shift: per_channel(&shift) }
    }

    /// Returns the normalised images of a batch, `[batch, 3, size, size]`.
    pub fn images(&self, batch: &DeviceBatch) -> Tensor<4> {
        let pixels = match batch.pixels.clone() {
            Pixels::Bytes(pixels) => pixels.float(),
            Pixels::Floats(pixels) => pixels,
        };
        pixels * self.scale.clone() + self.shift.clone()
    }
}

/// An iterator over batches that moves each to the device while the batch before it is used.
/// Dropping it ends the epoch.
pub(crate) struct Uploads {
    /// `None` after the end of the epoch, like the thread.
    batches: Option<Receiver<Result<DeviceBatch, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Uploads {
    /// Moves the batches of `epoch` to `device`.
    ///
    /// # Errors
    /// [`DataError::NoThread`].
    pub(crate) fn new(epoch: Epoch, device: &Device) -> Result<Self, DataError> {
        // The channel has no buffer, so that only one batch waits on the device beside the one in
        // use.
        let (sender, batches) = sync_channel(0);
        let device = device.clone();
        let upload = move || {
            for batch in epoch {
                let batch = batch.map(|batch| DeviceBatch::new(batch, &device));
                if sender.send(batch).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .spawn(upload)
            .map_err(|source| DataError::NoThread { source })?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    fn end(&mut self) -> thread::Result<()> {
        // The thread ends when its receiver is gone.
        self.batches = None;
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Iterator for Uploads {
    type Item = Result<DeviceBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.batches.as_ref()?.recv() {
            return Some(batch);
        }
        if let Err(panic) = self.end() {
            resume_unwind(panic);
        }
        None
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // A thread that panicked has already printed its message.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_normalised_by_channel() {
        let device = Device::flex();
        let pixels = vec![0, 255, 51];
        let batch = Batch { number: 0, pixels, labels: vec![4], size: 1, skipped: Vec::new() };
        let batch = DeviceBatch::new(batch, &device);
        let normalizer = ImageNormalizer::new(([0.5; 3], [0.5, 0.25, 0.1]), &device);
        let images: Vec<f32> = normalizer.images(&batch).into_data().iter().collect();
        for (value, expected) in images.iter().zip([-1.0, 2.0, -3.0]) {
            assert!((value - expected).abs() < 1e-5, "{images:?}");
        }
        assert_eq!(batch.labels.into_scalar::<i64>(), 4);
        assert!(matches!(batch.pixels, Pixels::Bytes(_)));
    }
}
