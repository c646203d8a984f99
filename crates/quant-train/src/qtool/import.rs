//! From a configuration file of QTool to a recipe.

use std::collections::BTreeMap;

use quant_core::{QuantizerConfig, QuantizerError, Role, qtool::QtoolOptions};
use quant_data::{LastBatch, Pipeline};
use quant_nn::keywords;

use super::{config::ShellConfig, group_rules, optimizer, policy, schedule};
use crate::{
    data::{DataKind, DataRecipe},
    error::TrainError,
    loss::{DistillationKind, DistillationRecipe, FocalRecipe, Reduction},
    mixing::MixingRecipe,
    phase::{Accumulation, Phase},
    precision::PrecisionRecipe,
    quantization::{QuantizationRecipe, QuantizerRecipe, WarmUpRecipe},
    recipe::{ModelRecipe, Recipe},
};

/// A recipe, and what became of everything the configuration said.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// The recipe.
    pub recipe: Recipe,
    /// Folder of the data, for the command line.
    pub data: Option<String>,
    /// What each variable, option and keyword became, or why it has no effect.
    pub outcomes: Vec<Outcome>,
    /// What was not understood.
    pub warnings: Vec<String>,
}

/// What became of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its name, as in the configuration.
    pub setting: String,
    /// Its value.
    pub value: String,
    /// What it became.
    pub became: String,
}

/// What each option of the reference's becomes, but for the quantizers' own. `docs/training.md` shows it.
pub const OPTIONS: &[(&str, &str)] = &[
    ("aa", "data.train: colour jitter and lighting"),
    ("arch", "model.name"),
    ("base", "model.options"),
    ("batch_size", "phase.batch_size"),
    ("block_alpha", "model.options"),
    ("case", "name"),
    ("custom_decay", "phase.groups.exceptions"),
    ("custom_decay_list", "phase.groups.exceptions"),
    ("custom_lr", "phase.groups.exceptions"),
    ("custom_lr_list", "phase.groups.exceptions"),
    ("dataset", "data.kind"),
    ("decay_small", "phase.groups.decay_small"),
    ("delay", "no effect: `quant train --after PID` waits"),
    ("device-ids", "no effect: `--device` chooses"),
    ("distill_loss_alpha", "phase.distillation.weight"),
    ("distill_loss_temperature", "phase.distillation.temperature"),
    ("distill_loss_type", "phase.distillation.kind"),
    ("distill_teacher", "phase.distillation.teacher"),
    ("epochs", "phase.epochs"),
    ("eta_min", "phase.schedule.eta_min"),
    ("evaluate", "no effect: `quant eval` evaluates"),
    ("extra_epoch", "phase.extra_epochs"),
    ("focal_alpha", "phase.focal.weight"),
    ("focal_gamma", "phase.focal.gamma"),
    ("fp16", "phase.precision"),
    ("grad_clip", "phase.clip_norm"),
    ("input_size", "data.input_size"),
    ("iter-size", "phase.accumulate"),
    ("keyword", "model.keywords"),
    ("label_smooth", "phase.label_smoothing, with the keyword label-smooth"),
    ("log_dir", "no effect: a run has its own folder"),
    ("lr", "phase.learning_rate"),
    ("lr_custom_step", "phase.schedule.steps"),
    ("lr_decay", "phase.schedule.factor or power"),
    ("lr_fix_step", "phase.schedule.every"),
    ("lr_policy", "phase.schedule.policy"),
    ("mean", "data.mean"),
    ("mixup_alpha", "phase.mixing.mixup"),
    ("mixup_enable", "phase.mixing"),
    ("model", "model.name"),
    ("momentum", "phase.optimizer.momentum"),
    ("nesterov", "phase.optimizer.nesterov"),
    ("num_classes", "no effect: the data tell"),
    (
        "opt_level",
        "phase.precision, f16: O1, O2 and O3 all keep weights and norms in 32 bits; O0 is 32 bits",
    ),
    ("optimizer", "phase.optimizer"),
    ("order", "model.options"),
    ("padding_after_quant", "phase.quantization.padding_after_quant"),
    ("policy", "phase.policy"),
    ("pretrained", "phase.init"),
    ("probe_index", "no effect: `QuantizedModule::probe` records what quantizers see"),
    ("probe_iteration", "no effect: `QuantizedModule::probe` records what quantizers see"),
    ("probe_list", "no effect: `QuantizedModule::probe` records what quantizers see"),
    ("proxquant_step", "no effect: see phase.quantization.proximal"),
    ("re_init", "phase.quantization.recalibrate"),
    ("resume", "no effect: `quant resume` goes on with a run"),
    ("resume_file", "no effect: `quant resume` goes on with a run"),
    ("root", "the folder for --data"),
    ("save_freq", "phase.keep_every"),
    ("se_reduction", "model.options"),
    ("seed", "seed"),
    ("stable", "phase.quantization.warm_up.steps"),
    ("stable_epoch", "no effect: give phase.quantization.warm_up.steps in batches"),
    ("std", "data.std"),
    ("stem_kernel", "model.options"),
    ("tensorboard", "no effect: every run writes event files"),
    ("unresume_scope", "no effect: entries that do not fit are reported when weights are loaded"),
    ("val_batch_size", "data.eval_batch_size"),
    ("wakeup", "phase.ramp_batches"),
    ("warmup", "phase.frozen_batches"),
    ("warmup_epoch", "no effect: give phase.frozen_batches in batches"),
    ("wd", "phase.groups.weight_decay"),
    ("weight_decay", "phase.groups.weight_decay"),
    ("weights_dir", "no effect: a run has its own folder"),
    ("width_alpha", "model.options"),
    ("workers", "data.workers"),
];

