//! One optimizer step.

use burn::{
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{Int, Tensor},
};
use quant_core::{TrainingCall, training_call};
use quant_data::{Share, random::Random};
use quant_nn::Classifier;

use crate::{
    batches::{mixing::Targets, upload::DeviceBatch},
    devices::group::{self, Group, SharedStatistics},
    error::TrainError,
    measure::evaluate::right_answers,
    optimize::clip::clip_gradients,
    training::{
        state::{EpochSums, TrainState},
        trainer::Trainer,
    },
};

impl<M: Classifier> Trainer<'_, M> {
    /// Performs one optimizer step with the gradients of `batches`, which is not empty. Returns the
    /// loss, the number of right answers and the number of images, which are still on the device.
    ///
    /// Every process of a group calls this method with the same number of batches. In a batch, a
    /// process may have fewer images than the others, or none. Gradients are weighted by the
    /// numbers of images, as in a single process with all images. A batch without an image in any
    /// process is passed over. If all batches are, no step is taken.
    ///
    /// # Errors
    /// [`TrainError::Lost`] and [`TrainError::Peer`] where another process of the group does not
    /// answer or has failed; [`TrainError::OneValue`] where a batch norm gets one value per
    /// channel. In that case the weights have not changed.
    pub(crate) fn step(
        &self,
        mut state: TrainState<M>,
        batches: Vec<DeviceBatch>,
    ) -> Result<(TrainState<M>, StepOutput), TrainError> {
        let rate = self.rate(&state.progress);
        let frozen = state.progress.calls < self.phase.frozen_batches;
        let group = self.group.as_ref();
        let counts = batches.iter().map(|batch| batch.count as f64).collect();
        // The number of images of every batch in all processes together.
        let totals = group.sum(counts)?;
        // Batches without a usable image count as done too.
        state.progress.batch = batches.last().map_or(0, |batch| batch.number + 1);
        let batches = batches.into_iter().zip(totals).filter(|(_, total)| *total > 0.0);
        let batches: Vec<_> = batches.collect();
        let own: usize = batches.iter().map(|(batch, _)| batch.count).sum();
        let all: f64 = batches.iter().map(|(_, total)| *total).sum();
        if batches.is_empty() {
            return Ok((state, StepOutput::default()));
        }
        for (batch, total) in &batches {
            self.check_variance(&state.network, batch.count, *total)?;
        }
        let mean = self.phase.accumulate.is_some_and(|accumulate| !accumulate.sum);
        let scale = state.progress.loss_scale.map_or(1.0, |scale| scale.scale);
        let (mut output, mut sum) = (StepOutput::default(), GradientsAccumulator::new());
        let mut settled = false;
        for (batch, total) in batches {
            let count = batch.count;
            self.set_absent(count == 0);
            let (loss, right, call) = self.loss(&state, batch);
            output.add(loss.clone().detach().inner(), right, count);
            if !frozen {
                // The processes may have different numbers of images in the last batches of an
                // epoch and in batches with unusable images. With this factor, the average over the
                // group is the mean over all images.
                let share = (count * group.size()) as f64 / if mean { all } else { total };
                let factor = share * scale;
                let loss = if factor == 1.0 { loss } else { loss.mul_scalar(factor) };
                let grads = GradientsParams::from_grads(loss.backward(), &state.network);
                sum.accumulate(&state.network, grads);
            }
            self.set_absent(false);
            settled |= call.has_warmed_up();
            state.network = call.settle(state.network);
            state.progress.calls += 1;
        }
        self.shared.as_ref().map_or(Ok(()), SharedStatistics::check)?;
        let asked = self.stop.is_asked();
        let (grads, asked) = group::mean_gradients(group, &state.network, sum.grads(), asked)?;
        output.stop = asked;
        if !frozen {
            let scale = state.progress.loss_scale.as_mut().zip(self.phase.precision);
            let grads = match scale {
                Some((scale, recipe)) => scale.unscale(recipe, &state.network, grads),
                None => Some(grads),
            };
            if let Some(grads) = grads {
                let grads = clip_gradients(grads, &state.network, self.phase.clip_norm);
                state.network = state.optimizers.step(rate, state.network, grads);
            }
        }
        group::same_running(group, &mut state.network, settled, own as f64 / all)?;
        state.progress.step += 1;
        if let Some(average) = &mut state.average {
            average.update(&state.network, state.progress.step);
        }
        Ok((state, output))
    }

    fn set_absent(&self, absent: bool) {
        if let Some(shared) = &self.shared {
            shared.set_absent(absent);
        }
    }

    /// Refuses a batch of one image if a batch norm sees only one position of it, because a single
    /// value has no variance. `count` is the number of images of this process, and `total` that of
    /// all processes.
    pub(super) fn check_variance(
        &self,
        network: &M,
        count: usize,
        total: f64,
    ) -> Result<(), TrainError> {
        let images = if self.shared.is_some() { total } else { count as f64 };
        if images != 1.0 {
            return Ok(());
        }
        match network.norm_of_one_position() {
            Some(layer) => Err(TrainError::OneValue { phase: self.phase.name.clone(), layer }),
            None => Ok(()),
        }
    }

    /// Returns the loss of a batch, the number of right answers, and what the quantizers have
    /// recorded.
    fn loss(
        &self,
        state: &TrainState<M>,
        batch: DeviceBatch,
    ) -> (Tensor<1>, Tensor<1, Int>, TrainingCall) {
        let Share { rank, of } = self.train.config().share;
        let number = (batch.number * of + rank) as u64;
        let purpose = [self.train.config().seed, 2, state.progress.epoch as u64, number];
        let images = match batch.count {
            // The results of this process have weight 0, but it has to take part in the sums of the
            // others.
            0 => {
                let size = self.train.image_size();
                Tensor::zeros([1, 3, size, size], &self.device)
            }
            _ => Tensor::from_inner(self.normalizer.images(&batch)),
        };
        let labels = Tensor::from_inner(batch.labels);
        let (images, targets) = match self.phase.mixing {
            Some(mixing) => mixing.apply(images, labels, &mut Random::new(&purpose)),
            None => (images, Targets::new(labels)),
        };
        let ((scores, loss), mut call) =
            training_call(|| self.objective.forward(&state.network, images, &targets));
        let right = right_answers(scores.detach(), targets.labels, 1);
        (call.add_losses(loss), right, call)
    }
}

