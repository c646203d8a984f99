//! The structure of a network in a recipe. It has the fields of the typed configurations in
//! `quant_nn`.

use std::{borrow::Cow, sync::OnceLock};

use quant_nn::{
    NetworkConfig, Quantization, ResNetConfig,
    mobilenet::{MobileNetV1Config, MobileNetV2Config},
    nin::NinConfig,
    vgg_small::VggSmallConfig,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap},
};
use serde_json::Value;
use toml::Table;

use crate::schema::{check::check_values, choices::names, node::SchemaNode};

/// A network without the values that come from the data and the phases: the number of classes, the
/// side of the images, and the quantizers.
#[derive(Debug, Clone, PartialEq)]
pub struct Structure(Box<NetworkConfig>);

/// The field that selects the architecture, and its value where it is left out.
const ARCHITECTURE: (&str, &str) = ("architecture", "resnet");

/// The fields of configurations that structures do not have, each with the place where the recipe
/// has the value.
const SAID_ELSEWHERE: [(&str, &str); 3] = [
    ("classes", "the data determine the number of classes"),
    ("input_size", "`data.input_size` has this value"),
    ("quantization", "`[phase.quantization]` describes it for each phase"),
];

impl From<NetworkConfig> for Structure {
    /// Returns the structure of a network, without its classes, input size and quantizers.
    fn from(mut config: NetworkConfig) -> Self {
        // Classes and input size get fixed values, so that equal structures are equal values.
        config.set_data(1, 1);
        *config.quantization_mut() = Quantization::default();
        Self(Box::new(config))
    }
}

impl Structure {
    /// Returns the network with this structure for this number of classes and for images with a
    /// side of `size` pixels.
    pub fn network(
        &self,
        quantization: Quantization,
        classes: usize,
        size: usize,
    ) -> NetworkConfig {
        let mut config = NetworkConfig::clone(&self.0);
        config.set_data(classes, size);
        *config.quantization_mut() = quantization;
        config
    }

    /// Reads the fields of `[model]`.
    ///
    /// # Errors
    /// A message, for fields that the structure does not have and for values that its fields do not
    /// take.
    pub(super) fn read(mut table: Table) -> Result<Self, String> {
        let (architecture, usual) = ARCHITECTURE;
        table.entry(architecture).or_insert_with(|| usual.into());
        for (field, place) in SAID_ELSEWHERE {
            if table.contains_key(field) {
                return Err(format!("[model] has no field `{field}`: {place}"));
            }
        }
        check_fields(&table)?;
        table.extend(["classes", "input_size"].map(|field| (field.to_owned(), 1.into())));
        table.try_into::<NetworkConfig>().map(Self::from).map_err(|error| error.to_string())
    }

    /// Returns the names of the structure's fields, in the order of their types.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        let own = match *self.0 {
            NetworkConfig::ResNet(_) => names::<ResNetConfig>(),
            NetworkConfig::MobilenetV1(_) => names::<MobileNetV1Config>(),
            NetworkConfig::MobilenetV2(_) => names::<MobileNetV2Config>(),
            NetworkConfig::VggSmall(_) => names::<VggSmallConfig>(),
            NetworkConfig::Nin(_) => names::<NinConfig>(),
        };
        let elsewhere = |name: &str| SAID_ELSEWHERE.iter().any(|(other, _)| *other == name);
        let own = own.iter().copied().filter(move |name| !elsewhere(name));
        std::iter::once(ARCHITECTURE.0).chain(own)
    }
}

/// Returns the schema of structures: their fields, with the values that each takes.
fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| schemars::schema_for!(Structure).to_value())
}

/// Checks that a table has the fields that its architecture needs, that it has no unknown fields,
/// and that the fields take their values.
fn check_fields(table: &Table) -> Result<(), String> {
    let structures = SchemaNode::new(schema());
    let of_this_kind = structures.narrowed(table).with_field(ARCHITECTURE.0);
    let known = of_this_kind.names();
    // An unknown architecture is reported later, in a message that lists the known ones.
    let unknown = table.keys().find(|name| !known.contains(&name.as_str()));
    if let (Some(unknown), false) = (unknown, known.is_empty()) {
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        return Err(format!("unknown field `{unknown}`, expected one of {}", known.join(", ")));
    }
    if let Some(field) = missing(&of_this_kind, table) {
        // The fields that every structure needs are those of residual networks.
        let needs = if field.contains('.') {
            ""
        } else {
            ": [model] takes a `depth` and a `stem`, or another `architecture`, or a `name` \
             with QTool's keywords"
        };
        return Err(format!("missing field `{field}`{needs}"));
    }
    check_values(table, &of_this_kind, "model")
        .map_err(|error| error.to_string().trim_start_matches("recipe: ").to_owned())
}

/// Returns the path of a required field that is missing in the table or in a table below it.
fn missing(place: &SchemaNode, table: &Table) -> Option<String> {
    let needed = place.required().into_iter().find(|name| !table.contains_key(*name));
    let below = || {
        table.iter().find_map(|(name, value)| {
            let missing = missing(&place.field(name)?, value.as_table()?)?;
            Some(format!("{name}.{missing}"))
        })
    };
    needed.map(str::to_owned).or_else(below)
}

impl Serialize for Structure {
    /// Writes every field with its value or default, in the order of the fields.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = Table::try_from(&self.0).map_err(S::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        for name in self.names() {
            if let Some(value) = table.remove(name) {
                map.serialize_entry(name, &value)?;
            }
        }
        map.end()
    }
}

impl JsonSchema for Structure {
    fn schema_name() -> Cow<'static, str> {
        "Structure".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// Returns the schema of [`NetworkConfig`], in which the default architecture need not be
    /// named.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = NetworkConfig::json_schema(generator);
        let (field, usual) = ARCHITECTURE;
        let kinds = schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten();
        for kind in kinds.filter(|kind| kind["properties"][field]["const"] == usual) {
            if let Some(required) = kind.get_mut("required").and_then(Value::as_array_mut) {
                required.retain(|name| name != field);
            }
        }
        schema
    }
}