/// Options that describe the network and go on as they are.
const STRUCTURE: [&str; 6] =
    ["base", "block_alpha", "order", "se_reduction", "stem_kernel", "width_alpha"];

/// The options' short and other names.
const ALIASES: [(&str, &str); 12] = [
    ("m", "model"),
    ("b", "batch_size"),
    ("v", "val_batch_size"),
    ("j", "workers"),
    ("g", "device-ids"),
    ("e", "evaluate"),
    ("r", "resume"),
    ("iter_size", "iter-size"),
    ("device_ids", "device-ids"),
    ("train_batch", "batch_size"),
    ("val_batch", "val_batch_size"),
    ("arch", "model"),
];

/// Makes a recipe of a configuration. `read_policy` gives the text of the file that `--policy` names.
///
/// # Errors
/// [`TrainError::Qtool`] and [`TrainError::Field`] for values that cannot be, and those of the network.
pub fn import(
    config: &ShellConfig,
    read_policy: impl Fn(&str) -> Result<String, TrainError>,
) -> Result<Import, TrainError> {
    let mut warnings = config.warnings.clone();
    let mut settings = Settings::new(config).map_err(quantizer)?;
    let model_name = settings.text("model").unwrap_or("resnet18").to_owned();
    let words = settings.text("keyword").unwrap_or_default().to_owned();
    let structure: Vec<String> = STRUCTURE
        .iter()
        .filter(|name| settings.values.contains_key(**name))
        .map(|name| format!("--{name} {}", settings.text(name).unwrap_or_default()))
        .collect();
    let described = QtoolOptions::from_pairs(&words, settings.values.clone());
    let network = keywords::network(&model_name, &described)?;
    let quantization = network.quantization();
    let stable = settings.number::<usize>("stable")?;
    let correlate = settings.number::<f32>("fm_correlate")?;
    let batch_size = settings.number("batch_size")?;
    let recipe_of =
        |quantizer: &Option<QuantizerConfig>| quantizer.as_ref().map(QuantizerRecipe::from_config);
    let quantized = [&quantization.activation, &quantization.weight, &quantization.output];
    let any = quantized.iter().any(|quantizer| quantizer.is_some());
    let quantization = any.then(|| QuantizationRecipe {
        first_last: quantization.first_last,
        real_downsample: quantization.real_downsample,
        padding_after_quant: quantization.padding_after_quant,
        warm_up: stable.filter(|steps| *steps > 0).map(|steps| WarmUpRecipe {
            steps,
            correlate: correlate.filter(|c| *c > 0.0).unwrap_or(1.0),
            roles: Role::ALL.to_vec(),
        }),
        scale_batch_size: batch_size,
        recalibrate: described.has("re_init"),
        ..QuantizationRecipe::new(
            recipe_of(quantized[0]),
            recipe_of(quantized[1]),
            recipe_of(quantized[2]),
        )
    });
    let policies = match settings.text("policy") {
        Some(file) if any => policy::policies(&read_policy(file)?, |note| {
            warnings.push(format!("policy file, {note}"));
        })?,
        Some(_) => {
            warnings.push("policy: left out, for nothing is quantized".into());
            Vec::new()
        }
        None => Vec::new(),
    };
    let (learning_rate, schedule) = schedule(&described).map_err(quantizer)?;
    let text = |name: &str| settings.text(name);
    let phase = Phase {
        name: "train".into(),
        epochs: settings.number("epochs")?.unwrap_or(40),
        extra_epochs: settings.number("extra_epoch")?.unwrap_or(0),
        batch_size: batch_size.unwrap_or(256),
        last_batch: LastBatch::Keep,
        accumulate: match settings.number::<usize>("iter-size")? {
            Some(batches @ 2..) => Some(Accumulation { batches, sum: true }),
            _ => None,
        },
        learning_rate,
        schedule,
        ramp_batches: settings.number("wakeup")?.unwrap_or(0),
        frozen_batches: settings.number("warmup")?.unwrap_or(0),
        optimizer: optimizer(&described).map_err(quantizer)?,
        groups: group_rules(&described).map_err(quantizer)?,
        clip_norm: settings.number::<f64>("grad_clip")?.filter(|norm| *norm > 0.0),
        label_smoothing: match described.keyword("label-smooth") {
            true => settings.number("label_smooth")?.unwrap_or(0.1),
            false => 0.0,
        },
        focal: match (settings.number("focal_gamma")?, settings.number::<f64>("focal_alpha")?) {
            (None, None) => None,
            (gamma, weight) => Some(FocalRecipe {
                gamma: gamma.unwrap_or(2.0),
                weight: weight.filter(|weight| *weight > 0.0).unwrap_or(1.0),
            }),
        },
        mixing: match described.has("mixup_enable") {
            true => Some(MixingRecipe {
                mixup: Some(settings.number("mixup_alpha")?.unwrap_or(0.7)),
                cutmix: None,
            }),
            false => None,
        },
        distillation: match text("distill_teacher") {
            Some(teacher) => Some(DistillationRecipe {
                teacher: teacher.to_owned(),
                teacher_key: None,
                teacher_map: None,
                model: None,
                kind: loss_kind(text("distill_loss_type"))?,
                reduction: match text("distill_loss_type") {
                    None | Some("soft") => Reduction::Mean,
                    _ => Reduction::BatchMean,
                },
                weight: settings.number("distill_loss_alpha")?.unwrap_or(0.1),
                temperature: settings.number("distill_loss_temperature")?.unwrap_or(5.0),
            }),
            None => None,
        },
        average: None,
        precision: match text("opt_level").unwrap_or("O1") {
            "O0" => None,
            "O1" | "O2" | "O3" => described.has("fp16").then_some(PrecisionRecipe::F16),
            other => return Err(unusable("opt_level", other, "O0, O1, O2 or O3")),
        },
        frozen_statistics: Vec::new(),
        shared_statistics: false,
        init: text("pretrained").filter(|file| *file != "none").map(str::to_owned),
        init_key: None,
        init_map: None,
        // The reference passes over entries that do not fit, the classifier's too.
        fresh_classifier: text("pretrained").is_some_and(|file| file != "none"),
        checkpoint_steps: None,
        keep_every: settings.number::<i64>("save_freq")?.filter(|n| *n > 0).map(|n| n as usize),
        keep_at_steps: true,
        quantization,
        policies,
    };
    let data = settings.data()?;
    let recipe = Recipe {
        name: file_name(text("case").unwrap_or(&model_name)),
        seed: settings.number("seed")?.unwrap_or(2),
        published: None,
        expected: None,
        data,
        model: ModelRecipe {
            depth: None,
            stem: None,
            width_alpha: 1.0,
            downsample: Default::default(),
            zero_init_residual: false,
            name: Some(model_name.clone()),
            keywords: Some(words),
            options: (!structure.is_empty()).then(|| structure.join(" ")),
        },
        phases: vec![phase],
    };
    recipe.validate()?;
    let data = text("root").map(str::to_owned);
    settings.note_words(&described);
    warnings.append(&mut settings.unknown);
    Ok(Import { recipe, data, outcomes: settings.outcomes, warnings })
}

