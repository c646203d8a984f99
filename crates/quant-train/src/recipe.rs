//! The recipe: one TOML file describes one run.

use std::{fs, path::Path};

use quant_core::qtool::QtoolOptions;
use quant_nn::{
    NetworkConfig, Quantization, ResNetConfig,
    resnet::{Depth, DownsampleKind, Stem},
};
use serde::{Deserialize, Serialize};

use crate::{data::DataRecipe, error::TrainError, phase::Phase, quantization::QuantizationRecipe};

/// A run: data, network, and the phases of training, each of which starts from the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the run; its folder begins with it.
    pub name: String,
    /// Seed of weights, order and augmentation.
    #[serde(default = "seed")]
    pub seed: u64,
    /// What others report of this recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// What a run of ours gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// The data.
    pub data: DataRecipe,
    /// The network.
    pub model: ModelRecipe,
    /// The phases, in order: usually full precision, then quantized.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
}

/// A reported accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Top-1 in percent.
    pub top1: f64,
    /// Paper and table.
    pub source: String,
}

/// A measured accuracy, for `quant recipe verify`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Top-1 of the last phase's last network, in percent.
    pub top1: f64,
    /// By how much another run may differ.
    pub tolerance: f64,
}

/// The network, but for its classes, which the data tell, and its quantizers, which the phases do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// How many blocks of which kind, of a residual network in torchvision's order.
    pub depth: Option<Depth>,
    /// What stands before them.
    pub stem: Option<Stem>,
    /// The first stage has int(64·`width_alpha`) channels.
    #[serde(default = "one")]
    pub width_alpha: f64,
    /// The skip branch.
    #[serde(default)]
    pub downsample: DownsampleKind,
    /// Whether blocks start as identities.
    #[serde(default)]
    pub zero_init_residual: bool,
    /// Instead of all that: a model that keywords describe, such as `resnet20` or `mobilenetv1`.
    pub name: Option<String>,
    /// Its keywords, such as `cifar10,origin,cbsa,fix`.
    pub keywords: Option<String>,
    /// Its options, such as `--base 3 --stem_kernel 1`.
    pub options: Option<String>,
}

fn seed() -> u64 {
    1
}
fn one() -> f64 {
    1.0
}
impl Recipe {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// [`TrainError::Io`], [`TrainError::Recipe`] with line and suggestion, [`TrainError::Field`].
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = fs::read_to_string(path).map_err(TrainError::io(path))?;
        Self::parse(&text, path)
    }

    /// Reads a recipe from text; `path` stands in messages.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, path: &Path) -> Result<Self, TrainError> {
        let recipe: Self = toml::from_str(text).map_err(|error| {
            let message = error.to_string();
            let hint = suggestion(error.message())
                .map_or(String::new(), |known| format!("\ndid you mean `{known}`?"));
            let message = format!("not a valid recipe: {}{hint}", message.trim_end());
            TrainError::Recipe { path: path.to_owned(), message }
        })?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Reads a recipe from text with changes, each `field=value`: fields are joined by dots, and values are
    /// TOML, or text. `phase.x` changes x of every phase, `phase.name.x` of that of this name.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse), and [`TrainError::Recipe`] for a change that leads nowhere.
    pub fn parse_with(text: &str, path: &Path, changes: &[String]) -> Result<Self, TrainError> {
        if changes.is_empty() {
            return Self::parse(text, path);
        }
        // As it is it must be right, so that messages name its own lines.
        Self::parse(text, path)?;
        let fail = |message: String| TrainError::Recipe { path: path.to_owned(), message };
        let table: toml::Table = toml::from_str(text).map_err(|error| fail(error.to_string()))?;
        let mut value = toml::Value::Table(table);
        for change in changes {
            let unusable = || fail(format!("--set {change}: expected field=value"));
            let (field, new) = change.split_once('=').ok_or_else(unusable)?;
            let new = toml::from_str::<toml::Table>(&format!("v = {new}"))
                .ok()
                .and_then(|mut table| table.remove("v"))
                .unwrap_or_else(|| toml::Value::String(new.to_owned()));
            let fields: Vec<&str> = field.trim().split('.').collect();
            set(&mut value, &fields, &new)
                .map_err(|part| fail(format!("--set {change}: {part} is no table or phase")))?;
        }
        let text = toml::to_string(&value).map_err(|error| fail(error.to_string()))?;
        Self::parse(&text, path)
    }

    /// The recipe as TOML, every default written out.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] where TOML cannot express it.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string_pretty(self).map_err(|error| TrainError::Recipe {
            path: "<memory>".into(),
            message: error.to_string(),
        })
    }

    /// Checks what types leave open.
    ///
    /// # Errors
    /// [`TrainError::Field`] with field, value and range; the network's errors.
    pub fn validate(&self) -> Result<(), TrainError> {
        let check = |good: bool, field: &str, value: String, accepted| match good {
            true => Ok(()),
            false => Err(TrainError::Field { field: field.to_owned(), value, accepted }),
        };
        let file_name = |name: &str| {
            let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !name.is_empty() && !name.starts_with('.') && name.chars().all(safe)
        };
        let accepted = "letters, digits, -, _ and . (it names files)";
        check(file_name(&self.name), "name", format!("{:?}", self.name), accepted)?;
        check(!self.phases.is_empty(), "phase", "none".into(), "at least one [[phase]]")?;
        self.data.validate()?;
        for (index, phase) in self.phases.iter().enumerate() {
            let field = format!("phase {:?}: name", phase.name);
            check(file_name(&phase.name), &field, format!("{:?}", phase.name), accepted)?;
            let unique = self.phases[..index].iter().all(|other| other.name != phase.name);
            check(unique, &field, phase.name.clone(), "a name no other phase has")?;
            phase.validate()?;
            self.network(phase, 2)?.validate()?;
        }
        Ok(())
    }

    /// The networks that a file of weights may be of, with their phases' names: that of `phase`, or
    /// those of all phases, the last first.
    ///
    /// # Errors
    /// [`TrainError::NoPhase`], and those of [`ModelRecipe::network`].
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

    /// The network of a phase.
    ///
    /// # Errors
    /// Those of [`ModelRecipe::network`].
    pub fn network(&self, phase: &Phase, classes: usize) -> Result<NetworkConfig, TrainError> {
        self.model.network(phase.quantization.as_ref(), classes, self.data.input_size)
    }
}

