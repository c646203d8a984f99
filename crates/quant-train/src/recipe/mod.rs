//! The recipe: one TOML file that describes one run.

pub mod data;
mod expected;
pub(crate) mod guide;
pub mod loss;
mod model;
pub mod phase;
pub mod policy;
pub mod quantization;
mod quantizer;
mod structure;
mod typed;

use std::{fs, path::Path, sync::OnceLock};

use quant_nn::NetworkConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{data::DataRecipe, phase::Phase};
use crate::{
    error::TrainError,
    schema::{change::change, check::check_numbers, node::SchemaNode, words::in_words},
};
pub use expected::{Expected, Published};
pub use model::{KeywordModel, ModelRecipe, OwnModel};
pub use structure::Structure;

/// A run: its data, its network, and its phases of training. Each phase starts from the weights of
/// the phase before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The name of the run. The folder of the run is `runs/<name>-001`, or has the next free
    /// number. It consists of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The seed of the initial weights, of the order of images and of augmentation. Equal seeds
    /// give equal runs. Change it to see how much a score depends on chance.
    #[serde(default = "seed")]
    #[schemars(range(min = 0, max = i64::MAX))]
    pub seed: u64,
    /// The accuracy that others report for this recipe, for `quant recipe list`. By default nothing
    /// is reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// The accuracy that our own runs have reached, for `quant recipe verify`. By default nothing
    /// is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// The data.
    pub data: DataRecipe,
    /// The network.
    pub model: ModelRecipe,
    /// The phases in their order. Usually the first is in full precision, and the next is
    /// quantized.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
}

fn seed() -> u64 {
    1
}

