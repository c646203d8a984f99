//! The end of an epoch: its score, the health of the quantizers, and the files that are saved.

use quant_nn::Classifier;

use crate::{
    batches::upload::DeviceBatch,
    devices::group,
    error::TrainError,
    events::{Event, Events},
    files,
    measure::{
        evaluate::{Score, evaluate},
        monitor::{Monitor, histogram},
    },
    networks::weights,
    training::{
        checkpoint,
        state::{EpochSums, TrainState},
        trainer::Trainer,
    },
};

impl<M: Classifier> Trainer<'_, M> {
    /// Returns the score of a network on the validation images of all processes.
    pub(super) fn evaluate(&self, network: &M, events: &mut Events) -> Result<Score, TrainError> {
        let mut skipped = Vec::new();
        let plain = self.device.clone().without_autodiff();
        let score = evaluate(network, self.val, &self.normalizer, &plain, |reason| {
            skipped.push(reason);
        })?;
        for reason in group::gather_texts(self.group.as_ref(), skipped)? {
            events.emit(&Event::ImageSkipped { reason })?;
        }
        score.of_all(self.group.as_ref())
    }

    /// Emits events with the health of the quantizers on a validation batch, and with the
    /// distribution of the weights.
    pub(super) fn monitor(
        &self,
        monitor: &mut Monitor,
        network: &M,
        epoch: usize,
        events: &mut Events,
    ) -> Result<(), TrainError> {
        let Some(batch) = self.val.first_images() else {
            return Ok(());
        };
        let plain = self.device.clone().without_autodiff();
        let batch = DeviceBatch::new(batch?, &plain);
        let (quantizers, warnings) = monitor.look(network, self.normalizer.images(&batch));
        let phase = self.phase.name.clone();
        for message in warnings {
            events.emit(&Event::Warning { message })?;
        }
        events.emit(&Event::QuantizerHealth { phase: phase.clone(), epoch, quantizers })?;
        for (layer, quantized) in network.quantized_weights() {
            let values: Vec<f32> = quantized.weight.into_data().iter().collect();
            if let Some((low, high, bins)) = histogram(&values) {
                let phase = phase.clone();
                events.emit(&Event::WeightHistogram { phase, epoch, layer, low, high, bins })?;
            }
        }
        Ok(())
    }

    /// Saves the network if it is the best so far, records the end of the epoch, and writes a
    /// checkpoint.
    pub(super) fn finish_epoch(
        &self,
        state: &mut TrainState<M>,
        network: &M,
        score: Score,
        events: &mut Events,
    ) -> Result<(), TrainError> {
        let write = |name: &str| match self.group.rank() {
            0 => {
                let classes = self.train.dataset().classes();
                files::write(&self.folder.join(name), &weights::trained_bytes(network, classes)?)
            }
            _ => Ok(()),
        };
        let progress = &mut state.progress;
        let images = progress.sums.images.max(1) as f64;
        events.emit(&Event::EpochFinished {
            phase: self.phase.name.clone(),
            epoch: progress.epoch,
            epochs: self.phase.all_epochs(),
            train_loss: progress.sums.loss / images,
            train_top1: 100.0 * progress.sums.right / images,
            val: score,
            loss_scale: progress.loss_scale,
        })?;
        let epoch = progress.epoch;
        if progress.best.is_none_or(|(_, best)| score.top1 > best.top1) {
            progress.best = Some((epoch, score));
            write("best.safetensors")?;
        }
        progress.epoch += 1;
        progress.batch = 0;
        progress.sums = EpochSums::default();
        let every = self.phase.keep_every.is_some_and(|every| (epoch + 1).is_multiple_of(every));
        let steps = self.phase.schedule.steps();
        if every || self.phase.keep_at_steps && steps.contains(&(epoch + 1)) {
            write(&format!("epoch-{:04}.safetensors", epoch + 1))?;
        }
        self.save(state, events)
    }

    /// Writes a checkpoint if this is the first process.
    pub(super) fn save(&self, state: &TrainState<M>, events: &Events) -> Result<(), TrainError> {
        if self.group.rank() > 0 {
            return Ok(());
        }
        events.check_folder()?;
        let folder = files::make_folders(self.folder, "checkpoints")?;
        checkpoint::save(&folder, self.phase, state)
    }
}
