//! The training loop of one phase.

use std::{path::Path, sync::Arc, time::Instant};

use burn::tensor::Device;
use quant_data::Loader;
use quant_nn::{Classifier, Compute, NetworkError, StateDict};

use crate::{
    average::Average,
    checkpoint::{self, EpochSums, Progress},
    error::TrainError,
    evaluate::{Score, evaluate},
    events::{Event, Events},
    files,
    group::{self, Alone, Group, SharedStatistics},
    loss::Objective,
    monitor::{Monitor, histogram},
    optimizer::Optimizers,
    phase::Phase,
    policy::Trigger,
    precision::LossScale,
    step::StepOutput,
    stop::Stop,
    upload::{DeviceBatch, Normalizer, Uploads},
    weights,
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
    /// The network that is evaluated and kept, on the plain device and in 32 bits: the average where there is
    /// one.
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

/// What training needs and does not change.
pub struct Trainer<'a, M> {
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
    /// Folder of the phase: its checkpoints and networks.
    pub place: &'a Path,
    /// How training is asked to stop.
    pub stop: Stop,
    /// The loss.
    pub objective: Objective<M>,
    /// The processes that train together.
    pub group: Arc<dyn Group>,
    /// The statistics that they share, if so.
    pub shared: Option<SharedStatistics>,
}

/// Steps between two looks at the loss: each look waits for the device.
const LOOK: usize = 10;

impl<'a, M: Classifier> Trainer<'a, M> {
    /// A trainer on `device`, a plain one, with its files below `place`.
    pub fn new(
        recipe: &'a Phase,
        (train, val): (&'a Loader, &'a Loader),
        normalization: ([f64; 3], [f64; 3]),
        device: &Device,
        place: &'a Path,
    ) -> Self {
        Self {
            recipe,
            train,
            val,
            normalizer: Normalizer::new(normalization, device),
            device: device.clone().autodiff(),
            place,
            stop: Stop::default(),
            objective: Objective::new(recipe, device),
            group: Arc::new(Alone),
            shared: None,
        }
    }

    /// A fresh state that starts from `network`, to which the policies of the start have been applied.
    pub fn start(&self, network: M) -> TrainState<M> {
        let (optimizer, rules) = (self.recipe.optimizer, &self.recipe.groups);
        let policies = self.recipe.policies.iter().enumerate();
        let applied = policies.filter(|(_, policy)| policy.at == Trigger::Start);
        TrainState {
            optimizers: Optimizers::new(optimizer, rules, &network),
            average: self.recipe.average.map(|decay| Average::new(&network, decay)),
            network,
            progress: Progress {
                phase: self.recipe.name.clone(),
                epoch: 0,
                batch: 0,
                step: 0,
                calls: 0,
                policies: applied.map(|(index, _)| index).collect(),
                loss_scale: LossScale::new(self.recipe.precision),
                sums: EpochSums::default(),
                best: None,
            },
        }
    }

    /// The learning rate of the next step.
    pub(crate) fn rate(&self, progress: &Progress) -> f64 {
        self.recipe.rate(progress.epoch, progress.batch, self.train.batches())
    }

    /// Trains to the end of the phase.
    ///
    /// # Errors
    /// Those of the loader and of checkpoints, [`TrainError::Diverged`], and [`TrainError::Stopped`].
    pub fn run(
        &self,
        mut state: TrainState<M>,
        events: &mut Events,
    ) -> Result<TrainState<M>, TrainError> {
        self.arm(&mut state);
        if let Some(shared) = &self.shared {
            let sharing = state.network.with_shared_statistics(&shared.sums());
            state.network = sharing.ok_or_else(|| TrainError::Field {
                field: format!("phase {:?}: shared_statistics", self.recipe.name),
                value: "true".into(),
                accepted: "false, for a network whose batch norms cannot share statistics",
            })?;
        }
        let mut monitor = Monitor::default();
        while state.progress.epoch < self.recipe.all_epochs() {
            state = self.epoch(state, events)?;
            // The last update of an epoch is seen by no loss.
            state.check(self.recipe)?;
            let served = state.served();
            let score = self.evaluate(&served, events)?;
            let score = finite_score(self.recipe, &state.progress, score)?;
            if self.recipe.quantization.is_some() && self.group.rank() == 0 {
                self.monitor(&mut monitor, &served, state.progress.epoch, events)?;
            }
            self.finish_epoch(&mut state, &served, score, events)?;
        }
        Ok(state)
    }