impl Recipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// [`TrainError::Io`]; [`TrainError::Recipe`] with the line and a suggestion;
    /// [`TrainError::Field`].
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = fs::read_to_string(path).map_err(TrainError::io(path))?;
        Self::parse(&text, path)
    }

    /// Reads a recipe from text. `path` is the path that error messages show.
    ///
    /// ```
    /// use quant_train::Recipe;
    ///
    /// let text = r#"
    ///     name = "small"
    ///     [data]
    ///     kind = "rendered"
    ///     input_size = 32
    ///     [model]
    ///     depth = "resnet20"
    ///     stem = "cifar"
    ///     [[phase]]
    ///     name = "quantized"
    ///     epochs = 5
    ///     batch_size = 32
    ///     learning_rate = 0.02
    ///     [phase.quantization]
    ///     weight = { method = "lsq", bits = 2 }
    /// "#;
    /// let recipe = Recipe::parse(text, "small.toml".as_ref())?;
    /// assert_eq!(recipe.phases[0].name, "quantized");
    /// let error = Recipe::parse(&text.replace("epochs", "epocs"), "small.toml".as_ref());
    /// assert!(error.unwrap_err().to_string().contains("did you mean `epochs`?"));
    /// # Ok::<(), quant_train::TrainError>(())
    /// ```
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, path: &Path) -> Result<Self, TrainError> {
        let unreadable = |error: toml::de::Error| {
            let message = format!("not a valid recipe: {}", in_words(&error.to_string()));
            TrainError::Recipe { path: path.to_owned(), message }
        };
        // Numbers are checked before the types are read, because the bounds of a number say more
        // than the error for a number that its type cannot hold.
        let table = toml::from_str(text);
        let table = table.map_err(|error| too_large(text, &error).unwrap_or(unreadable(error)))?;
        check_numbers(&table, &SchemaNode::new(schema()))?;
        let recipe: Self = toml::from_str(text).map_err(unreadable)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Reads a recipe from text and applies changes to it. Each change is `field=value`, where the
    /// field is a path with dots, and the value is TOML, or else text. `phase.x` changes the field
    /// x of every phase, and `phase.name.x` that of the phase with this name.
    ///
    /// ```
    /// use quant_train::Recipe;
    ///
    /// let text = r#"
    ///     name = "small"
    ///     [data]
    ///     kind = "rendered"
    ///     input_size = 32
    ///     [model]
    ///     depth = "resnet20"
    ///     stem = "cifar"
    ///     [[phase]]
    ///     name = "full_precision"
    ///     epochs = 5
    ///     batch_size = 32
    ///     learning_rate = 0.02
    /// "#;
    /// let changes = ["phase.epochs=2".to_owned()]; // as `--set` of `quant train`
    /// let recipe = Recipe::parse_with(text, "small.toml".as_ref(), &changes)?;
    /// assert_eq!(recipe.phases[0].epochs, 2);
    /// println!("{}", recipe.to_toml()?); // the recipe with every default
    /// # Ok::<(), quant_train::TrainError>(())
    /// ```
    ///
    /// [`Run::create`](crate::Run::create) starts a run with the recipe.
    ///
    /// # Errors
    /// The errors of [`parse`](Self::parse), and [`TrainError::Change`] for changes that are not
    /// possible.
    pub fn parse_with(text: &str, path: &Path, changes: &[String]) -> Result<Self, TrainError> {
        // The recipe without the changes is read first, so that errors in it are shown with its own
        // lines.
        let recipe = Self::parse(text, path)?;
        if changes.is_empty() {
            return Ok(recipe);
        }
        let read = |table: toml::Table| {
            let read: Result<Self, _> = table.try_into();
            let recipe = read.map_err(|error| in_words(&error.to_string()).replace('\n', "; "))?;
            recipe.validate().map_err(|error| error.to_string())?;
            Ok(recipe)
        };
        let table = toml::from_str(text).map_err(|error| TrainError::Recipe {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        change(&table, &SchemaNode::new(schema()), changes, read)
    }

    /// Returns the recipe as TOML, with every default written out.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] where TOML cannot express it.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string_pretty(self).map_err(|error| TrainError::Recipe {
            path: "<memory>".into(),
            message: error.to_string(),
        })
    }

    /// Checks everything that the types do not ensure: bounds of numbers, names, and fields that do
    /// not go together.
    ///
    /// # Errors
    /// [`TrainError::OutOfRange`] and [`TrainError::Field`] with the field, its value and what is
    /// accepted; the errors of the network.
    pub fn validate(&self) -> Result<(), TrainError> {
        let table = toml::Table::try_from(self).map_err(|error| TrainError::Recipe {
            path: "<memory>".into(),
            message: error.to_string(),
        })?;
        check_numbers(&table, &SchemaNode::new(schema()))?;
        let accepted = "letters, digits, -, _ and . (files are named after it)";
        TrainError::check_field(names_a_file(&self.name), "name", &self.name, accepted)?;
        self.expected.map_or(Ok(()), |expected| expected.tolerance().map(drop))?;
        TrainError::check_field(
            !self.phases.is_empty(),
            "phase",
            "none",
            "at least one [[phase]]",
        )?;
        self.data.validate()?;
        self.check_fits("data.eval_batch_size", self.data.eval_batch_size)?;
        for (index, phase) in self.phases.iter().enumerate() {
            let (name, field) = (&phase.name, format!("phase.{}.name", phase.name));
            TrainError::check_field(names_a_file(name), &field, name, accepted)?;
            let is = |other: &str| other.eq_ignore_ascii_case(name);
            let unique = !self.phases[..index].iter().any(|other| is(&other.name));
            TrainError::check_field(
                unique,
                &field,
                name,
                "a name that no other phase has, ignoring capitals",
            )?;
            let accepted = "another name: every run has a file or folder of this name";
            TrainError::check_field(
                !RUN_FILES.iter().any(|file| is(file)),
                &field,
                name,
                accepted,
            )?;
            phase.validate()?;
            self.check_fits(&format!("phase.{name}.batch_size"), phase.batch_size)?;
            if self.model.own().is_some() {
                let quantization = phase.quantization.as_ref().map(|recipe| recipe.typed());
                quantization.transpose().map_err(|error| error.of_phase(name))?;
                continue;
            }
            let valid = self.network(phase, 2)?.validate();
            valid.map_err(|error| TrainError::from(error).of_phase(name))?;
        }
        Ok(())
    }

    /// Refuses a batch that is too large as a whole although the number and the size of its images
    /// are within their bounds.
    fn check_fits(&self, field: &str, batch_size: usize) -> Result<(), TrainError> {
        let size = self.data.input_size;
        let values = batch_size.saturating_mul(3 * size * size);
        if values <= BATCH_VALUES {
            Ok(())
        } else {
            Err(TrainError::OutOfRange {
                field: field.to_owned(),
                value: batch_size.to_string(),
                takes: format!(
                    "at most {} images of {size} pixels (data.input_size): a larger batch would \
                     take more than 8 GiB",
                    BATCH_VALUES / (3 * size * size)
                ),
            })
        }
    }

    /// Returns the networks that a file of weights may be of, each with the name of its phase: the
    /// network of `phase`, or where that is `None` the networks of all phases, with the last phase
    /// first.
    ///
    /// # Errors
    /// [`TrainError::NoPhase`]; the errors of [`ModelRecipe::network`].
    pub fn candidates(
        &self,
        phase: Option<&str>,
        classes: usize,
    ) -> Result<Vec<(String, NetworkConfig)>, TrainError> {
        let wanted = self.phases.iter().rev().filter(|p| phase.is_none_or(|name| p.name == name));
        let candidates: Result<Vec<_>, TrainError> =
            wanted.map(|phase| Ok((phase.name.clone(), self.network(phase, classes)?))).collect();
        let candidates = candidates?;
        match (phase, candidates.is_empty()) {
            (Some(phase), true) => Err(TrainError::NoPhase {
                name: phase.to_owned(),
                phases: self.phases.iter().map(|phase| phase.name.clone()).collect(),
            }),
            _ => Ok(candidates),
        }
    }

    /// Returns the network of a phase.
    ///
    /// # Errors
    /// The errors of [`ModelRecipe::network`].
    pub fn network(&self, phase: &Phase, classes: usize) -> Result<NetworkConfig, TrainError> {
        let network =
            self.model.network(phase.quantization.as_ref(), classes, self.data.input_size);
        network.map_err(|error| error.of_phase(&phase.name))
    }
}