impl ModelRecipe {
    /// The network, with quantizers, for images of `size` pixels a side.
    ///
    /// # Errors
    /// [`TrainError::Field`] where fields are missing or exclude each other, and the quantizers' errors.
    pub fn network(
        &self,
        quantization: Option<&QuantizationRecipe>,
        classes: usize,
        size: usize,
    ) -> Result<NetworkConfig, TrainError> {
        let quantization = quantization.map(QuantizationRecipe::typed).transpose();
        let quantization = quantization.map_err(quant_nn::NetworkError::from)?.unwrap_or_default();
        let field = |field: &str, accepted| TrainError::Field {
            field: format!("model.{field}"),
            value: "none".into(),
            accepted,
        };
        let typed = self.depth.is_some() || self.stem.is_some() || self.zero_init_residual;
        let typed = typed || self.width_alpha != 1.0 || self.downsample != Default::default();
        let described = self.keywords.is_some() || self.options.is_some();
        if typed && self.name.is_some() || described && self.name.is_none() {
            return Err(TrainError::Field {
                field: "model".into(),
                value: format!("{:?} and fields of the other kind", self.name),
                accepted: "either depth, stem, width_alpha, downsample and zero_init_residual, or name, \
                           keywords and options",
            });
        }
        if let Some(name) = &self.name {
            let words = self.keywords.as_deref().unwrap_or_default();
            let options = self.options.as_deref().unwrap_or_default();
            let qtool =
                QtoolOptions::parse(words, options).map_err(quant_nn::NetworkError::from)?;
            let mut config = quant_nn::keywords::network(name, &qtool)?;
            config.set_data(classes, size);
            let said = config.quantization().clone();
            if said.activation.is_some() || said.weight.is_some() || said.output.is_some() {
                return Err(TrainError::Field {
                    field: "model.options".into(),
                    value: options.to_owned(),
                    accepted: "no quantizers: they belong to a phase, in [phase.quantization]",
                });
            }
            *config.quantization_mut() = Quantization {
                first_last: quantization.first_last || said.first_last,
                real_downsample: quantization.real_downsample || said.real_downsample,
                padding_after_quant: quantization.padding_after_quant || said.padding_after_quant,
                ..quantization
            };
            return Ok(config);
        }
        let accepted = "a depth and a stem, or a name with keywords";
        let depth = self.depth.ok_or_else(|| field("depth", accepted))?;
        let stem = self.stem.ok_or_else(|| field("stem", accepted))?;
        Ok(NetworkConfig::ResNet(ResNetConfig {
            width_alpha: self.width_alpha,
            downsample: self.downsample,
            zero_init_residual: self.zero_init_residual,
            quantization,
            ..ResNetConfig::new(depth, stem, classes, size)
        }))
    }
}

