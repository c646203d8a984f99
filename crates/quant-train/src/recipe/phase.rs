//! A phase of training, as a recipe describes it.

use quant_data::LastBatch;
use quant_nn::{QuantizedModule, StateDict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    loss::{DistillationKind, DistillationRecipe, FocalRecipe, Reduction},
    policy::{Policy, Trigger},
    quantization::QuantizationRecipe,
};
use crate::{
    batches::mixing::MixingRecipe,
    error::TrainError,
    optimize::{
        optimizer::{GroupException, GroupRules, Optimizer, parameters},
        precision::PrecisionRecipe,
        schedule::{Length, Schedule},
    },
    schema::choices::Choice,
};

/// A phase of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// The name of the phase. The folder of the phase within the folder of the run has this name,
    /// and `--set phase.<name>.<field>` and `teacher` refer to it. It consists of letters, digits,
    /// `-`, `_` and `.`. It must not be the name of another phase or of a file that every run has.
    pub name: String,
    /// The number of passes over the training images. The schedule spans these epochs. Raise it if
    /// the validation score still rises at the end.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: usize,
    /// The number of epochs that follow after `epochs`, with the last learning rate of the
    /// schedule. Use them with schedules that end at a small learning rate at which training should
    /// continue.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub extra_epochs: usize,
    /// The number of images per batch, on each device and in each process. Take as many as memory
    /// allows. A learning rate is chosen for a batch size, and usually grows with it.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_size: usize,
    /// Whether the last batch of an epoch is used for training if the images do not fill it. `drop`
    /// keeps all batches equal; `keep` uses every image, which matters if there are few of them.
    #[serde(default)]
    #[schemars(with = "Choice<LastBatch>")]
    pub last_batch: LastBatch,
    /// Several batches per optimizer step, for larger batches than memory can hold. The last step
    /// of an epoch has the batches that are left. By default a step has one batch.
    pub accumulate: Option<Accumulation>,
    /// The initial learning rate, which the schedule changes during the phase. It is the first
    /// field to tune. If it is too high, the loss rises or is no longer a number; if it is too low,
    /// the loss falls slowly. Quantized phases take a lower learning rate than the phase in full
    /// precision before them.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// The schedule of the learning rate. By default it is a cosine that falls to 0 over the phase,
    /// which suits most phases.
    #[serde(default)]
    pub schedule: Schedule,
    /// The number of batches over which the learning rate rises at the start of the phase: for the
    /// batches i = 0, 1, ..., it is multiplied by i/`ramp_batches`. Use it with high learning rates
    /// or large batches, whose first steps can do damage.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub ramp_batches: usize,
    /// The number of batches at the start of the phase in which no weight changes. Only the
    /// statistics of batch norms and learned bases of quantizers adapt to the data. Use it in
    /// phases whose quantizers differ much from those that the weights were trained with.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub frozen_batches: usize,
    /// The optimizer. By default it is SGD with a momentum of 0.9.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// The weight decay, and parameters with their own weight decay or learning rate.
    #[serde(default)]
    pub groups: GroupRules,
    /// The largest global L2 norm of the gradients. Larger gradients are scaled down to it. Set it
    /// if the loss jumps or is no longer a number. By default gradients are not scaled.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
    /// The share of the target that is spread over all classes. 0.1 is usual for ImageNet in full
    /// precision.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub label_smoothing: f64,
    /// Focal loss instead of cross-entropy. Images that are classified correctly already have less
    /// weight in it. Use it for classes of very different sizes. By default the loss is
    /// cross-entropy.
    pub focal: Option<FocalRecipe>,
    /// Mixing of images. Use it against overfitting in long phases. By default images are not
    /// mixed.
    pub mixing: Option<MixingRecipe>,
    /// Distillation: learning from a trained network, which often raises the score of low-bit
    /// networks. By default there is no teacher.
    pub distillation: Option<DistillationRecipe>,
    /// The decay of a moving average of the weights, such as 0.9999. The average is then evaluated
    /// and saved instead of the weights. Set it if the score differs much from epoch to epoch. By
    /// default the weights themselves are evaluated and saved.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub average: Option<f64>,
    /// Products in 16 bits, for speed on GPUs that support them. By default products have 32 bits.
    pub precision: Option<PrecisionRecipe>,
    /// Texts that select batch norms by their PyTorch names. Batch norms whose name contains one of
    /// the texts keep their running statistics, which is useful for fine-tuning on few images or
    /// with small batches.
    #[serde(default)]
    pub frozen_statistics: Vec<String>,
    /// Whether the batch norms of several processes normalise with statistics of the images of all
    /// processes, as a single process with the whole batch would. Use it for small batches on
    /// several devices.
    #[serde(default)]
    pub shared_statistics: bool,
    /// A safetensors file or PyTorch checkpoint with the weights to start from, relative to the
    /// recipe. By default a phase starts from the weights of the phase before it, and the first
    /// phase from random weights.
    pub init: Option<String>,
    /// The key under which the weights are stored in that file, such as `state_dict_ema`. By
    /// default they are taken from the place where they fit.
    pub init_key: Option<String>,
    /// A file of renaming rules for the names in that file, relative to the recipe. By default the
    /// names are not changed, except that torchvision's ResNet names are translated for networks
    /// with other names.
    pub init_map: Option<String>,
    /// Whether the classifier starts with fresh values if the file has other classes. Set it for
    /// fine-tuning to your own classes.
    #[serde(default)]
    pub fresh_classifier: bool,
    /// The number of optimizer steps between checkpoints. There is always a checkpoint at the end
    /// of an epoch. Set it if an epoch takes more than some minutes, because a run that is killed
    /// loses the steps after its last checkpoint. By default there are checkpoints only at the ends
    /// of epochs.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub checkpoint_steps: Option<usize>,
    /// The number of epochs between networks that are kept, as `epoch-<n>.safetensors`. By default
    /// only the last network and the best one are kept.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub keep_every: Option<usize>,
    /// Whether the networks at the schedule's `steps` are kept too, as `epoch-<n>.safetensors`.
    /// These are the networks before the learning rate drops or restarts.
    #[serde(default)]
    pub keep_at_steps: bool,
    /// The quantizers. Without this table the phase is in full precision.
    pub quantization: Option<QuantizationRecipe>,
    /// Changes to the quantizers during the phase, such as fewer bits from some epoch on. By
    /// default there are none.
    #[serde(default, rename = "policy", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Policy>,
}