    /// Gives the quantizers the warm-up and losses of the recipe and its policies. They are no part of a checkpoint: where they
    /// stand follows from the step.
    fn arm(&self, state: &mut TrainState<M>) {
        let Some(recipe) = &self.recipe.quantization else {
            return;
        };
        let calls = state.progress.calls;
        state.network.change_quantizers(|_, quantizer| {
            let role = quantizer.config().role;
            if let Some(warm_up) = recipe.warm_up.as_ref().filter(|w| w.roles.contains(&role)) {
                quantizer.set_warm_up(warm_up.steps, warm_up.correlate, calls);
            }
            let loss = recipe.of(role).and_then(|quantizer| quantizer.loss);
            quantizer.set_loss(loss.map(|loss| (loss.kind, loss.factor)));
        });
        for policy in &state.progress.policies {
            self.recipe.policies[*policy].rearm(&mut state.network);
        }
    }

    fn epoch(
        &self,
        mut state: TrainState<M>,
        events: &mut Events,
    ) -> Result<TrainState<M>, TrainError> {
        if let Some(proximal) = self.recipe.quantization.as_ref().and_then(|q| q.proximal) {
            let share = proximal.share(state.progress.epoch);
            state.network.change_quantizers(|_, quantizer| quantizer.set_proximal(share));
        }
        let first = state.progress.batch;
        let (mut pending, mut look, mut seen) = (StepOutput::default(), Instant::now(), 0);
        let (mut batches, mut skipped) = (Vec::new(), Vec::new());
        let plain = self.device.clone().without_autodiff();
        for batch in Uploads::new(self.train.epoch(state.progress.epoch, first), &plain) {
            let mut batch = batch?;
            self.tell_skipped(batch.skipped.drain(..), &mut skipped, events)?;
            let last = batch.number + 1 >= self.train.batches();
            batches.push(batch);
            if batches.len() < self.recipe.batches_per_step() && !last {
                continue;
            }
            state = self.apply_policies(state, &batches, events)?;
            let output;
            (state, output) = self.step(state, std::mem::take(&mut batches))?;
            let stop = output.stop;
            pending.append(output);
            let due = (self.recipe.checkpoint_steps)
                .is_some_and(|steps| state.progress.step.is_multiple_of(steps));
            if due || last || stop || state.progress.step.is_multiple_of(LOOK) {
                seen += self.look(&mut state.progress, &mut pending, &mut look, events)?;
            }
            if due && !last || stop {
                self.save(&state)?;
            }
            if stop {
                self.tell_others_skipped(skipped, events)?;
                let (phase, step) = (self.recipe.name.clone(), state.progress.step);
                return Err(TrainError::Stopped { phase, step });
            }
        }
        self.tell_others_skipped(skipped, events)?;
        seen += self.look(&mut state.progress, &mut pending, &mut look, events)?;
        if seen == 0 && first < self.train.batches() {
            // Every batch was empty: there is nothing to learn from.
            let images = self.train.dataset().len();
            let batch_size = self.recipe.batch_size;
            return Err(quant_data::DataError::TooSmall { images, batch_size }.into());
        }
        Ok(state)
    }

    /// Applies the policies that are due before the last of `batches` is trained on.
    fn apply_policies(
        &self,
        mut state: TrainState<M>,
        batches: &[DeviceBatch],
        events: &mut Events,
    ) -> Result<TrainState<M>, TrainError> {
        let iterations = self.train.batches();
        let next = batches.last().map_or(0, |batch| batch.number);
        let at = state.progress.epoch * iterations + next;
        let policies = self.recipe.policies.iter().enumerate();
        let due: Vec<_> = policies
            .filter(|(_, policy)| policy.is_due(at, iterations))
            .filter(|(index, _)| !state.progress.policies.contains(index))
            .collect();
        if due.is_empty() {
            return Ok(state);
        }
        for (index, policy) in due {
            let quantizers = policy.apply(&mut state.network).map_err(NetworkError::from)?;
            let (phase, step) = (self.recipe.name.clone(), state.progress.step);
            let layers = quantizers.into_iter().map(|change| change.layer).collect();
            events.emit(&Event::PolicyApplied { phase, step, policy: index, layers })?;
            state.progress.policies.push(index);
        }
        let (optimizer, rules) = (self.recipe.optimizer, &self.recipe.groups);
        state.optimizers = state.optimizers.regroup(optimizer, rules, &state.network);
        // An average of quantizers of two kinds is none of either.
        state.average = self.recipe.average.map(|decay| Average::new(&state.network, decay));
        Ok(state)
    }

