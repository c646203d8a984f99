//! The events of a run.

use quant_core::CalibrationInfo;
use quant_nn::NetworkSummary;
use serde::{Deserialize, Serialize};

use crate::{
    measure::{evaluate::Score, monitor::Health},
    optimize::precision::LossScale,
};

/// An event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run started or was resumed.
    RunStarted {
        /// The name of the recipe.
        name: String,
        /// The name of the device.
        device: String,
        /// The number of training images.
        train_images: usize,
        /// The number of validation images.
        val_images: usize,
        /// The names of the classes.
        classes: Vec<String>,
        /// Whether the run was resumed.
        resumed: bool,
    },
    /// A resumed run has another recipe, other data or other devices than before.
    Changed {
        /// The changes, one text for each.
        changes: Vec<String>,
    },
    /// A phase started or was resumed.
    PhaseStarted {
        /// The name of the phase.
        phase: String,
        /// The number of optimizer steps that were already done.
        step: usize,
        /// The number of epochs that were already done.
        #[serde(default)]
        epoch: usize,
        /// The description of the network.
        summary: NetworkSummary,
    },
    /// Weights were read from a file.
    WeightsLoaded {
        /// The name of the phase.
        phase: String,
        /// The path of the file.
        path: String,
        /// A description of what was done with the entries of the file.
        report: String,
    },
    /// The quantizers have their initial parameters.
    Calibrated {
        /// The name of the phase.
        phase: String,
        /// The calibrated quantizers, each with its result.
        quantizers: Vec<CalibrationInfo>,
        /// The names of the quantizers that keep the parameters that came with the weights.
        #[serde(default)]
        kept: Vec<String>,
        /// The names of the quantizers that keep the default parameters of their methods.
        #[serde(default)]
        untouched: Vec<String>,
    },
    /// Some steps were done.
    Progress {
        /// The name of the phase.
        phase: String,
        /// The epoch, counted from 0.
        epoch: usize,
        /// The number of epochs of the phase.
        #[serde(default)]
        epochs: usize,
        /// The number of optimizer steps of the phase so far.
        step: usize,
        /// The number of batches of the epoch so far.
        batch: usize,
        /// The number of batches in an epoch.
        batches: usize,
        /// The mean loss of these steps.
        #[serde(deserialize_with = "quant_core::number::or_nan_f32")]
        loss: f32,
        /// The learning rate of the next step.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        learning_rate: f64,
        /// The training speed in these steps.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        images_per_second: f64,
    },
    /// The last network was packed, and evaluated by the engine that serves it and in the trainer.
    Packed {
        /// The path of the packed file.
        file: String,
        /// The size of the file in bytes.
        bytes: u64,
        /// The score of the packed network, by the engine that serves it.
        packed: Score,
        /// The score of the same arithmetic in the trainer.
        served: Score,
        /// The number of images for which the usual evaluation has the same best class.
        same_decisions: usize,
        /// The number of codes of layers' inputs that were compared with the usual evaluation.
        codes: u64,
        /// The number of these codes that differ.
        other_codes: u64,
    },
    /// An epoch ended and was evaluated.
    EpochFinished {
        /// The name of the phase.
        phase: String,
        /// The epoch, counted from 0.
        epoch: usize,
        /// The number of epochs of the phase.
        epochs: usize,
        /// The mean training loss.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        train_loss: f64,
        /// The training accuracy in percent, measured while the network was changing.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        train_top1: f64,
        /// The score on the validation images.
        val: Score,
        /// The loss scale of mixed precision, with the number of steps that it has skipped.
        #[serde(default)]
        loss_scale: Option<LossScale>,
    },
    /// The health of the quantizers after an epoch.
    QuantizerHealth {
        /// The name of the phase.
        phase: String,
        /// The epoch, counted from 0.
        epoch: usize,
        /// The health of each quantizer that quantizes.
        quantizers: Vec<Health>,
    },
    /// The distribution of the weights of a quantized layer after an epoch.
    WeightHistogram {
        /// The name of the phase.
        phase: String,
        /// The epoch, counted from 0.
        epoch: usize,
        /// The name of the layer.
        layer: String,
        /// The smallest weight.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        low: f64,
        /// The largest weight.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        high: f64,
        /// The number of weights in each of the evenly spaced bins between them.
        bins: Vec<u64>,
    },
    /// A policy changed quantizers.
    PolicyApplied {
        /// The name of the phase.
        phase: String,
        /// The number of optimizer steps before it.
        step: usize,
        /// The index of the policy in the recipe.
        policy: usize,
        /// The names of the quantizers that changed.
        layers: Vec<String>,
    },
    /// An image could not be used.
    ImageSkipped {
        /// The image and the reason.
        reason: String,
    },
    /// Something is wrong, but training continues.
    Warning {
        /// A description of what is wrong.
        message: String,
    },
    /// A phase ended.
    PhaseFinished {
        /// The name of the phase.
        phase: String,
        /// The score of the phase's last network.
        last: Score,
        /// The epoch of the phase's best network, counted from 0.
        best_epoch: usize,
        /// The score of the phase's best network.
        best: Score,
    },
}
