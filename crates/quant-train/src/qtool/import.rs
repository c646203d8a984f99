//! Import of QTool's configuration files as recipes.

use quant_core::{QuantizerConfig, QuantizerError, Role, qtool::QtoolOptions};
use quant_data::LastBatch;
use quant_nn::{NetworkConfig, NetworkError, keywords, keywords::Registry};

pub use super::outcome::Outcome;
use super::{
    config::ShellConfig,
    outcome::unusable,
    policy,
    settings::Settings,
    training::{group_rules, optimizer, schedule},
};
use crate::{
    batches::mixing::MixingRecipe,
    error::TrainError,
    optimize::precision::PrecisionRecipe,
    recipe::{
        KeywordModel, ModelRecipe, Recipe,
        loss::{DistillationKind, DistillationRecipe, FocalRecipe, Reduction},
        phase::{Accumulation, Phase},
        quantization::{QuantizationRecipe, QuantizerRecipe, WarmUpRecipe},
    },
};

/// A recipe, and what every setting of the configuration became.
#[derive(Debug, Clone, PartialEq)]
pub struct Import {
    /// The recipe that does what the options ask for.
    pub recipe: Recipe,
    /// The folder of the data, for the command line.
    pub data: Option<String>,
    /// Whether the configuration evaluates instead of training.
    pub evaluates: bool,
    /// What each variable, option and keyword became, or why it has no effect.
    pub outcomes: Vec<Outcome>,
    /// Warnings about settings that the reference ignores, and about settings that are unknown.
    pub warnings: Vec<String>,
}

/// The options that describe the network. They are copied without changes.
const STRUCTURE: [&str; 6] =
    ["base", "block_alpha", "order", "se_reduction", "stem_kernel", "width_alpha"];

/// Makes a recipe from a configuration. `read_policy` returns the text of the file that `--policy`
/// names.
///
/// Keywords, options and values that the reference ignores are left out with a warning.
///
/// # Errors
/// [`TrainError::Qtool`] and [`TrainError::Field`] for values that are not possible; the errors of
/// the network.
pub fn import(
    config: &ShellConfig,
    read_policy: impl Fn(&str) -> Result<String, TrainError>,
) -> Result<Import, TrainError> {
    let mut warnings = config.warnings.clone();
    let mut settings = Settings::new(config)?;
    let described = Described::new(&mut settings)?;
    let quantization = described.quantization(&settings)?;
    let policies = match settings.file("policy") {
        Some(file) if quantization.is_some() => policy::policies(&read_policy(file)?, |note| {
            warnings.push(format!("policy file, {note}"));
        })?,
        Some(_) => {
            warnings.push("policy: left out, because nothing is quantized".into());
            Vec::new()
        }
        None => Vec::new(),
    };
    let phase = Phase { quantization, policies, ..training(&mut settings, &described.options)? };
    let recipe = Recipe {
        name: file_name(settings.text("case").unwrap_or(&described.model.name)),
        seed: settings.number("seed")?.unwrap_or(2),
        published: None,
        expected: None,
        data: settings.data()?,
        model: ModelRecipe::Keywords(described.model),
        phases: vec![phase],
    };
    recipe.validate()?;
    settings.note_words(&described.options);
    warnings.append(&mut settings.warnings);
    Ok(Import {
        data: settings.text("root").map(str::to_owned),
        evaluates: settings.has("evaluate"),
        recipe,
        outcomes: settings.outcomes,
        warnings,
    })
}

/// The network that a configuration describes, and the remaining options.
struct Described {
    options: QtoolOptions,
    network: NetworkConfig,
    model: KeywordModel,
}

impl Described {
    fn new(settings: &mut Settings) -> Result<Self, TrainError> {
        let name = settings.text("model").unwrap_or("resnet18").to_owned();
        let words = settings.text("keyword").unwrap_or_default();
        let acting = keywords::acting(&name, words)?;
        let mut options = QtoolOptions::from_pairs(&acting.keywords, settings.values());
        for (option, why) in options.drop_idle() {
            settings.has_no_effect(&option, &why);
        }
        let explained = Registry::default()
            .read(&name, &options)
            .map_err(|error| with_notes(error, &acting.notes))?;
        settings.warnings.extend(acting.notes);
        let idle = explained.warnings.into_iter().map(|warning| format!("keyword {warning}"));
        settings.warnings.extend(idle);
        let structure: Vec<String> = STRUCTURE
            .iter()
            .filter_map(|name| Some(format!("--{name} {}", settings.text(name)?)))
            .collect();
        let model = KeywordModel {
            name,
            keywords: Some(acting.keywords),
            options: (!structure.is_empty()).then(|| structure.join(" ")),
        };
        Ok(Self { options, network: explained.config, model })
    }

    fn quantization(&self, settings: &Settings) -> Result<Option<QuantizationRecipe>, TrainError> {
        let quantization = self.network.quantization();
        let recipe_of = |quantizer: &Option<QuantizerConfig>| {
            quantizer.as_ref().map(QuantizerRecipe::from_config)
        };
        let [activation, weight, output] =
            [&quantization.activation, &quantization.weight, &quantization.output].map(recipe_of);
        if activation.is_none() && weight.is_none() && output.is_none() {
            return Ok(None);
        }
        let steps = settings.batches("stable", "stable_epoch")?;
        let correlate = settings.number::<f32>("fm_correlate")?.filter(|factor| *factor > 0.0);
        Ok(Some(QuantizationRecipe {
            first_last: quantization.first_last,
            real_downsample: quantization.real_downsample,
            padding_after_quant: quantization.padding_after_quant,
            warm_up: (steps > 0).then(|| WarmUpRecipe {
                steps,
                correlate: correlate.unwrap_or(1.0),
                roles: Role::ALL.to_vec(),
            }),
            scale_batch_size: settings.number("batch_size")?,
            recalibrate: settings.has("re_init"),
            ..QuantizationRecipe::new(activation, weight, output)
        }))
    }
}