/// Several batches per optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accumulation {
    /// The number of batches per optimizer step.
    #[schemars(range(min = 1, max = 65_536))]
    pub batches: usize,
    /// Whether the gradients of the batches are added, as QTool's `iter-size` does. Otherwise they
    /// are averaged with the numbers of images as weights, which gives the gradient of one batch
    /// with all their images. It is for imported recipes.
    #[serde(default)]
    pub sum: bool,
}

impl Phase {
    /// Returns the number of all epochs.
    pub fn all_epochs(&self) -> usize {
        self.epochs + self.extra_epochs
    }

    /// Returns the number of batches per optimizer step.
    pub fn batches_per_step(&self) -> usize {
        self.accumulate.map_or(1, |accumulate| accumulate.batches)
    }

    /// Returns the learning rate at a batch of an epoch, where an epoch has `iterations` batches.
    ///
    /// ```
    /// use quant_train::phase::Phase;
    ///
    /// let text = "name = 'p'\nepochs = 4\nbatch_size = 32\nlearning_rate = 0.1";
    /// let phase: Phase = toml::from_str(text).unwrap();
    /// // Half of a cosine: after half of the batches, half of the learning rate.
    /// assert!((phase.rate(2, 0, 10) - 0.05).abs() < 1e-9);
    /// ```
    pub fn rate(&self, epoch: usize, batch: usize, iterations: usize) -> f64 {
        let length = Length { epochs: self.epochs, iterations };
        let (last, seen) = (self.epochs - 1, epoch * iterations + batch);
        let (epoch, batch) =
            if epoch > last { (last, iterations.saturating_sub(1)) } else { (epoch, batch) };
        let rate = self.schedule.rate(self.learning_rate, epoch, batch, length);
        if seen < self.ramp_batches { rate * seen as f64 / self.ramp_batches as f64 } else { rate }
    }

    /// Describes the fields that have no effect, or never their full effect, because the phase is
    /// too short for them. `batches` is the number of batches per epoch, if it is known. They are
    /// no error, because a trial of a recipe with a few epochs has them too.
    pub fn too_short_for(&self, batches: Option<usize>) -> Vec<String> {
        let mut found = Vec::new();
        let place = |field: &str| format!("phase.{}.{field}", self.name);
        let epochs = self.all_epochs();
        if let Some(batches) = batches {
            let all = epochs.saturating_mul(batches);
            if self.frozen_batches >= all && self.frozen_batches > 0 {
                found.push(format!(
                    "{} = {}: the phase has {all} batches, so that no weight changes in it",
                    place("frozen_batches"),
                    self.frozen_batches
                ));
            }
            if self.ramp_batches > all {
                found.push(format!(
                    "{} = {}: the phase has {all} batches, so that the learning rate never reaches \
                     the schedule's",
                    place("ramp_batches"),
                    self.ramp_batches
                ));
            }
            let warm_up = self.quantization.as_ref().and_then(|found| found.warm_up.as_ref());
            if let Some(warm_up) = warm_up.filter(|warm_up| warm_up.steps > all) {
                found.push(format!(
                    "{} = {}: the phase has {all} batches, so that the quantizers never quantize \
                     fully in training",
                    place("quantization.warm_up.steps"),
                    warm_up.steps
                ));
            }
        }
        for policy in &self.policies {
            let late = match policy.at {
                Trigger::Start => None,
                Trigger::Epoch(epoch) => (epoch >= epochs).then(|| {
                    format!(
                        "at = {{ epoch = {epoch} }}: the phase has the epochs 0 to {}",
                        epochs - 1
                    )
                }),
                Trigger::Batch(batch) => {
                    let all = batches.map(|batches| batches.saturating_mul(epochs));
                    all.filter(|all| batch >= *all).map(|all| {
                        format!("at = {{ batch = {batch} }}: the phase has {all} batches")
                    })
                }
            };
            found.extend(late.map(|late| format!("{}: {late}; it never applies", place("policy"))));
        }
        found
    }

