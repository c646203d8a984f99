//! The training loop of one phase.

use std::{path::Path, time::Instant};

use burn::{
    module::Module,
    nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig},
    tensor::{Device, Int, Tensor},
};
use quant_data::{Batch, Loader};
use quant_nn::{Network, QuantizedModule};

use crate::{
    checkpoint::{self, EpochSums, Progress},
    error::TrainError,
    evaluate::{Normalizer, Score, evaluate, right_answers},
    events::{Event, Events},
    files,
    optimizer::{Optimizers, clipped_gradients},
    recipe::Phase,
    schedule::Length,
    stop::Stop,
};

/// Everything that training changes.
pub struct TrainState {
    /// The network.
    pub network: Network,
    /// The optimizers' state.
    pub optimizers: Optimizers,
    /// Where the phase stands.
    pub progress: Progress,
}

/// What training needs and does not change.
pub struct Trainer<'a> {
    /// The phase.
    pub recipe: &'a Phase,
    /// Training images.
    pub train: &'a Loader,
    /// Validation images.
    pub val: &'a Loader,
    /// Normalises batches; on the training device.
    pub normalizer: Normalizer,
    /// The device, with autodiff.
    pub device: Device,
    /// Folder of the phase's checkpoints.
    pub checkpoints: &'a Path,
    /// File of the best network.
    pub best: &'a Path,
    /// How training is asked to stop.
    pub stop: Stop,
    loss: CrossEntropyLoss,
}

/// Loss, right answers and images of steps whose numbers have not been read back yet.
#[derive(Default)]
struct Pending {
    loss: Option<Tensor<1>>,
    right: Option<Tensor<1, Int>>,
    images: usize,
}

/// Steps between two looks at the loss: each look waits for the device.
const LOOK: usize = 10;

impl<'a> Trainer<'a> {
    /// A trainer on `device`, a plain one.
    pub fn new(
        recipe: &'a Phase,
        (train, val): (&'a Loader, &'a Loader),
        normalization: ([f64; 3], [f64; 3]),
        device: &Device,
        (checkpoints, best): (&'a Path, &'a Path),
    ) -> Self {
        let smoothing = recipe.label_smoothing as f32;
        let loss = CrossEntropyLossConfig::new()
            .with_smoothing((smoothing > 0.0).then_some(smoothing))
            .init(device);
        Self {
            recipe,
            train,
            val,
            normalizer: Normalizer::new(normalization, device),
            device: device.clone().autodiff(),
            checkpoints,
            best,
            stop: Stop::default(),
            loss,
        }
    }

    /// A fresh state that starts from `network`.
    pub fn start(&self, network: Network) -> TrainState {
        let (optimizer, rules) = (self.recipe.optimizer, &self.recipe.groups);
        TrainState {
            optimizers: Optimizers::new(optimizer, rules, &network),
            network,
            progress: Progress {
                phase: self.recipe.name.clone(),
                epoch: 0,
                batch: 0,
                step: 0,
                sums: EpochSums::default(),
                best: None,
            },
        }
    }

    /// One optimizer step. Returns loss, right answers and number of images, still on the device.
    pub fn step(&self, mut state: TrainState, batch: Batch) -> (TrainState, StepOutput) {
        let (number, images_count) = (batch.number, batch.labels.len());
        let (images, labels) = self.normalizer.tensors(batch, &self.device);
        let scores = state.network.forward(images);
        let right = right_answers(scores.clone().detach(), labels.clone(), 1);
        let loss = self.loss.forward(scores, labels);
        let quantizers = state.network.quantizers().into_iter();
        let terms = quantizers.filter_map(|(_, _, quantizer)| quantizer.take_loss());
        let loss = terms.fold(loss, |loss, term| loss + term);
        let output =
            StepOutput { loss: loss.clone().detach().inner(), right, images: images_count };
        let grads = clipped_gradients(loss.backward(), &state.network, self.recipe.clip_norm);
        let rate = self.rate(&state.progress);
        state.network = state.optimizers.step(rate, state.network, grads);
        for (_, quantizer) in state.network.quantizers_mut() {
            quantizer.settle();
        }
        // Batches without a usable image were passed over.
        state.progress.batch = number + 1;
        state.progress.step += 1;
        (state, output)
    }

    /// The learning rate of the next step.
    fn rate(&self, progress: &Progress) -> f64 {
        let length = Length { epochs: self.recipe.epochs, iterations: self.train.batches() };
        let recipe = self.recipe;
        recipe.schedule.rate(recipe.learning_rate, progress.epoch, progress.batch, length)
    }

    /// Trains to the end of the phase.
    ///
    /// # Errors
    /// Those of the loader and of checkpoints, [`TrainError::Diverged`], and [`TrainError::Stopped`].
    pub fn run(
        &self,
        mut state: TrainState,
        events: &mut Events,
    ) -> Result<TrainState, TrainError> {
        self.arm(&state);
        while state.progress.epoch < self.recipe.epochs {
            state = self.epoch(state, events)?;
            let score = self.evaluate(&state.network, events)?;
            self.finish_epoch(&mut state, score, events)?;
        }
        Ok(state)
    }

    /// Gives the quantizers the recipe's warm-up and losses. They are no part of a checkpoint: where they
    /// stand follows from the step.
    fn arm(&self, state: &TrainState) {
        let Some(recipe) = &self.recipe.quantization else {
            return;
        };
        for (_, role, quantizer) in state.network.quantizers() {
            if let Some(warm_up) = recipe.warm_up.as_ref().filter(|w| w.roles.contains(&role)) {
                quantizer.warm_up(warm_up.steps, warm_up.correlate, state.progress.step);
            }
            let loss = recipe.of(role).and_then(|quantizer| quantizer.loss);
            quantizer.set_loss(loss.map(|loss| (loss.kind, loss.factor)));
        }
    }