    /// Reads the numbers of the steps since the last look and tells them; how many images they had.
    fn look(
        &self,
        progress: &mut Progress,
        pending: &mut StepOutput,
        since: &mut Instant,
        events: &mut Events,
    ) -> Result<usize, TrainError> {
        let before = progress.sums;
        std::mem::take(pending).read_into(&mut progress.sums, self.group.as_ref())?;
        let images = progress.sums.images - before.images;
        if images == 0 {
            return Ok(0);
        }
        let loss = ((progress.sums.loss - before.loss) / images as f64) as f32;
        if !loss.is_finite() {
            return Err(diverged(self.recipe, progress, format!("the loss is {loss}")));
        }
        events.emit(&Event::Progress {
            phase: self.recipe.name.clone(),
            epoch: progress.epoch,
            epochs: self.recipe.all_epochs(),
            step: progress.step,
            batch: progress.batch,
            batches: self.train.batches(),
            loss,
            learning_rate: self.rate(progress),
            images_per_second: images as f64 / since.elapsed().as_secs_f64().max(1e-9),
        })?;
        *since = Instant::now();
        Ok(images)
    }

    fn evaluate(&self, network: &M, events: &mut Events) -> Result<Score, TrainError> {
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

    /// Tells which images were skipped: the first process at once, others by way of it later.
    fn tell_skipped(
        &self,
        reasons: impl Iterator<Item = String>,
        later: &mut Vec<String>,
        events: &mut Events,
    ) -> Result<(), TrainError> {
        match self.group.rank() {
            0 => reasons
                .into_iter()
                .try_for_each(|reason| events.emit(&Event::ImageSkipped { reason })),
            _ => {
                later.extend(reasons);
                Ok(())
            }
        }
    }

    /// Tells which images other processes than the first have skipped.
    fn tell_others_skipped(
        &self,
        skipped: Vec<String>,
        events: &mut Events,
    ) -> Result<(), TrainError> {
        for reason in group::gather_texts(self.group.as_ref(), skipped)? {
            events.emit(&Event::ImageSkipped { reason })?;
        }
        Ok(())
    }

    /// Tells how the quantizers fare on a validation batch, and how the weights are distributed.
    fn monitor(
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
        let phase = self.recipe.name.clone();
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

    /// Keeps the best network, notes the epoch and saves.
    fn finish_epoch(
        &self,
        state: &mut TrainState<M>,
        network: &M,
        score: Score,
        events: &mut Events,
    ) -> Result<(), TrainError> {
        let write = |name: &str| match self.group.rank() {
            0 => files::write(&self.place.join(name), &weights::state_bytes(network)?),
            _ => Ok(()),
        };
        let progress = &mut state.progress;
        let images = progress.sums.images.max(1) as f64;
        events.emit(&Event::EpochFinished {
            phase: self.recipe.name.clone(),
            epoch: progress.epoch,
            epochs: self.recipe.all_epochs(),
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
        let every = self.recipe.keep_every.is_some_and(|every| (epoch + 1).is_multiple_of(every));
        let steps = self.recipe.schedule.steps();
        if every || self.recipe.keep_at_steps && steps.contains(&(epoch + 1)) {
            write(&format!("epoch-{:04}.safetensors", epoch + 1))?;
        }
        self.save(state)
    }

    fn save(&self, state: &TrainState<M>) -> Result<(), TrainError> {
        if self.group.rank() > 0 {
            return Ok(());
        }
        checkpoint::save(&self.place.join("checkpoints"), self.recipe, state)
    }
}