    /// Returns a warning if batch norms behind quantized activations get fewer than 16 values per
    /// channel: their variance can be nearly 0, and gradients then explode. `processes` is the
    /// number of processes that share statistics.
    pub fn few_values<M: QuantizedModule>(&self, network: &M, processes: usize) -> Option<String> {
        const ENOUGH: usize = 16;
        let quantized = self.quantization.as_ref().is_some_and(|found| found.activation.is_some());
        let safe = self.clip_norm.is_some() || !self.frozen_statistics.is_empty();
        let state = StateDict::of(network);
        let norms = state.entries().any(|(name, _)| name.ends_with(".running_mean"));
        if !quantized || safe || !norms {
            return None;
        }
        let shapes = network.layer_shapes().into_iter().filter(|layer| layer.weight.len() == 4);
        let sized = shapes.filter_map(|layer| Some((layer.output_size?, layer.name)));
        let (side, layer) = sized.min_by_key(|(side, _)| *side)?;
        let shared = if self.shared_statistics { processes } else { 1 };
        let values = self.batch_size.saturating_mul(shared).saturating_mul(side * side);
        (values < ENOUGH).then(|| {
            format!(
                "phase.{}.batch_size = {}: a batch norm behind {layer} is trained on {values} \
                 values per channel, which quantized activations often make equal; the gradient \
                 can then grow until training diverges. Take at least {} images per batch, set \
                 clip_norm, or freeze the statistics (frozen_statistics)",
                self.name,
                self.batch_size,
                ENOUGH.div_ceil(side * side * shared)
            )
        })
    }

    /// Checks that every text of `frozen_statistics` selects a batch norm of the phase's network.
    ///
    /// # Errors
    /// [`TrainError::Invalid`] with the text that selects none, and the names of batch norms.
    pub(crate) fn check_frozen<M: QuantizedModule>(&self, network: &M) -> Result<(), TrainError> {
        if self.frozen_statistics.is_empty() {
            return Ok(());
        }
        let state = StateDict::of(network);
        let norms = state.entries().filter_map(|(name, _)| name.strip_suffix(".running_mean"));
        let norms: Vec<&str> = norms.collect();
        let selects = |text: &&String| norms.iter().any(|name| name.contains(text.as_str()));
        let Some(idle) = self.frozen_statistics.iter().find(|text| !selects(text)) else {
            return Ok(());
        };
        let some: Vec<&str> = norms.iter().take(5).copied().collect();
        let reason = if some.is_empty() {
            format!("{idle:?} selects nothing: the network has no batch norms")
        } else {
            format!(
                "{idle:?} is part of no batch norm's name; the names are {}{}",
                some.join(", "),
                if norms.len() > some.len() { ", ..." } else { "" }
            )
        };
        let field = format!("phase.{}.frozen_statistics", self.name);
        Err(TrainError::Invalid { field, reason })
    }

    /// Describes the exceptions of `groups` that match no parameter of the phase's network. They
    /// are no error, because the same rules often serve all phases of a recipe, and only some of
    /// them have quantizers.
    pub fn idle_exceptions<M: QuantizedModule>(&self, network: &M) -> Vec<String> {
        let exceptions = self.groups.exceptions.iter().enumerate();
        if self.groups.exceptions.is_empty() {
            return Vec::new();
        }
        let names: Vec<String> = parameters(network).into_iter().map(|found| found.name).collect();
        let idle = exceptions.filter(|(_, exception)| {
            !names.iter().any(|name| name.contains(&exception.name_contains))
        });
        let message = |(index, exception): (usize, &GroupException)| {
            format!(
                "phase.{}.groups.exceptions[{index}]: no parameter has a name that contains {:?}; \
                 `quant inspect` lists the names of a file, and `quant summary` the layers",
                self.name, exception.name_contains
            )
        };
        idle.map(message).collect()
    }

