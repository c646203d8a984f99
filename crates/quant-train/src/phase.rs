//! A phase of training, as a recipe describes it.

use std::path::Path;

use quant_data::LastBatch;
use serde::{Deserialize, Serialize};

use crate::{
    error::TrainError,
    loss::{DistillationKind, DistillationRecipe, FocalRecipe, Reduction},
    mixing::MixingRecipe,
    optimizer::{GroupRules, Optimizer},
    policy::Policy,
    precision::PrecisionRecipe,
    quantization::QuantizationRecipe,
    schedule::{Length, Schedule},
    weights::WeightsFile,
};

/// A phase of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name: files are named after it.
    pub name: String,
    /// Epochs.
    pub epochs: usize,
    /// Epochs after those, with the learning rate of the last of them.
    #[serde(default)]
    pub extra_epochs: usize,
    /// Images per batch.
    pub batch_size: usize,
    /// Whether an epoch's last batch is trained on where the images do not fill it: `drop` or
    /// `keep`.
    #[serde(default)]
    pub last_batch: LastBatch,
    /// Several batches per optimizer step. Where an epoch's last step has fewer, it has what is
    /// left.
    pub accumulate: Option<Accumulation>,
    /// Initial learning rate.
    pub learning_rate: f64,
    /// Its course.
    pub schedule: Schedule,
    /// Over this many batches i = 0, 1, ... the learning rate rises: it is multiplied by i/`ramp_batches`.
    #[serde(default)]
    pub ramp_batches: usize,
    /// For this many batches no weight changes, while statistics settle.
    #[serde(default)]
    pub frozen_batches: usize,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Weight decay, and exceptions.
    #[serde(default)]
    pub groups: GroupRules,
    /// Largest global L2 norm of the gradients.
    pub clip_norm: Option<f64>,
    /// Share of the target that is spread over all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Focal loss instead of cross-entropy.
    pub focal: Option<FocalRecipe>,
    /// Mixing of images.
    pub mixing: Option<MixingRecipe>,
    /// Learning from a trained network.
    pub distillation: Option<DistillationRecipe>,
    /// Decay of a moving average of the weights, such as 0.9999, which is then what is evaluated and kept.
    pub average: Option<f64>,
    /// Products in 16 bits.
    pub precision: Option<PrecisionRecipe>,
    /// Batch norms whose PyTorch name contains one of these texts keep their running statistics.
    #[serde(default)]
    pub frozen_statistics: Vec<String>,
    /// Whether the batch norms of several processes normalise by the statistics of all their images, as one
    /// process with the whole batch would.
    #[serde(default)]
    pub shared_statistics: bool,
    /// A safetensors file or PyTorch checkpoint with the weights to start from, relative to the
    /// recipe; by default those of the phase before.
    pub init: Option<String>,
    /// The key in that file that the weights are filed under, such as `state_dict_ema`; by default
    /// wherever they fit.
    pub init_key: Option<String>,
    /// A file of renaming rules for that file's names, relative to the recipe.
    pub init_map: Option<String>,
    /// Whether the classifier starts with fresh values where that file's has other classes.
    #[serde(default)]
    pub fresh_classifier: bool,
    /// Optimizer steps between checkpoints; an epoch's end is always one.
    pub checkpoint_steps: Option<usize>,
    /// Epochs between networks that are kept, as `epoch-<n>.safetensors`.
    pub keep_every: Option<usize>,
    /// Whether the networks at the schedule's steps are kept.
    #[serde(default)]
    pub keep_at_steps: bool,
    /// The quantizers; without them the phase is full precision.
    pub quantization: Option<QuantizationRecipe>,
    /// Changes to the quantizers on the way.
    #[serde(default, rename = "policy", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
}

/// Several batches per optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accumulation {
    /// How many.
    pub batches: usize,
    /// Whether their gradients are added (the reference implementation's `iter-size`), instead of
    /// averaged by their numbers of images, which is what one batch of all their images would give.
    #[serde(default)]
    pub sum: bool,
}

impl Phase {
    /// Epochs in all.
    pub fn all_epochs(&self) -> usize {
        self.epochs + self.extra_epochs
    }