    fn epoch(&self, mut state: TrainState, events: &mut Events) -> Result<TrainState, TrainError> {
        if let Some(proximal) = self.recipe.quantization.as_ref().and_then(|q| q.proximal) {
            for (_, _, quantizer) in state.network.quantizers() {
                quantizer.set_proximal(proximal.share(state.progress.epoch));
            }
        }
        let first = state.progress.batch;
        let (mut pending, mut look, mut seen) = (Pending::default(), Instant::now(), 0);
        for batch in self.train.epoch(state.progress.epoch, first) {
            let mut batch = batch?;
            for reason in batch.skipped.drain(..) {
                events.emit(&Event::ImageSkipped { reason })?;
            }
            let output;
            (state, output) = self.step(state, batch);
            pending.add(output);
            let last = state.progress.batch >= self.train.batches();
            let due = (self.recipe.checkpoint_steps)
                .is_some_and(|steps| state.progress.step.is_multiple_of(steps));
            let stop = self.stop.is_asked();
            if due || last || stop || state.progress.step.is_multiple_of(LOOK) {
                let before = state.progress.sums;
                pending.read_into(&mut state.progress.sums);
                let images = state.progress.sums.images - before.images;
                let loss = ((state.progress.sums.loss - before.loss) / images.max(1) as f64) as f32;
                let step = state.progress.step;
                if !loss.is_finite() {
                    let phase = self.recipe.name.clone();
                    return Err(TrainError::Diverged { phase, step, loss });
                }
                seen += images;
                events.emit(&Event::Progress {
                    phase: self.recipe.name.clone(),
                    epoch: state.progress.epoch,
                    step,
                    batch: state.progress.batch,
                    batches: self.train.batches(),
                    loss,
                    learning_rate: self.rate(&state.progress),
                    images_per_second: images as f64 / look.elapsed().as_secs_f64().max(1e-9),
                })?;
                look = Instant::now();
            }
            if due && !last || stop {
                self.save(&state)?;
            }
            if stop {
                let (phase, step) = (self.recipe.name.clone(), state.progress.step);
                return Err(TrainError::Stopped { phase, step });
            }
        }
        seen += pending.images;
        pending.read_into(&mut state.progress.sums);
        if seen == 0 && first < self.train.batches() {
            // Every batch was empty: there is nothing to learn from.
            let images = self.train.dataset().len();
            let batch_size = self.recipe.batch_size;
            return Err(quant_data::DataError::TooSmall { images, batch_size }.into());
        }
        Ok(state)
    }

    fn evaluate(&self, network: &Network, events: &mut Events) -> Result<Score, TrainError> {
        let mut skipped = Vec::new();
        let plain = self.device.clone().without_autodiff();
        let network = network.valid();
        let score = evaluate(&network, self.val, &self.normalizer, &plain, |reason| {
            skipped.push(reason);
        })?;
        for reason in skipped {
            events.emit(&Event::ImageSkipped { reason })?;
        }
        Ok(score)
    }

    /// Keeps the best network, notes the epoch, checks the quantizers and saves.
    fn finish_epoch(
        &self,
        state: &mut TrainState,
        score: Score,
        events: &mut Events,
    ) -> Result<(), TrainError> {
        if let Err(error) = state.network.check_quantizers() {
            events.emit(&Event::Warning { message: error.to_string() })?;
        }
        let progress = &mut state.progress;
        let images = progress.sums.images.max(1) as f64;
        events.emit(&Event::EpochFinished {
            phase: self.recipe.name.clone(),
            epoch: progress.epoch,
            epochs: self.recipe.epochs,
            train_loss: progress.sums.loss / images,
            train_top1: 100.0 * progress.sums.right / images,
            val: score,
        })?;
        if progress.best.is_none_or(|(_, best)| score.top1 > best.top1) {
            progress.best = Some((progress.epoch, score));
            files::write(self.best, &checkpoint::state_bytes(&state.network)?)?;
        }
        progress.epoch += 1;
        progress.batch = 0;
        progress.sums = EpochSums::default();
        self.save(state)
    }

    fn save(&self, state: &TrainState) -> Result<(), TrainError> {
        let TrainState { network, optimizers, progress } = state;
        checkpoint::save(self.checkpoints, self.recipe, network, optimizers, progress)
    }
}

/// What a step tells, on the device.
pub struct StepOutput {
    /// Mean loss of the batch, `[1]`.
    pub loss: Tensor<1>,
    /// Right answers, `[1]`.
    pub right: Tensor<1, Int>,
    /// Images.
    pub images: usize,
}

impl Pending {
    fn add(&mut self, output: StepOutput) {
        let loss = output.loss.mul_scalar(output.images as f64);
        self.loss = Some(match self.loss.take() {
            None => loss,
            Some(sum) => sum + loss,
        });
        self.right = Some(match self.right.take() {
            None => output.right,
            Some(sum) => sum + output.right,
        });
        self.images += output.images;
    }

    fn read_into(&mut self, sums: &mut EpochSums) {
        let pending = std::mem::take(self);
        sums.loss += pending.loss.map_or(0.0, |sum| sum.into_scalar::<f64>());
        sums.right += pending.right.map_or(0.0, |sum| sum.into_scalar::<i64>() as f64);
        sums.images += pending.images;
    }
}
