//! The training loop of one phase, over its epochs and their steps.

use std::time::Instant;

use quant_nn::Classifier;

use crate::{
    batches::upload::{DeviceBatch, Uploads},
    devices::group,
    error::TrainError,
    events::{Event, Events},
    measure::monitor::Monitor,
    optimize::average::Average,
    training::{
        state::{Progress, TrainState, diverged, finite_score},
        step::StepOutput,
        trainer::Trainer,
    },
};

/// The number of steps between two reports. Each report has to wait for the device.
const REPORT_INTERVAL: usize = 10;

impl<M: Classifier> Trainer<'_, M> {
    /// Trains to the end of the phase.
    ///
    /// # Errors
    /// The errors of the loader and of checkpoints; [`TrainError::Diverged`];
    /// [`TrainError::Stopped`].
    pub(crate) fn run(
        &self,
        mut state: TrainState<M>,
        events: &mut Events,
    ) -> Result<TrainState<M>, TrainError> {
        self.set_warm_ups_and_losses(&mut state);
        if let Some(shared) = &self.shared {
            let sharing = state.network.with_shared_statistics(&shared.sums());
            state.network = sharing.ok_or_else(|| TrainError::Field {
                field: format!("phase {:?}: shared_statistics", self.phase.name),
                value: "true".into(),
                accepted: "false, for a network whose batch norms cannot share statistics",
            })?;
        }
        let mut monitor = Monitor::default();
        while state.progress.epoch < self.phase.all_epochs() {
            state = self.epoch(state, events)?;
            // No loss has been computed after the last update of an epoch, so the weights are
            // checked.
            state.check(self.phase)?;
            let served = state.served();
            let score = self.evaluate(&served, events)?;
            let score = finite_score(self.phase, &state.progress, score)?;
            if self.phase.quantization.is_some() && self.group.rank() == 0 {
                self.monitor(&mut monitor, &served, state.progress.epoch, events)?;
            }
            self.finish_epoch(&mut state, &served, score, events)?;
        }
        Ok(state)
    }

    /// Sets the warm-up and the losses of the quantizers as the recipe and its policies describe
    /// them. Checkpoints do not contain them, because the step determines their state.
    fn set_warm_ups_and_losses(&self, state: &mut TrainState<M>) {
        let Some(recipe) = &self.phase.quantization else {
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
            self.phase.policies[*policy].rearm(&mut state.network);
        }
    }

    fn epoch(
        &self,
        mut state: TrainState<M>,
        events: &mut Events,
    ) -> Result<TrainState<M>, TrainError> {
        if let Some(proximal) = self.phase.quantization.as_ref().and_then(|q| q.proximal) {
            let share = proximal.share(state.progress.epoch);
            state.network.change_quantizers(|_, quantizer| quantizer.set_proximal(share));
        }
        let first = state.progress.batch;
        let (mut pending, mut last_report, mut seen) = (StepOutput::default(), Instant::now(), 0);
        let (mut batches, mut skipped) = (Vec::new(), Vec::new());
        let plain = self.device.clone().without_autodiff();
        for batch in Uploads::new(self.train.epoch(state.progress.epoch, first), &plain)? {
            let mut batch = batch?;
            self.report_skipped(batch.skipped.drain(..), &mut skipped, events)?;
            let last = batch.number + 1 >= self.train.batches();
            batches.push(batch);
            if batches.len() < self.phase.batches_per_step() && !last {
                continue;
            }
            state = self.apply_policies(state, &batches, events)?;
            let output;
            (state, output) = self.step(state, std::mem::take(&mut batches))?;
            let stop = output.stop;
            pending.append(output);
            let due = (self.phase.checkpoint_steps)
                .is_some_and(|steps| state.progress.step.is_multiple_of(steps));
            if due || last || stop || state.progress.step.is_multiple_of(REPORT_INTERVAL) {
                seen +=
                    self.report_steps(&mut state.progress, &mut pending, &mut last_report, events)?;
            }
            if due && !last || stop {
                self.save(&state, events)?;
            }
            if stop {
                self.report_others_skipped(skipped, events)?;
                let (phase, step) = (self.phase.name.clone(), state.progress.step);
                return Err(TrainError::Stopped { phase, step });
            }
        }
        self.report_others_skipped(skipped, events)?;
        seen += self.report_steps(&mut state.progress, &mut pending, &mut last_report, events)?;
        if seen == 0 && first < self.train.batches() {
            // No batch of any process had a usable image. The events above name them.
            let images = self.train.dataset().len();
            return Err(quant_data::DataError::NoneUsable { images, first: Vec::new() }.into());
        }
        Ok(state)
    }

    /// Applies the policies that are due before the last of `batches`.
    fn apply_policies(
        &self,
        mut state: TrainState<M>,
        batches: &[DeviceBatch],
        events: &mut Events,
    ) -> Result<TrainState<M>, TrainError> {
        let iterations = self.train.batches();
        let next = batches.last().map_or(0, |batch| batch.number);
        let at = state.progress.epoch * iterations + next;
        let policies = self.phase.policies.iter().enumerate();
        let due: Vec<_> = policies
            .filter(|(_, policy)| policy.is_due(at, iterations))
            .filter(|(index, _)| !state.progress.policies.contains(index))
            .collect();
        if due.is_empty() {
            return Ok(state);
        }
        for (index, policy) in due {
            let quantizers = policy.apply(&mut state.network)?;
            let (phase, step) = (self.phase.name.clone(), state.progress.step);
            let layers = quantizers.into_iter().map(|change| change.layer).collect();
            events.emit(&Event::PolicyApplied { phase, step, policy: index, layers })?;
            state.progress.policies.push(index);
        }
        let (optimizer, rules) = (self.phase.optimizer, &self.phase.groups);
        state.optimizers = state.optimizers.regroup(optimizer, rules, &state.network);
        // An average over two configurations of quantizers would fit neither of them, so it starts
        // again.
        state.average = self.phase.average.map(|decay| Average::new(&state.network, decay));
        Ok(state)
    }

    /// Reads the results of the steps since the last report, and emits them as an event. Returns
    /// the number of their images.
    fn report_steps(
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
            return Err(diverged(self.phase, progress, format!("the loss is {loss}")));
        }
        events.emit(&Event::Progress {
            phase: self.phase.name.clone(),
            epoch: progress.epoch,
            epochs: self.phase.all_epochs(),
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

    /// Emits an event for each image that was skipped, in the first process. The other processes
    /// collect their messages, which the first process emits later.
    fn report_skipped(
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

    /// Emits events for the images that other processes than the first have skipped.
    fn report_others_skipped(
        &self,
        skipped: Vec<String>,
        events: &mut Events,
    ) -> Result<(), TrainError> {
        for reason in group::gather_texts(self.group.as_ref(), skipped)? {
            events.emit(&Event::ImageSkipped { reason })?;
        }
        Ok(())
    }
}