    /// Batches per optimizer step.
    pub fn batches_per_step(&self) -> usize {
        self.accumulate.map_or(1, |accumulate| accumulate.batches)
    }

    /// The learning rate at a batch of an epoch, of `iterations` batches.
    pub fn rate(&self, epoch: usize, batch: usize, iterations: usize) -> f64 {
        let length = Length { epochs: self.epochs, iterations };
        let (last, seen) = (self.epochs - 1, epoch * iterations + batch);
        let (epoch, batch) = match epoch > last {
            true => (last, iterations.saturating_sub(1)),
            false => (epoch, batch),
        };
        let rate = self.schedule.rate(self.learning_rate, epoch, batch, length);
        match seen < self.ramp_batches {
            true => rate * seen as f64 / self.ramp_batches as f64,
            false => rate,
        }
    }

    /// The file of weights that it starts from, if it names one; paths begin at `folder`.
    pub(crate) fn init_file(&self, folder: &Path) -> Option<WeightsFile> {
        Some(WeightsFile {
            path: folder.join(self.init.as_ref()?),
            key: self.init_key.clone(),
            map: self.init_map.as_ref().map(|map| folder.join(map)),
        })
    }

    /// Checks what types leave open.
    ///
    /// # Errors
    /// [`TrainError::Field`] with field, value and range.
    pub fn validate(&self) -> Result<(), TrainError> {
        let check = |good: bool, field: &str, value: String, accepted| match good {
            true => Ok(()),
            false => {
                let field = format!("phase {:?}: {field}", self.name);
                Err(TrainError::Field { field, value, accepted })
            }
        };
        let count = |value: usize, field: &str| check(value > 0, field, "0".into(), "at least 1");
        let above_0 = |value: f64, field: &str| {
            let good = value.is_finite() && value > 0.0;
            check(good, field, value.to_string(), "a finite number above 0")
        };
        let from_0 = |value: f64, field: &str| {
            check(value.is_finite() && value >= 0.0, field, value.to_string(), "0 or more")
        };
        let below_1 = |value: f64, field: &str| {
            check((0.0..1.0).contains(&value), field, value.to_string(), "0 to below 1")
        };
        count(self.epochs, "epochs")?;
        count(self.batch_size, "batch_size")?;
        count(self.batches_per_step(), "accumulate.batches")?;
        above_0(self.learning_rate, "learning_rate")?;
        from_0(self.groups.weight_decay, "groups.weight_decay")?;
        below_1(self.label_smoothing, "label_smoothing")?;
        count(self.checkpoint_steps.unwrap_or(1), "checkpoint_steps")?;
        count(self.keep_every.unwrap_or(1), "keep_every")?;
        if let Some(norm) = self.clip_norm {
            above_0(norm, "clip_norm")?;
        }
        if let Some(precision) = self.precision {
            above_0(precision.loss_scale.unwrap_or(1.0), "precision.loss_scale")?;
            count(precision.growth_steps, "precision.growth_steps")?;
        }
        if let Some(decay) = self.average {
            below_1(decay, "average")?;
        }
        if let Some(focal) = self.focal {
            from_0(focal.gamma, "focal.gamma")?;
            above_0(focal.weight, "focal.weight")?;
            let value = self.label_smoothing.to_string();
            let accepted = "0 with focal loss, which has no smoothed form";
            check(self.label_smoothing == 0.0, "label_smoothing", value, accepted)?;
        }
        if let Some(mixing) = self.mixing {
            above_0(mixing.mixup.unwrap_or(1.0), "mixing.mixup")?;
            above_0(mixing.cutmix.unwrap_or(1.0), "mixing.cutmix")?;
        }
        if let Some(distillation) = &self.distillation {
            let weight = distillation.weight;
            from_0(weight, "distillation.weight")?;
            let share = distillation.kind == DistillationKind::Feature || weight <= 1.0;
            check(
                share,
                "distillation.weight",
                weight.to_string(),
                "0 to 1, or kind = \"feature\"",
            )?;
            above_0(distillation.temperature, "distillation.temperature")?;
            let fits = distillation.reduction == Reduction::BatchMean
                || distillation.kind == DistillationKind::Soft;
            let accepted = "batch-mean, or kind = \"soft\"";
            check(fits, "distillation.reduction", "mean".into(), accepted)?;
        }
        match self.optimizer {
            Optimizer::Sgd { momentum, .. } => below_1(momentum, "optimizer.momentum")?,
            Optimizer::Adam { betas, epsilon } | Optimizer::AdamW { betas, epsilon } => {
                betas.into_iter().try_for_each(|beta| below_1(beta, "optimizer.betas"))?;
                above_0(epsilon, "optimizer.epsilon")?;
            }
        }
        let reads = |field: &Option<String>| field.is_none() || self.init.is_some();
        let accepted = "none, unless `init` names a file";
        check(reads(&self.init_key), "init_key", "given".into(), accepted)?;
        check(reads(&self.init_map), "init_map", "given".into(), accepted)?;
        let flaw = self.quantization.as_ref().and_then(QuantizationRecipe::flaw);
        if let Some((field, value, accepted)) = flaw {
            check(false, &format!("quantization.{field}"), value, accepted)?;
        }
        let idle = self.quantization.is_none() && !self.policies.is_empty();
        check(!idle, "policy", "given".into(), "none in a phase without quantization")?;
        self.policies.iter().try_for_each(|policy| {
            let flaw = policy.flaw();
            flaw.map_or(Ok(()), |(field, value, accepted)| {
                check(false, &format!("policy.{field}"), value, accepted)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(text: &str) -> Phase {
        let fixed = "name = 'p'\nepochs = 4\nbatch_size = 8\nlearning_rate = 0.1\n\
                     optimizer = { kind = 'sgd' }\n";
        toml::from_str(&format!("{fixed}{text}")).unwrap()
    }

    #[test]
    fn a_ramp_rises_from_zero_to_the_schedule() {
        let phase = phase("schedule = { policy = 'fix' }\nramp_batches = 15");
        let rates = [(0, 0), (0, 5), (1, 4), (1, 5), (2, 0)].map(|(e, b)| phase.rate(e, b, 10));
        let expected = [0.0, 0.1 * 5.0 / 15.0, 0.1 * 14.0 / 15.0, 0.1, 0.1];
        assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{rates:?}");
    }

    #[test]
    fn extra_epochs_go_on_at_the_last_rate() {
        let phase = phase("schedule = { policy = 'sgdr' }\nextra_epochs = 2");
        assert_eq!(phase.all_epochs(), 6);
        let last = phase.rate(3, 9, 10);
        assert!(last > 0.0 && last < 0.001);
        assert_eq!([phase.rate(4, 0, 10), phase.rate(5, 9, 10)], [last, last]);
    }

    #[test]
    fn numbers_out_of_range_name_their_field() {
        for (text, field) in [
            ("accumulate = { batches = 0 }", "accumulate.batches"),
            ("average = 1.0", "average"),
            ("focal = { gamma = -1.0 }", "focal.gamma"),
            ("focal = {}\nlabel_smoothing = 0.1", "label_smoothing"),
            ("mixing = { mixup = 0.0 }", "mixing.mixup"),
            ("distillation = { teacher = 'x', weight = 1.5 }", "distillation.weight"),
            (
                "distillation = { teacher = 'x', kind = 'hard', reduction = 'mean' }",
                "distillation.reduction",
            ),
            ("optimizer = { kind = 'adam', betas = [0.9, 1.0] }", "optimizer.betas"),
            ("[[policy]]\nat = 'start'\nchange = { levels = 4 }", "policy"),
        ] {
            let text = format!("schedule = {{ policy = 'fix' }}\n{text}");
            let fixed = "name = 'p'\nepochs = 4\nbatch_size = 8\nlearning_rate = 0.1\n";
            let optimizer = match text.contains("optimizer") {
                true => "",
                false => "optimizer = { kind = 'sgd' }\n",
            };
            let phase: Phase = toml::from_str(&format!("{fixed}{optimizer}{text}")).unwrap();
            let error = phase.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{text}: {error}");
        }
    }
}