/// The results of steps, on the device.
#[derive(Debug, Default)]
pub(crate) struct StepOutput {
    /// The sum of the losses of the images, `[1]`.
    pub loss: Option<Tensor<1>>,
    /// The number of right answers, `[1]`.
    pub right: Option<Tensor<1, Int>>,
    /// The number of images.
    pub images: usize,
    /// Whether a stop has been requested in any process.
    pub stop: bool,
}

impl StepOutput {
    /// Adds the mean loss, the number of right answers and the number of images of a batch.
    fn add(&mut self, loss: Tensor<1>, right: Tensor<1, Int>, images: usize) {
        let loss = Some(loss.mul_scalar(images as f64));
        self.append(Self { loss, right: Some(right), images, stop: false });
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.loss = match (self.loss.take(), other.loss) {
            (Some(sum), Some(loss)) => Some(sum + loss),
            (sum, loss) => sum.or(loss),
        };
        self.right = match (self.right.take(), other.right) {
            (Some(sum), Some(right)) => Some(sum + right),
            (sum, right) => sum.or(right),
        };
        self.images += other.images;
    }

    /// Reads the numbers of all processes from the device.
    pub(crate) fn read_into(
        self,
        sums: &mut EpochSums,
        group: &dyn Group,
    ) -> Result<(), TrainError> {
        let loss = self.loss.map_or(0.0, |sum| sum.into_scalar::<f64>());
        let right = self.right.map_or(0.0, |sum| sum.into_scalar::<i64>() as f64);
        let all = group.sum(vec![loss, right, self.images as f64])?;
        sums.loss += all[0];
        sums.right += all[1];
        sums.images += all[2] as usize;
        Ok(())
    }
}