    /// Checks which fields go together. The bounds of numbers are checked with the recipe.
    ///
    /// # Errors
    /// [`TrainError::Field`] with the field, its value and what is accepted, and
    /// [`TrainError::Invalid`] for policies.
    pub fn validate(&self) -> Result<(), TrainError> {
        let check = |good, field: &str, value: &str, accepted| {
            TrainError::check_field(good, format!("phase.{}.{field}", self.name), value, accepted)
        };
        if self.focal.is_some() {
            let value = self.label_smoothing.to_string();
            let accepted = "0 with focal loss, which has no smoothed form";
            check(self.label_smoothing == 0.0, "label_smoothing", &value, accepted)?;
        }
        if let Some(distillation) = &self.distillation {
            let weight = distillation.weight;
            let share = distillation.kind == DistillationKind::Feature || weight <= 1.0;
            let accepted = "0 to 1, or kind = \"feature\"";
            check(share, "distillation.weight", &weight.to_string(), accepted)?;
            let fits = distillation.reduction == Reduction::BatchMean
                || distillation.kind == DistillationKind::Soft;
            let accepted = "batch-mean, or kind = \"soft\"";
            check(fits, "distillation.reduction", "mean", accepted)?;
            let (kind, value) = (distillation.kind, distillation.temperature);
            let fits = matches!(kind, DistillationKind::Soft | DistillationKind::SoftCrossEntropy)
                || value == DistillationRecipe::TEMPERATURE;
            let accepted = "none, or kind = \"soft\" or \"soft-cross-entropy\"";
            check(fits, "distillation.temperature", &value.to_string(), accepted)?;
        }
        let reads = |field: &Option<String>| field.is_none() || self.init.is_some();
        let accepted = "none, unless `init` names a file";
        check(reads(&self.init_key), "init_key", "given", accepted)?;
        check(reads(&self.init_map), "init_map", "given", accepted)?;
        let idle = self.quantization.is_none() && !self.policies.is_empty();
        check(!idle, "policy", "given", "none in a phase without quantization")?;
        let path = format!("phase.{}.policy", self.name);
        self.policies.iter().try_for_each(|policy| policy.validate(&path))
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
    fn a_phase_without_schedule_and_optimizer_has_the_usual_ones() {
        let text = "name = 'p'\nepochs = 4\nbatch_size = 8\nlearning_rate = 0.1";
        let phase: Phase = toml::from_str(text).unwrap();
        // The learning rate is half a cosine from the initial rate to 0 over all batches.
        let rates = [(0, 0), (2, 0)].map(|(epoch, batch)| phase.rate(epoch, batch, 10));
        assert!((rates[0] - 0.1).abs() < 1e-12 && (rates[1] - 0.05).abs() < 1e-12, "{rates:?}");
        assert!(phase.rate(3, 9, 10) < 0.1 * 0.002);
        assert_eq!(phase.optimizer, Optimizer::Sgd { momentum: 0.9, nesterov: false });
    }

    #[test]
    fn fields_that_a_phase_is_too_short_for_are_named() {
        let text = "frozen_batches = 40\nramp_batches = 41\n\
                    quantization = { warm_up = { steps = 41 } }\n\
                    [[policy]]\nat = { epoch = 4 }\nchange = { levels = 4 }\n\
                    [[policy]]\nat = { batch = 40 }\nchange = { levels = 4 }";
        let found = phase(text).too_short_for(Some(10)).join("\n");
        for part in [
            "phase.p.frozen_batches = 40: the phase has 40 batches",
            "phase.p.ramp_batches = 41: ",
            "phase.p.quantization.warm_up.steps = 41: ",
            "phase.p.policy: at = { epoch = 4 }: the phase has the epochs 0 to 3",
            "phase.p.policy: at = { batch = 40 }: ",
        ] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert_eq!(phase(text).too_short_for(Some(11)).len(), 1, "the policy of epoch 4");
        assert_eq!(phase(text).too_short_for(None).len(), 1);
        assert!(phase("").too_short_for(Some(1)).is_empty());
    }

    #[test]
    fn fields_that_do_not_go_together_are_named() {
        for (text, field) in [
            ("focal = {}\nlabel_smoothing = 0.1", "phase.p.label_smoothing"),
            ("distillation = { teacher = 'x', weight = 1.5 }", "phase.p.distillation.weight"),
            (
                "distillation = { teacher = 'x', kind = 'hard', reduction = 'mean' }",
                "phase.p.distillation.reduction",
            ),
            ("init_key = 'model'", "phase.p.init_key"),
            ("[[policy]]\nat = 'start'\nchange = { levels = 4 }", "phase.p.policy"),
        ] {
            let error = phase(text).validate().unwrap_err().to_string();
            assert!(error.starts_with(&format!("recipe: {field} = ")), "{text}: {error}");
        }
    }
}