/// Returns the schema of recipes: their fields, with the values that each takes.
fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| schemars::schema_for!(Recipe).to_value())
}

/// The files and folders that every run has, in addition to the folders of its phases.
const RUN_FILES: [&str; 8] = [
    "recipe.toml",
    "run.json",
    "log.jsonl",
    "tensorboard",
    "summary.json",
    "report.html",
    "packed.qnet",
    "lock",
];

/// The largest number of values in the images of a batch: 8 GiB at 32 bits each.
const BATCH_VALUES: usize = 1 << 31;

fn names_a_file(name: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(safe)
}

/// Returns the error for a whole number that is too large for TOML. The error names the field and
/// its bounds.
fn too_large(text: &str, error: &toml::de::Error) -> Option<TrainError> {
    let span = error.span()?;
    let given = text.get(span.clone())?;
    let digits = given.trim_start_matches(['+', '-']);
    if digits.len() < 19 || !digits.chars().all(|c| c.is_ascii_digit() || c == '_') {
        return None;
    }
    let largest = i64::MAX.to_string();
    let table = format!("{}{largest}{}", text.get(..span.start)?, text.get(span.end..)?);
    match check_numbers(&toml::from_str(&table).ok()?, &SchemaNode::new(schema())) {
        Err(TrainError::OutOfRange { field, value, takes }) if value == largest => {
            Some(TrainError::OutOfRange { field, value: given.to_owned(), takes })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
