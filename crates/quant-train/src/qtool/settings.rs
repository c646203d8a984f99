//! The settings of a configuration: variables, and options with the same meaning.

use std::{collections::BTreeMap, str::FromStr};

use quant_core::qtool::QtoolOptions;
use quant_data::{Pipeline, Truncated};

use super::{
    config::ShellConfig,
    options::{self, CommandLine},
    outcome::{Outcome, unusable},
};
use crate::{
    error::TrainError,
    recipe::data::{DataKind, DataRecipe, FakeRecipe},
};

/// The variables that QTool's script passes to its program.
const VARIABLES: [&str; 11] = [
    "base",
    "case",
    "dataset",
    "delay",
    "epochs",
    "keyword",
    "model",
    "pretrained",
    "root",
    "train_batch",
    "val_batch",
];

/// The settings of a configuration, by the full names of the options.
pub(super) struct Settings {
    values: BTreeMap<String, String>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) warnings: Vec<String>,
}

impl Settings {
    pub(super) fn new(config: &ShellConfig) -> Result<Self, TrainError> {
        let line = CommandLine::parse(config.get("options").unwrap_or_default())?;
        let mut settings =
            Self { values: BTreeMap::new(), outcomes: Vec::new(), warnings: line.warnings };
        for (name, value) in &config.variables {
            match name.as_str() {
                "options" => {}
                _ if value.is_empty() => {}
                name if VARIABLES.contains(&name) => settings.take(name, value),
                name => {
                    let why = "no effect by itself: QTool's script passes it on only in `options`";
                    settings.outcome(name, value, why);
                }
            }
        }
        // On the command line of the reference, `options` comes after the variables, so its options
        // count.
        for (name, value) in &line.given {
            settings.take(name, value);
        }
        Ok(settings)
    }

    fn take(&mut self, name: &str, value: &str) {
        let full = options::full_name(name);
        if let Some(became) = options::became(full) {
            // An option that is given several times is reported once, with its last value.
            self.outcomes.retain(|outcome| outcome.setting != name);
            self.outcome(name, value, became);
            self.values.insert(full.to_owned(), value.to_owned());
        }
    }

    fn outcome(&mut self, name: &str, value: &str, became: &str) {
        let (setting, value, became) = (name.to_owned(), value.to_owned(), became.to_owned());
        self.outcomes.push(Outcome { setting, value, became });
    }

    /// Records that an option has no effect, and warns about it.
    pub(super) fn has_no_effect(&mut self, name: &str, why: &str) {
        self.warnings.push(format!("--{name}: {why}"));
        for outcome in self.outcomes.iter_mut().filter(|outcome| outcome.setting == name) {
            outcome.became = "no effect: see the warning".to_owned();
        }
    }

    /// Returns all options with their values, by their full names.
    pub(super) fn values(&self) -> BTreeMap<String, String> {
        self.values.clone()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the name of a file, unless it is `none`, ignoring capitals.
    pub(super) fn file(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|file| !file.eq_ignore_ascii_case("none"))
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, TrainError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().map(Some);
        number.map_err(|_| unusable(name, text, "a number"))
    }

    pub(super) fn batch_size(&self) -> Result<usize, TrainError> {
        Ok(self.number("batch_size")?.unwrap_or(256))
    }

    /// Returns a number of batches, which is given as such or as a number of epochs.
    pub(super) fn batches(&self, name: &str, in_epochs: &str) -> Result<usize, TrainError> {
        let batches = self.number(name)?.unwrap_or(0);
        let epochs: usize = self.number(in_epochs)?.unwrap_or(0);
        match (batches, epochs) {
            (0, 1..) => {
                let images = match self.kind()? {
                    DataKind::Cifar10 | DataKind::Cifar100 => 50_000,
                    DataKind::Fake => FakeRecipe::default().train,
                    _ => IMAGENET,
                };
                // The last batch of an epoch counts too, because it is kept.
                Ok(epochs.saturating_mul(images.div_ceil(self.batch_size()?.max(1))))
            }
            _ => Ok(batches),
        }
    }

    fn kind(&self) -> Result<DataKind, TrainError> {
        Ok(match self.text("dataset").unwrap_or("imagenet") {
            "imagenet" | "dali" => DataKind::ImageFolder,
            "cifar10" => DataKind::Cifar10,
            "cifar100" => DataKind::Cifar100,
            "fake" => DataKind::Fake,
            other => {
                let accepted = "imagenet, dali, cifar10, cifar100 or fake";
                return Err(unusable("dataset", other, accepted));
            }
        })
    }

    pub(super) fn data(&self) -> Result<DataRecipe, TrainError> {
        let kind = self.kind()?;
        let usual = match kind {
            DataKind::Cifar10 | DataKind::Cifar100 => 32,
            _ => 224,
        };
        let input_size = self.number("input_size")?.unwrap_or(usual);
        let color = self.has("aa") && kind == DataKind::ImageFolder;
        Ok(DataRecipe {
            // The reference lets Pillow fill in the missing part of truncated images.
            truncated: match kind {
                DataKind::ImageFolder => Truncated::Accept,
                _ => Truncated::default(),
            },
            mean: self.triple("mean")?,
            std: self.triple("std")?,
            train: color.then(|| Pipeline::imagenet_train_color(input_size)),
            eval_batch_size: self.number("val_batch_size")?.unwrap_or(50),
            workers: self.number("workers")?.unwrap_or(12),
            ..DataRecipe::new(kind, input_size)
        })
    }

    fn triple(&self, name: &str) -> Result<Option<[f64; 3]>, TrainError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let numbers: Option<Vec<f64>> = text.split(',').map(|x| x.trim().parse().ok()).collect();
        let triple = numbers.and_then(|numbers| <[f64; 3]>::try_from(numbers).ok());
        let accepted = "three numbers separated by commas";
        triple.map(Some).ok_or_else(|| unusable(name, text, accepted))
    }

    /// Records the keywords that describe the training.
    pub(super) fn note_words(&mut self, described: &QtoolOptions) {
        let words = [
            ("label-smooth", "phase.label_smoothing"),
            ("less_bn", "no effect: name the norms in phase.frozen_statistics"),
            ("proxquant", "no effect: see phase.quantization.proximal"),
        ];
        for (word, became) in words {
            if described.keyword(word) {
                self.outcome("keyword", word, became);
            }
        }
    }
}

/// The number of training images of ImageNet (ILSVRC 2012).
const IMAGENET: usize = 1_281_167;
