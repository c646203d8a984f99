//! The state of training: the network, the state of the optimizers, the average, and the progress
//! of the phase.

use quant_nn::{Classifier, Compute};
use serde::{Deserialize, Serialize};

use crate::{
    error::TrainError,
    measure::evaluate::Score,
    networks::weights::not_finite,
    optimize::{average::Average, optimizer::Optimizers, precision::LossScale},
    recipe::phase::Phase,
};

/// Everything that training changes.
pub struct TrainState<M> {
    /// The network that is trained.
    pub network: M,
    /// The state of the optimizers.
    pub optimizers: Optimizers,
    /// The progress of the phase.
    pub progress: Progress,
    /// The moving average of the weights, if the phase has one.
    pub average: Option<Average<M>>,
}

impl<M: Classifier> TrainState<M> {
    /// Returns the network that is evaluated and saved, on the plain device and in 32 bits. It is
    /// the average if there is one.
    pub fn served(&self) -> M {
        let network = match &self.average {
            Some(average) => average.network.clone(),
            None => self.network.valid(),
        };
        network.with_compute(Compute::F32)
    }

    /// Checks that all numbers of the network, and of the average if there is one, are finite.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] with the first entry that has another number.
    pub fn check(&self, phase: &Phase) -> Result<(), TrainError> {
        let average = self.average.as_ref().map(|average| &average.network);
        let found = not_finite(&self.network.valid()).or_else(|| not_finite(average?));
        found.map_or(Ok(()), |found| Err(diverged(phase, &self.progress, found)))
    }
}

pub(crate) fn diverged(phase: &Phase, progress: &Progress, found: String) -> TrainError {
    TrainError::Diverged { phase: phase.name.clone(), step: progress.step, found }
}

/// Checks that the loss of a score is finite.
pub(crate) fn finite_score(
    phase: &Phase,
    progress: &Progress,
    score: Score,
) -> Result<Score, TrainError> {
    if score.loss.is_finite() {
        Ok(score)
    } else {
        let found = format!("the validation loss is {}", score.loss);
        Err(diverged(phase, progress, found))
    }
}

/// The progress of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The name of the phase.
    pub phase: String,
    /// The current epoch, counted from 0.
    pub epoch: usize,
    /// The number of batches of this epoch that are done.
    pub batch: usize,
    /// The number of optimizer steps of the phase so far.
    pub step: usize,
    /// The number of batches of the phase that were used for training so far.
    pub calls: usize,
    /// The policies that were applied, in the order of their application, by their index in the
    /// recipe.
    pub policies: Vec<usize>,
    /// The loss scale of mixed precision.
    pub loss_scale: Option<LossScale>,
    /// The sums over the current epoch so far.
    pub sums: EpochSums,
    /// The epoch with the best score so far, and this score.
    pub best: Option<(usize, Score)>,
}

/// Sums over the training images of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// The sum of the losses.
    #[serde(deserialize_with = "quant_core::number::or_nan")]
    pub loss: f64,
    /// The number of right answers.
    #[serde(deserialize_with = "quant_core::number::or_nan")]
    pub right: f64,
    /// The number of images.
    pub images: usize,
}
