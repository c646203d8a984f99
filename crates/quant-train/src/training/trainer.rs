//! The objects that the training of a phase needs, and its initial state.

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use quant_data::Loader;
use quant_nn::{Classifier, ops::channels_last};

pub(crate) use crate::training::state::TrainState;
use crate::{
    batches::upload::ImageNormalizer,
    devices::group::{Alone, Group, SharedStatistics},
    optimize::{average::Average, optimizer::Optimizers, precision::LossScale},
    recipe::{phase::Phase, policy::Trigger},
    stop::Stop,
    training::{
        loss::Objective,
        state::{EpochSums, Progress},
    },
};

/// The objects that training needs and does not change.
pub(crate) struct Trainer<'a, M> {
    /// The phase.
    pub phase: &'a Phase,
    /// The loader of the training images.
    pub train: &'a Loader,
    /// The loader of the validation images.
    pub val: &'a Loader,
    /// The normalisation of batches, on the training device.
    pub normalizer: ImageNormalizer,
    /// The device, with autodiff.
    pub device: Device,
    /// The folder of the phase, for its checkpoints and networks.
    pub folder: &'a Path,
    /// The request that training stops.
    pub stop: Stop,
    /// The loss that is minimised.
    pub objective: Objective<M>,
    /// The group of processes that train together.
    pub group: Arc<dyn Group>,
    /// The statistics that these processes share, if they share them.
    pub shared: Option<SharedStatistics>,
}

impl<'a, M: Classifier> Trainer<'a, M> {
    /// Returns a trainer on the plain device `device`, which writes its files below `folder`.
    pub(crate) fn new(
        phase: &'a Phase,
        (train, val): (&'a Loader, &'a Loader),
        normalization: ([f64; 3], [f64; 3]),
        device: &Device,
        folder: &'a Path,
    ) -> Self {
        Self {
            phase,
            train,
            val,
            normalizer: ImageNormalizer::new(normalization, device),
            device: device.clone().autodiff(),
            folder,
            stop: Stop::default(),
            objective: Objective::new(phase, device),
            group: Arc::new(Alone),
            shared: None,
        }
    }

    /// Returns a new state that starts from `network`. The policies of the start have to be applied
    /// to the network before.
    pub(crate) fn start(&self, network: M) -> TrainState<M> {
        let (optimizer, rules) = (self.phase.optimizer, &self.phase.groups);
        let policies = self.phase.policies.iter().enumerate();
        let applied = policies.filter(|(_, policy)| policy.at == Trigger::Start);
        let network = channels_last(network);
        TrainState {
            optimizers: Optimizers::new(optimizer, rules, &network),
            average: self.phase.average.map(|decay| Average::new(&network, decay)),
            network,
            progress: Progress {
                phase: self.phase.name.clone(),
                epoch: 0,
                batch: 0,
                step: 0,
                calls: 0,
                policies: applied.map(|(index, _)| index).collect(),
                loss_scale: LossScale::new(self.phase.precision),
                sums: EpochSums::default(),
                best: None,
            },
        }
    }

    /// Returns the learning rate of the next step.
    pub(crate) fn rate(&self, progress: &Progress) -> f64 {
        self.phase.rate(progress.epoch, progress.batch, self.train.batches())
    }
}
