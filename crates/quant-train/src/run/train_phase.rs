//! The execution of one phase: its network, its teacher, its training and its result.

use std::{cell::Cell, path::Path, sync::Arc};

use quant_data::Loader;
use quant_nn::{Classifier, Compute, QuantizedModule, StateDict, init_seeded, summarize};

use super::Run;
use crate::{
    batches::upload::ImageNormalizer,
    devices::group::{self, SharedStatistics},
    error::TrainError,
    events::{Event, Events},
    files,
    measure::evaluate::evaluate,
    networks::{
        source::Networks,
        weights::{self, WeightsFile},
    },
    recipe::{loss::DistillationRecipe, phase::Phase},
    summary::PhaseResult,
    training::{
        checkpoint,
        start::start,
        state::{Progress, TrainState, finite_score},
        trainer::Trainer,
    },
};

impl Run {
    /// Trains the phase with this index, whose folder is `folder`.
    pub(super) fn train_phase<N: Networks>(
        &self,
        networks: &N,
        (index, folder): (usize, &Path),
        fresh: N::Network,
        loaders: (&Loader, &Loader),
        events: &mut Events,
        began: &Cell<bool>,
    ) -> Result<(N::Network, PhaseResult), TrainError> {
        let phase = &self.recipe.phases[index];
        let normalization = self.recipe.data.normalization();
        let device = &self.options.device;
        let mut trainer = Trainer::new(phase, loaders, normalization, device, folder);
        trainer.stop = self.options.stop.clone();
        trainer.group = Arc::clone(&self.options.group);
        if phase.shared_statistics && trainer.group.size() > 1 {
            trainer.shared = Some(SharedStatistics::new(Arc::clone(&trainer.group)));
        }
        if let Some(distillation) = &phase.distillation {
            let classes = loaders.0.dataset().classes().len();
            let teacher = self.teacher(networks, distillation, classes)?;
            trainer.objective = trainer.objective.with_teacher(distillation, teacher, &fresh)?;
        }
        let mut damaged = Vec::new();
        let found = checkpoint::load(&folder.join("checkpoints"), phase, &fresh, |error| {
            damaged.push(format!("{error}; the checkpoint before it is used"));
        });
        if found.is_ok() {
            for message in damaged {
                events.emit(&Event::Warning { message })?;
            }
        }
        let state = match found? {
            Some(mut state) => {
                // A process may have been killed while it removed old checkpoints.
                if self.options.group.rank() == 0 {
                    checkpoint::prune(&folder.join("checkpoints"), state.progress.step)?;
                }
                self.keep_best(phase, &mut state, loaders.0.dataset().classes(), events)?;
                state
            }
            None => {
                let from = self.init_weights(index);
                let network = start(phase, fresh, from.as_ref(), &trainer, events)?;
                // Each process has calibrated on its own images.
                let network = group::same_network(self.options.group.as_ref(), network)?;
                let idle = phase.idle_exceptions(&network);
                let few = phase.few_values(&network, self.options.group.size());
                let short = phase.too_short_for(Some(loaders.0.batches()));
                for message in short.into_iter().chain(idle).chain(few) {
                    events.emit(&Event::Warning { message })?;
                }
                let state = trainer.start(network);
                state.check(phase)?;
                state
            }
        };
        let summary = summarize(&state.network, &StateDict::of(&state.network));
        if trainer.group.rank() == 0 {
            files::make_folders(&self.folder, &phase.name)?;
        }
        began.set(true);
        events.emit(&Event::PhaseStarted {
            phase: phase.name.clone(),
            step: state.progress.step,
            epoch: state.progress.epoch,
            summary,
        })?;
        for (_, _, quantizer) in state.network.quantizers() {
            if let Some(fallback) = quantizer.group_fallback() {
                events.emit(&Event::Warning { message: fallback.to_string() })?;
            }
        }
        let state = trainer.run(state, events)?;
        let group = self.options.group.as_ref();
        let served = state.served();
        let normalizer = ImageNormalizer::new(normalization, device);
        let last = evaluate(&served, loaders.1, &normalizer, device, |_| {})?;
        let last = finite_score(phase, &state.progress, last.of_all(group)?)?;
        let (best_epoch, best) = state.progress.best.unwrap_or((state.progress.epoch, last));
        let result = PhaseResult {
            phase: phase.name.clone(),
            quantized: phase.quantization.is_some(),
            epochs: phase.all_epochs(),
            last,
            best_epoch,
            best,
            // Policies may have changed the network, so it is described again.
            network: summarize(&served, &StateDict::of(&served)),
        };
        if group.rank() == 0 {
            events.check_folder()?;
            let bytes = weights::trained_bytes(&served, loaders.0.dataset().classes())?;
            files::write(&folder.join("last.safetensors"), &bytes)?;
            result.write(folder)?;
        }
        // The next phase reads the files of this phase, so that all processes wait for them.
        group.sum(vec![0.0])?;
        events.emit(&Event::PhaseFinished { phase: phase.name.clone(), last, best_epoch, best })?;
        Ok((served, result))
    }

