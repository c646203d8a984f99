//! What training changes: the network, the optimizers' state, the average, and where a phase
//! stands.

use quant_nn::{Classifier, Compute, StateDict};
use serde::{Deserialize, Serialize};

use crate::{
    error::TrainError,
    measure::evaluate::Score,
    optimize::{average::Average, optimizer::Optimizers, precision::LossScale},
    recipe::phase::Phase,
};

/// Everything that training changes.
pub struct TrainState<M> {
    /// The network.
    pub network: M,
    /// The optimizers' state.
    pub optimizers: Optimizers,
    /// Where the phase stands.
    pub progress: Progress,
    /// The moving average of the weights, where there is one.
    pub average: Option<Average<M>>,
}

impl<M: Classifier> TrainState<M> {
    /// The network that is evaluated and kept, on the plain device and in 32 bits: the average
    /// where there is one.
    pub fn served(&self) -> M {
        let network = match &self.average {
            Some(average) => average.network.clone(),
            None => self.network.valid(),
        };
        network.with_compute(Compute::F32)
    }

    /// Checks that the network, and the average where there is one, consists of finite numbers.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] with the first entry that does not.
    pub fn check(&self, recipe: &Phase) -> Result<(), TrainError> {
        let average = self.average.as_ref().map(|average| &average.network);
        let found = not_finite(&self.network.valid()).or_else(|| not_finite(average?));
        found.map_or(Ok(()), |found| Err(diverged(recipe, &self.progress, found)))
    }
}

/// The first entry of a network's state that is not all finite numbers, and what it holds.
pub(crate) fn not_finite<M: Classifier>(network: &M) -> Option<String> {
    let state = StateDict::of(network);
    state.entries().find_map(|(name, entry)| {
        let value = entry.values.iter().find(|value| !value.is_finite())?;
        Some(format!("{name} holds {value}"))
    })
}

pub(crate) fn diverged(recipe: &Phase, progress: &Progress, found: String) -> TrainError {
    TrainError::Diverged { phase: recipe.name.clone(), step: progress.step, found }
}

/// Checks a score's loss.
pub(crate) fn finite_score(
    recipe: &Phase,
    progress: &Progress,
    score: Score,
) -> Result<Score, TrainError> {
    match score.loss.is_finite() {
        true => Ok(score),
        false => {
            let found = format!("the validation loss is {}", score.loss);
            Err(diverged(recipe, progress, found))
        }
    }
}

/// Where a phase stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Name of the phase.
    pub phase: String,
    /// The current epoch.
    pub epoch: usize,
    /// Batches of it that are done.
    pub batch: usize,
    /// Optimizer steps of the phase.
    pub step: usize,
    /// Batches of the phase that were trained on.
    pub calls: usize,
    /// Policies that were applied, in that order, by their index in the recipe.
    pub policies: Vec<usize>,
    /// The loss scale of mixed precision.
    pub loss_scale: Option<LossScale>,
    /// Sums over the epoch so far.
    pub sums: EpochSums,
    /// The best score so far, and its epoch.
    pub best: Option<(usize, Score)>,
}

/// Sums over the training images of an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Of losses.
    #[serde(deserialize_with = "quant_core::number::or_nan")]
    pub loss: f64,
    /// Of right answers.
    #[serde(deserialize_with = "quant_core::number::or_nan")]
    pub right: f64,
    /// Of images.
    pub images: usize,
}
