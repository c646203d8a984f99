//! The part of a recipe that describes the network.

use std::borrow::Cow;

use quant_core::qtool::QtoolOptions;
use quant_nn::{
    FirstLast, NetworkConfig, Quantization,
    keywords::{Explained, Registry},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;
use toml::Table;

use super::{quantization::QuantizationRecipe, structure::Structure};
use crate::error::TrainError;

/// The network of a recipe, without its classes, its input size and its quantizers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ModelRecipe {
    /// The network is described field by field.
    Typed(Structure),
    /// The network is described by QTool's keywords.
    Keywords(KeywordModel),
    /// The network is made by the program.
    Own(OwnModel),
}

/// A model that QTool's keywords describe. `quant explain` prints what the keywords do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeywordModel {
    /// The model, such as `resnet20` or `mobilenetv1`. Use it for models that you have from QTool.
    /// Every structure that keywords describe can also be written field by field.
    pub name: String,
    /// The keywords of the model, such as `cifar10,origin,cbsa,fix`. By default there are none.
    pub keywords: Option<String>,
    /// The options of the model, such as `--base 3 --stem_kernel 1`. By default there are none.
    pub options: Option<String>,
}

/// A network that your own program makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnModel {
    /// The name of the network, for a program that makes it (`Run::execute_own`). It is given
    /// instead of all other fields. `quant` itself cannot train such a network.
    pub own: String,
}

/// The ways in which a network can be described, for errors where a part is missing or two ways are
/// mixed.
const WAYS: &str = "either depth, stem and the other fields of a structure, or name, keywords and \
                    options, or own";

impl<'de> Deserialize<'de> for ModelRecipe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Table::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for ModelRecipe {
    fn schema_name() -> Cow<'static, str> {
        "ModelRecipe".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let structures = Structure::json_schema(generator);
        let structures = structures.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let mut kinds: Vec<Value> = structures.cloned().collect();
        kinds.push(KeywordModel::json_schema(generator).to_value());
        kinds.push(OwnModel::json_schema(generator).to_value());
        json_schema!({ "description": ABOUT, "oneOf": kinds, "x-each-apart": true })
    }
}

/// The description of `[model]` on the page of fields.
const ABOUT: &str = "The network, without its classes, which the data determine, and its \
    quantizers, which the phases describe. It is described in one of three ways: field by field, \
    with a `depth` and a `stem` for residual networks and with an `architecture` for others; by a \
    `name` with QTool's `keywords` and `options`; or by `own`, for a network that a program makes. \
    `quant recipe show --typed` converts a description by keywords to one by fields.";

impl ModelRecipe {
    /// Reads the fields of `[model]`.
    fn read(table: Table) -> Result<Self, String> {
        let has = |names: &[&str]| names.iter().any(|name| table.contains_key(*name));
        let (own, keywords) = (has(&["own"]), has(&["name", "keywords", "options"]));
        if !own && !keywords {
            return Structure::read(table).map(Self::Typed);
        }
        let of_one_way = table.keys().all(|name| {
            if own {
                name == "own"
            } else {
                ["name", "keywords", "options"].contains(&name.as_str())
            }
        });
        if own && !of_one_way {
            return Err("[model] takes `own` alone, without other fields: the program makes the \
                        network"
                .to_owned());
        }
        if !of_one_way {
            return Err(format!("fields of [model] that do not go together: it takes {WAYS}"));
        }
        let read = if own {
            table.try_into().map(Self::Own)
        } else {
            table.try_into().map(Self::Keywords)
        };
        read.map_err(|error| error.to_string())
    }

    /// Returns the name of the network, where a program makes it.
    pub fn own(&self) -> Option<&str> {
        match self {
            Self::Own(model) => Some(&model.own),
            _ => None,
        }
    }

    /// Returns the network, with quantizers, for images with a side of `size` pixels.
    ///
    /// # Errors
    /// [`TrainError::Field`] for a network that a program makes, and for keywords that describe
    /// quantizers; the errors of keywords and quantizers.
    pub fn network(
        &self,
        quantization: Option<&QuantizationRecipe>,
        classes: usize,
        size: usize,
    ) -> Result<NetworkConfig, TrainError> {
        let quantized = quantization.is_some();
        let quantization = quantization.map(QuantizationRecipe::typed).transpose()?;
        let mut quantization = quantization.unwrap_or_default();
        let structure = match self {
            Self::Typed(structure) => Cow::Borrowed(structure),
            Self::Keywords(model) => {
                let read = model.read()?;
                if quantized {
                    read.layers.add_to(&mut quantization);
                }
                Cow::Owned(read.structure)
            }
            Self::Own(model) => {
                return Err(TrainError::Field {
                    field: "model.own".into(),
                    value: model.own.clone(),
                    accepted: "a run in the program that makes this network, instead of `quant`",
                });
            }
        };
        Ok(structure.network(quantization, classes, size))
    }
}

/// The network that keywords describe.
pub(super) struct Described {
    pub(super) structure: Structure,
    pub(super) layers: QuantizedLayers,
    /// The keywords that do not change the structure, each with what it is about.
    pub(super) idle: Vec<String>,
}

/// The quantization of layers as keywords describe it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct QuantizedLayers {
    first_last: FirstLast,
    real_downsample: bool,
    padding_after_quant: bool,
}

impl QuantizedLayers {
    fn add_to(self, quantization: &mut Quantization) {
        quantization.first_last = quantization.first_last.or(self.first_last);
        quantization.real_downsample |= self.real_downsample;
        quantization.padding_after_quant |= self.padding_after_quant;
    }

    /// Sets the same fields of a phase's quantization.
    pub(super) fn add_to_phase(self, quantization: &mut QuantizationRecipe) {
        quantization.first_last = quantization.first_last.or(self.first_last);
        quantization.real_downsample |= self.real_downsample;
        quantization.padding_after_quant |= self.padding_after_quant;
    }
}

impl KeywordModel {
    /// Reads the keywords and options.
    pub(super) fn read(&self) -> Result<Described, TrainError> {
        let words = self.keywords.as_deref().unwrap_or_default();
        let options = self.options.as_deref().unwrap_or_default();
        let qtool = QtoolOptions::parse(words, options).map_err(quant_nn::NetworkError::from)?;
        let Explained { config, warnings, .. } = Registry::default().read(&self.name, &qtool)?;
        let said = config.quantization();
        if said.activation.is_some() || said.weight.is_some() || said.output.is_some() {
            return Err(TrainError::Field {
                field: "model.options".into(),
                value: options.to_owned(),
                accepted: "no quantizers: they are described for a phase, in [phase.quantization]",
            });
        }
        let layers = QuantizedLayers {
            first_last: said.first_last,
            real_downsample: said.real_downsample,
            padding_after_quant: said.padding_after_quant,
        };
        let beside = qtool.keywords().filter_map(|word| {
            let what = quant_nn::keywords::beside_the_structure(word)?;
            Some(format!("{word}: {what}"))
        });
        let idle = beside.chain(warnings).collect();
        Ok(Described { structure: Structure::from(config), layers, idle })
    }
}