    /// Checks the file with the best network so far, when a phase continues. If the file is lost,
    /// it is written again from the checkpoint if that has the best network. Otherwise the next
    /// epoch counts as the best so far.
    fn keep_best<M: Classifier>(
        &self,
        phase: &Phase,
        state: &mut TrainState<M>,
        classes: &[String],
        events: &mut Events,
    ) -> Result<(), TrainError> {
        let Some((epoch, _)) = state.progress.best else { return Ok(()) };
        let file = WeightsFile::new(self.network_file(&phase.name, true));
        let lost = file.read().err();
        // All processes have to read the file before it is written again.
        self.options.group.sum(vec![0.0])?;
        let Some(error) = lost else { return Ok(()) };
        let Progress { epoch: done, batch, .. } = state.progress;
        let what = if batch == 0 && epoch + 1 == done {
            if self.options.group.rank() == 0 {
                events.check_folder()?;
                let bytes = weights::trained_bytes(&state.served(), classes)?;
                files::write(&file.path, &bytes)?;
            }
            "it is written again from the checkpoint, which has this network".to_owned()
        } else {
            state.progress.best = None;
            format!(
                "the network of epoch {} is lost, and the best of the epochs that follow is \
                 written instead",
                epoch + 1
            )
        };
        let message = format!("the best network of the phase cannot be read: {error}; {what}");
        events.emit(&Event::Warning { message })
    }

    /// Returns the network from which a phase learns: the best of an earlier phase, or that of a
    /// file.
    fn teacher<N: Networks>(
        &self,
        networks: &N,
        distillation: &DistillationRecipe,
        classes: usize,
    ) -> Result<N::Network, TrainError> {
        let mut phases = self.recipe.phases.iter();
        let earlier = phases.find(|phase| phase.name == distillation.teacher);
        let file = match earlier {
            Some(phase) => WeightsFile::new(self.network_file(&phase.name, true)),
            None => self.recipe.teacher_file(distillation, &self.header.recipe_folder),
        };
        networks.teacher(distillation, &file, earlier, classes, &self.options.device)
    }

    /// Returns the network of the phase with this index, with fresh weights.
    pub(super) fn fresh_network<N: Networks>(
        &self,
        networks: &N,
        index: usize,
        classes: usize,
    ) -> Result<N::Network, TrainError> {
        let phase = &self.recipe.phases[index];
        let seed = self.recipe.seed.wrapping_add(index as u64);
        let device = self.options.device.clone().autodiff();
        let make = || networks.init(phase, classes, &device);
        let network = init_seeded(seed, &device, make)?;
        let compute = phase.precision.map_or(Compute::F32, |precision| precision.compute);
        let network = network.with_compute(compute);
        phase.check_frozen(&network)?;
        if phase.frozen_statistics.is_empty() {
            return Ok(network);
        }
        network.with_frozen_statistics(&phase.frozen_statistics).ok_or_else(|| TrainError::Field {
            field: format!("phase {:?}: frozen_statistics", phase.name),
            value: phase.frozen_statistics.join(", "),
            accepted: "none, for a network whose batch norms the trainer cannot reach",
        })
    }

    /// Returns the file of weights from which a phase starts: its own file, or that of the phase
    /// before it.
    fn init_weights(&self, index: usize) -> Option<WeightsFile> {
        let phase = &self.recipe.phases[index];
        phase.init_file(&self.header.recipe_folder).or_else(|| {
            let before = &self.recipe.phases[index.checked_sub(1)?].name;
            Some(WeightsFile::new(self.network_file(before, false)))
        })
    }
}