/// Returns the error with the notes on the keywords that were left out, because one of them may be
/// the misspelt keyword that the error misses.
fn with_notes(error: NetworkError, notes: &[String]) -> NetworkError {
    match error {
        NetworkError::Keyword { word, reason } if !notes.is_empty() => {
            NetworkError::Keyword { word, reason: format!("{reason} ({})", notes.join("; ")) }
        }
        other => other,
    }
}

/// Returns the description of the training, without quantizers.
fn training(settings: &mut Settings, options: &QtoolOptions) -> Result<Phase, TrainError> {
    let (learning_rate, schedule) = schedule(options).map_err(quantizer)?;
    let epochs = settings.number("epochs")?.unwrap_or(40);
    if epochs == 0 {
        settings.warnings.push("epochs = 0 trains nothing: the recipe has 1 epoch".into());
    }
    Ok(Phase {
        name: "train".into(),
        epochs: epochs.max(1),
        extra_epochs: settings.number("extra_epoch")?.unwrap_or(0),
        batch_size: settings.batch_size()?,
        // The reference's loaders keep the last batch.
        last_batch: LastBatch::Keep,
        accumulate: match settings.number::<usize>("iter-size")? {
            Some(batches @ 2..) => Some(Accumulation { batches, sum: true }),
            _ => None,
        },
        learning_rate,
        schedule,
        ramp_batches: settings.batches("wakeup", "wakeup_epoch")?,
        frozen_batches: settings.batches("warmup", "warmup_epoch")?,
        optimizer: optimizer(options).map_err(quantizer)?,
        groups: group_rules(options).map_err(quantizer)?,
        clip_norm: settings.number::<f64>("grad_clip")?.filter(|norm| *norm > 0.0),
        label_smoothing: if options.keyword("label-smooth") {
            settings.number("label_smooth")?.unwrap_or(0.1)
        } else {
            0.0
        },
        focal: focal(settings)?,
        mixing: if settings.has("mixup_enable") {
            Some(MixingRecipe {
                mixup: Some(settings.number("mixup_alpha")?.unwrap_or(0.7)),
                cutmix: None,
            })
        } else {
            None
        },
        distillation: distillation(settings)?,
        average: None,
        precision: precision(settings)?,
        frozen_statistics: Vec::new(),
        shared_statistics: false,
        init: settings.file("pretrained").map(str::to_owned),
        init_key: None,
        init_map: None,
        // QTool ignores entries of another size, including those of the classifier.
        fresh_classifier: settings.file("pretrained").is_some(),
        checkpoint_steps: None,
        keep_every: settings.number::<i64>("save_freq")?.filter(|n| *n > 0).map(|n| n as usize),
        keep_at_steps: true,
        quantization: None,
        policies: Vec::new(),
    })
}

fn focal(settings: &Settings) -> Result<Option<FocalRecipe>, TrainError> {
    let (gamma, weight) = (settings.number("focal_gamma")?, settings.number("focal_alpha")?);
    Ok((gamma.is_some() || weight.is_some()).then(|| FocalRecipe {
        gamma: gamma.unwrap_or(2.0),
        weight: weight.filter(|weight| *weight > 0.0).unwrap_or(1.0),
    }))
}

/// Returns the distillation of the reference. `soft` divides by the numbers of images and classes,
/// `soft-b` is the cross-entropy with the teacher's distribution, and `hard` is the cross-entropy
/// with the teacher's best class.
fn distillation(settings: &Settings) -> Result<Option<DistillationRecipe>, TrainError> {
    let Some(teacher) = settings.file("distill_teacher") else { return Ok(None) };
    let (kind, reduction) = match settings.text("distill_loss_type") {
        None | Some("soft") => (DistillationKind::Soft, Reduction::Mean),
        Some("soft-b") => (DistillationKind::SoftCrossEntropy, Reduction::BatchMean),
        Some("hard") => (DistillationKind::Hard, Reduction::BatchMean),
        Some(other) => {
            return Err(unusable("distill_loss_type", other, "soft, soft-b or hard"));
        }
    };
    let temperature = settings.number("distill_loss_temperature")?.unwrap_or(5.0);
    Ok(Some(DistillationRecipe {
        teacher: teacher.to_owned(),
        teacher_key: None,
        teacher_map: None,
        model: None,
        kind,
        weight: settings.number("distill_loss_alpha")?.unwrap_or(0.1),
        temperature: match kind {
            DistillationKind::Soft | DistillationKind::SoftCrossEntropy => temperature,
            DistillationKind::Hard | DistillationKind::Feature => DistillationRecipe::TEMPERATURE,
        },
        reduction,
    }))
}

fn precision(settings: &mut Settings) -> Result<Option<PrecisionRecipe>, TrainError> {
    let half = settings.has("fp16");
    match settings.text("opt_level") {
        None | Some("O0") => {
            if half {
                let why = "no effect: --opt_level is O0, which is 32 bits";
                settings.has_no_effect("fp16", why);
            }
            Ok(None)
        }
        Some("O1" | "O2" | "O3") => Ok(half.then_some(PrecisionRecipe::F16)),
        Some(other) => Err(unusable("opt_level", other, "O0, O1, O2 or O3")),
    }
}

fn quantizer(error: QuantizerError) -> TrainError {
    TrainError::from(quant_nn::NetworkError::from(error))
}

/// Replaces the characters that the folder of a run cannot have in its name.
fn file_name(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = text.chars().map(safe).collect();
    let name = name.trim_start_matches('.').to_owned();
    if name.is_empty() { "imported".to_owned() } else { name }
}
