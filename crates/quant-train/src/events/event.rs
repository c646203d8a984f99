//! What can happen in a run.

use quant_core::CalibrationInfo;
use quant_nn::NetworkSummary;
use serde::{Deserialize, Serialize};

use crate::{
    measure::{evaluate::Score, monitor::Health},
    optimize::precision::LossScale,
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run began or went on.
    RunStarted {
        /// Name of the recipe.
        name: String,
        /// The device.
        device: String,
        /// Training images.
        train_images: usize,
        /// Validation images.
        val_images: usize,
        /// Names of the classes.
        classes: Vec<String>,
        /// Whether it was resumed.
        resumed: bool,
    },
    /// The recipe, the data or the devices of a run that goes on are others than before.
    Changed {
        /// What changed, one change in each.
        changes: Vec<String>,
    },
    /// A phase began or went on.
    PhaseStarted {
        /// The name of the phase.
        phase: String,
        /// Optimizer steps already done.
        step: usize,
        /// Epochs already done.
        #[serde(default)]
        epoch: usize,
        /// The network.
        summary: NetworkSummary,
    },
    /// Weights were read from a file.
    WeightsLoaded {
        /// The phase.
        phase: String,
        /// The file.
        path: String,
        /// What became of its entries.
        report: String,
    },
    /// The quantizers have their first parameters.
    Calibrated {
        /// The phase.
        phase: String,
        /// What each quantizer got whose parameters were found from data.
        quantizers: Vec<CalibrationInfo>,
        /// Quantizers that keep the parameters that the weights came with.
        #[serde(default)]
        kept: Vec<String>,
        /// Quantizers that are left at their defaults.
        #[serde(default)]
        untouched: Vec<String>,
    },
    /// A few steps were done.
    Progress {
        /// The phase.
        phase: String,
        /// Epoch, from 0.
        epoch: usize,
        /// Epochs of the phase.
        #[serde(default)]
        epochs: usize,
        /// Optimizer steps of the phase so far.
        step: usize,
        /// Batches of the epoch so far.
        batch: usize,
        /// Batches of an epoch.
        batches: usize,
        /// Mean loss of these steps.
        #[serde(deserialize_with = "quant_core::number::or_nan_f32")]
        loss: f32,
        /// Learning rate of the next.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        learning_rate: f64,
        /// Training speed of these steps.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        images_per_second: f64,
    },
    /// An epoch ended and was evaluated.
    EpochFinished {
        /// The phase.
        phase: String,
        /// Epoch, from 0.
        epoch: usize,
        /// Epochs of the phase.
        epochs: usize,
        /// Mean training loss.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        train_loss: f64,
        /// Training accuracy in percent, while the network was changing.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        train_top1: f64,
        /// On the validation images.
        val: Score,
        /// The loss scale of mixed precision, and how many steps it has cost.
        #[serde(default)]
        loss_scale: Option<LossScale>,
    },
    /// How the quantizers fared in an epoch.
    QuantizerHealth {
        /// The phase.
        phase: String,
        /// Epoch, from 0.
        epoch: usize,
        /// The quantizers that quantize.
        quantizers: Vec<Health>,
    },
    /// How the weights of a quantized layer are distributed after an epoch.
    WeightHistogram {
        /// The phase.
        phase: String,
        /// Epoch, from 0.
        epoch: usize,
        /// The layer.
        layer: String,
        /// The smallest weight.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        low: f64,
        /// The largest.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        high: f64,
        /// Weights in each of the evenly spaced bins between.
        bins: Vec<u64>,
    },
    /// A policy changed quantizers.
    PolicyApplied {
        /// The phase.
        phase: String,
        /// Optimizer steps before it.
        step: usize,
        /// Its index in the recipe.
        policy: usize,
        /// The quantizers.
        layers: Vec<String>,
    },
    /// An image could not be used.
    ImageSkipped {
        /// Which, and why.
        reason: String,
    },
    /// Something is wrong, but training goes on.
    Warning {
        /// What.
        message: String,
    },
    /// A phase ended.
    PhaseFinished {
        /// The name of the phase.
        phase: String,
        /// Its last network's score.
        last: Score,
        /// Epoch of its best network.
        best_epoch: usize,
        /// That one's score.
        best: Score,
    },
}