/// The reference's losses of a teacher.
fn loss_kind(name: Option<&str>) -> Result<DistillationKind, TrainError> {
    match name {
        None | Some("soft") => Ok(DistillationKind::Soft),
        Some("soft-b") => Ok(DistillationKind::SoftCrossEntropy),
        Some("hard") => Ok(DistillationKind::Hard),
        Some(other) => Err(unusable("distill_loss_type", other, "soft, soft-b or hard")),
    }
}

fn unusable(option: &str, value: &str, accepted: &str) -> TrainError {
    TrainError::Qtool {
        place: format!("--{option}"),
        reason: format!("{value:?}: expected {accepted}"),
    }
}

fn quantizer(error: QuantizerError) -> TrainError {
    TrainError::from(quant_nn::NetworkError::from(error))
}

/// The variables and options, which name the same things.
struct Settings {
    /// By the options' full names.
    values: BTreeMap<String, String>,
    outcomes: Vec<Outcome>,
    unknown: Vec<String>,
}

impl Settings {
    fn new(config: &ShellConfig) -> Result<Self, QuantizerError> {
        // Short options, such as -j 4, are options like others.
        let words = config.get("options").unwrap_or_default().split_whitespace().map(|word| {
            let short =
                word.strip_prefix('-').filter(|rest| rest.starts_with(|c: char| c.is_alphabetic()));
            short.map_or_else(|| word.to_owned(), |short| format!("--{short}"))
        });
        let given = QtoolOptions::parse("", &words.collect::<Vec<_>>().join(" "))?;
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in &config.variables {
            if name != "options" && !value.is_empty() {
                all.push((name.clone(), value.clone()));
            }
        }
        // Options stand behind the variables' own on the reference's command line, and win.
        for name in given.names() {
            let value = given.get::<String>(name)?.unwrap_or_default();
            all.push((name.to_owned(), value));
        }
        let (mut outcomes, mut unknown, mut values) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (name, value) in all {
            let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, full)| *full);
            let full = alias.unwrap_or(&name).to_owned();
            let quantizer = ["fm_", "wt_", "ot_"].iter().any(|tag| full.starts_with(tag));
            let known = OPTIONS.iter().find(|(option, _)| *option == full);
            let became = match known {
                Some((_, became)) => (*became).to_owned(),
                None if quantizer => "phase.quantization".to_owned(),
                None => {
                    unknown
                        .push(format!("{name} is not known to the reference's parsers: left out"));
                    continue;
                }
            };
            outcomes.push(Outcome { setting: name.clone(), value: value.clone(), became });
            values.insert(full, value);
        }
        Ok(Self { values, outcomes, unknown })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, TrainError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().map(Some);
        number.map_err(|_| unusable(name, text, "a number"))
    }

    fn data(&self) -> Result<DataRecipe, TrainError> {
        let dataset = self.text("dataset").unwrap_or("imagenet");
        let kind = match dataset {
            "imagenet" | "dali" => DataKind::ImageFolder,
            "cifar10" => DataKind::Cifar10,
            "cifar100" => DataKind::Cifar100,
            "fake" => DataKind::Fake,
            other => {
                let accepted = "imagenet, dali, cifar10, cifar100 or fake";
                return Err(unusable("dataset", other, accepted));
            }
        };
        let usual = if dataset.starts_with("cifar") { 32 } else { 224 };
        let input_size = self.number("input_size")?.unwrap_or(usual);
        let triple = |name: &str| -> Result<Option<[f64; 3]>, TrainError> {
            let Some(text) = self.text(name) else { return Ok(None) };
            let numbers: Option<Vec<f64>> =
                text.split(',').map(|x| x.trim().parse().ok()).collect();
            let triple = numbers.and_then(|numbers| <[f64; 3]>::try_from(numbers).ok());
            let accepted = "three numbers separated by commas";
            triple.map(Some).ok_or_else(|| unusable(name, text, accepted))
        };
        let color = self.values.contains_key("aa") && kind == DataKind::ImageFolder;
        Ok(DataRecipe {
            mean: triple("mean")?,
            std: triple("std")?,
            train: color.then(|| Pipeline::imagenet_train_color(input_size)),
            eval_batch_size: self.number("val_batch_size")?.unwrap_or(50),
            workers: self.number("workers")?.unwrap_or(12),
            ..DataRecipe::new(kind, input_size)
        })
    }

    /// Keywords that are a matter of training.
    fn note_words(&mut self, described: &QtoolOptions) {
        let words = [
            ("label-smooth", "phase.label_smoothing"),
            ("less_bn", "no effect: name the norms in phase.frozen_statistics"),
            ("proxquant", "no effect: see phase.quantization.proximal"),
        ];
        for (word, became) in words {
            if described.keyword(word) {
                let (setting, value) = ("keyword".to_owned(), word.to_owned());
                self.outcomes.push(Outcome { setting, value, became: became.to_owned() });
            }
        }
    }
}

/// Letters, digits, - and _, as a run's folder has them.
fn file_name(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = text.chars().map(safe).collect();
    let name = name.trim_start_matches('.').to_owned();
    if name.is_empty() { "imported".to_owned() } else { name }
}