/// Sets the field at a path; what stands in the way, where it is no table.
fn set(value: &mut toml::Value, path: &[&str], new: &toml::Value) -> Result<(), String> {
    let (Some((first, rest)), true) = (path.split_first(), value.is_table() || value.is_array())
    else {
        return Err(path.first().map_or(String::new(), |part| format!("what holds {part:?}")));
    };
    match value {
        toml::Value::Table(table) if rest.is_empty() => {
            table.insert((*first).to_owned(), new.clone());
            Ok(())
        }
        toml::Value::Table(table) => {
            let empty = || toml::Value::Table(toml::Table::new());
            set(table.entry((*first).to_owned()).or_insert_with(empty), rest, new)
        }
        toml::Value::Array(items) => {
            let name =
                |item: &toml::Value| item.get("name").and_then(toml::Value::as_str) == Some(first);
            if let (Some(item), false) = (items.iter_mut().find(|item| name(item)), rest.is_empty())
            {
                return set(item, rest, new);
            }
            items.iter_mut().try_for_each(|item| set(item, path, new))
        }
        _ => Ok(()),
    }
}

/// The known name nearest to the unknown one of serde's message.
fn suggestion(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("unknown ")?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let near = quoted.map(|known| (strsim::damerau_levenshtein(unknown, known), known));
    let (distance, known) = near.min()?;
    (distance <= 1 + unknown.len() / 3).then(|| known.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
        name = "test"
        [data]
        kind = "cifar10"
        input_size = 32
        [model]
        depth = "resnet20"
        stem = "cifar"
        width_alpha = 0.25
        [[phase]]
        name = "quantized"
        epochs = 2
        batch_size = 8
        learning_rate = 0.1
        schedule = { policy = "custom_step", steps = [1] }
        optimizer = { kind = "sgd", nesterov = true }
        [phase.quantization]
        activation = { method = "lsq", bits = 2 }
        weight = { method = "lsq", bits = 2, granularity = "per-channel" }
    "#;

    fn parse(text: &str) -> Result<Recipe, TrainError> {
        Recipe::parse(text, Path::new("test.toml"))
    }

    fn refusal(from: &str, to: &str) -> String {
        assert!(RECIPE.contains(from));
        parse(&RECIPE.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_out_reads_back() {
        let recipe = parse(RECIPE).unwrap();
        assert_eq!(parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
    }

    #[test]
    fn changes_reach_every_field() {
        let set = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            Recipe::parse_with(RECIPE, Path::new("test.toml"), &changes)
        };
        let recipe = set(&[
            "seed=7",
            "phase.learning_rate=0.5",
            "phase.quantized.quantization.weight.bits=4",
            "data.workers = 3",
            "name=other",
            "phase.schedule={ policy = 'fix' }",
        ])
        .unwrap();
        assert_eq!((recipe.seed, recipe.data.workers, recipe.name.as_str()), (7, 3, "other"));
        let phase = &recipe.phases[0];
        assert_eq!((phase.learning_rate, &phase.schedule), (0.5, &crate::schedule::Schedule::Fix));
        assert_eq!(phase.quantization.as_ref().unwrap().weight.as_ref().unwrap().bits, Some(4));
        for (change, part) in [
            ("seed", "field=value"),
            ("name.x=1", "no table"),
            ("phase.epocs=3", "did you mean `epochs`"),
        ] {
            let error = set(&[change]).unwrap_err().to_string();
            assert!(error.contains(part), "{change}: {error}");
        }
    }

    #[test]
    fn a_misspelt_field_is_refused_with_the_nearest_one() {
        let text = refusal("epochs = 2", "ephocs = 2");
        assert!(text.contains("did you mean `epochs`?") && text.contains("test.toml"), "{text}");
    }

    #[test]
    fn a_misspelt_choice_is_refused_with_the_nearest_one() {
        let text = refusal("method = \"lsq\", bits = 2 }", "method = \"lsg\", bits = 2 }");
        assert!(text.contains("did you mean `lsq`?"), "{text}");
    }

    #[test]
    fn numbers_out_of_range_name_their_field() {
        for (from, to, field) in [
            ("epochs = 2", "epochs = 0", "epochs"),
            ("learning_rate = 0.1", "learning_rate = -0.1", "learning_rate"),
            ("width_alpha = 0.25", "width_alpha = 0.001", "width_alpha"),
            ("input_size = 32", "input_size = 2", "input_size"),
            ("bits = 2 }", "bits = 9 }", "512 levels"),
            ("name = \"test\"", "name = \"../up\"", "name"),
        ] {
            let text = refusal(from, to);
            assert!(text.contains(field), "{to}: {text}");
        }
    }
}
