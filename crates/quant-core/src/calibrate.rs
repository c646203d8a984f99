//! Initial clipping values from data.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    config::{QuantizerConfig, Range},
    site::Grouping,
};

/// How a clipping value is found from samples x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calibration {
    /// The value, out of 100 up to the largest magnitude, with the least squared error.
    #[default]
    SquaredError,
    /// LSQ's step 2·mean|x|/sqrt(Qp) (Esser et al. 2020, section 2.1), as a clipping value:
    /// 2·mean|x|·sqrt(Qp), with Qp = n (unsigned) or n/2 (signed).
    MeanMagnitude,
    /// The largest magnitude.
    Largest,
}

/// What a calibration did to one quantizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationInfo {
    /// Name of the layer.
    pub layer: String,
    /// How.
    pub calibration: Calibration,
    /// Elements seen.
    pub elements: u64,
    /// Clipping values before, per group.
    pub before: Vec<f32>,
    /// Clipping values after, per group.
    pub after: Vec<f32>,
    /// Squared quantization error over squared input, before: 0 is perfect, 1 is all zeros.
    pub error_before: f64,
    /// The same after.
    pub error_after: f64,
}

/// Samples kept per group for the squared error.
const SAMPLES: usize = 8192;

/// What was seen of one group.
#[derive(Debug, Clone, Default)]
struct GroupSamples {
    elements: u64,
    sum: f64,
    largest: f32,
    kept: Vec<f32>,
}

/// What was seen while observing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<GroupSamples>);

/// Gathers statistics inside `forward`, which borrows the quantizer immutably. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observer(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Observing {
        samples: Samples,
        /// Whether inputs stay unquantized meanwhile.
        pass: bool,
    },
    WarmUp {
        calls: usize,
        correlate: f32,
        done: usize,
        largest: Option<f32>,
    },
}

impl Observer {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start(&self, pass: bool) {
        *self.state() = State::Observing { samples: Samples::default(), pass };
    }

    pub(crate) fn finish(&self) -> Option<Samples> {
        let mut state = self.state();
        match std::mem::take(&mut *state) {
            State::Observing { samples, .. } if !samples.0.is_empty() => Some(samples),
            State::Observing { .. } | State::Idle => None,
            warm_up => {
                *state = warm_up;
                None
            }
        }
    }

    pub(crate) fn warm_up(&self, calls: usize, correlate: f32, done: usize) {
        *self.state() = match done < calls {
            true => State::WarmUp { calls, correlate, done, largest: None },
            false => State::Idle,
        };
    }

    /// Takes note of `x`; whether it is to pass through unquantized.
    pub(crate) fn passes<const D: usize>(
        &self,
        x: &Tensor<D>,
        grouping: Grouping,
        training: bool,
    ) -> bool {
        match &mut *self.state() {
            State::Idle => false,
            State::Observing { samples, pass } => {
                samples.add(x, grouping);
                *pass
            }
            State::WarmUp { largest, .. } => {
                if training {
                    let seen: f32 = x.clone().detach().abs().max().into_scalar();
                    *largest = Some(seen);
                }
                training
            }
        }
    }

    /// The number of warm-up calls so far and the last call's max|x|·correlate.
    pub(crate) fn take_largest(&self) -> Option<(usize, f32)> {
        let mut state = self.state();
        let State::WarmUp { calls, correlate, done, largest } = &mut *state else {
            return None;
        };
        let seen = largest.take()? * if *correlate > 0.0 { *correlate } else { 1.0 };
        *done += 1;
        let result = (*done, seen);
        if done >= calls {
            *state = State::Idle;
        }
        Some(result)
    }
}

impl Samples {
    /// All samples that were kept, at most 8192 per group.
    pub(crate) fn values(self) -> Vec<f32> {
        self.0.into_iter().flat_map(|group| group.kept).collect()
    }

    fn add<const D: usize>(&mut self, x: &Tensor<D>, grouping: Grouping) {
        let [_, groups, inner] = grouping.view(&x.shape());
        self.0.resize_with(groups, GroupSamples::default);
        let values: Vec<f32> = x.clone().detach().into_data().convert::<f32>().iter().collect();
        // An odd stride visits all positions of images with even sides.
        let stride = (values.len() / groups / (SAMPLES / 4)).max(1) | 1;
        for (row, values) in values.chunks(inner.max(1)).enumerate() {
            let group = &mut self.0[row % groups];
            group.elements += values.len() as u64;
            group.sum += values.iter().map(|x| f64::from(x.abs())).sum::<f64>();
            group.largest = values.iter().fold(group.largest, |max, x| max.max(x.abs()));
            group.kept.extend(values.iter().step_by(stride));
            while group.kept.len() > SAMPLES {
                let mut index = 0;
                group.kept.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
            }
        }
    }

    pub(crate) fn calibrate(
        &self,
        config: &QuantizerConfig,
        layer: &str,
        calibration: Calibration,
        before: Vec<f32>,
    ) -> CalibrationInfo {
        let (steps, range) = (config.levels.steps(), config.range);
        let after: Vec<f32> = self
            .0
            .iter()
            .zip(&before)
            .map(|(group, before)| {
                let clip = match calibration {
                    Calibration::Largest => group.largest,
                    Calibration::MeanMagnitude => {
                        let positive = if range == Range::Signed { steps / 2.0 } else { steps };
                        (2.0 * group.sum / group.elements as f64) as f32 * positive.sqrt()
                    }
                    Calibration::SquaredError => group.least_error(steps, range),
                };
                // A group of zeros says nothing about its scale.
                if clip > 0.0 && clip.is_finite() { clip } else { *before }
            })
            .collect();
        let error = |clips: &[f32]| {
            let energy: f64 = self.0.iter().flat_map(|g| &g.kept).map(|x| square(*x)).sum();
            let groups = self.0.iter().zip(clips);
            let error: f64 = groups.map(|(group, clip)| group.error(*clip, steps, range)).sum();
            if energy > 0.0 { error / energy } else { 0.0 }
        };
        CalibrationInfo {
            layer: layer.to_owned(),
            calibration,
            elements: self.0.iter().map(|group| group.elements).sum(),
            error_before: error(&before),
            error_after: error(&after),
            before,
            after,
        }
    }
}

impl GroupSamples {
    fn error(&self, clip: f32, steps: f32, range: Range) -> f64 {
        let quantize = |x: f32| match range {
            Range::Unsigned => ((x / clip).clamp(0.0, 1.0) * steps).round_ties_even() / steps,
            Range::Signed => {
                let u = ((x / clip).clamp(-1.0, 1.0) + 1.0) / 2.0;
                2.0 * (u * steps).round_ties_even() / steps - 1.0
            }
        };
        self.kept.iter().map(|x| square(x - quantize(*x) * clip)).sum()
    }

    fn least_error(&self, steps: f32, range: Range) -> f32 {
        (1..=100)
            .map(|part| self.largest * part as f32 / 100.0)
            .filter(|clip| *clip > 0.0)
            .map(|clip| (clip, self.error(clip, steps, range)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(0.0, |(clip, _)| clip)
    }
}

fn square(x: f32) -> f64 {
    f64::from(x) * f64::from(x)
}
