//! The options that belong to one quantization method alone, as recipes write them: beside the fields
//! that all methods have, under the names and with the documentation that the methods declare.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use quant_core::{Accepted, Method, OptionInfo, OptionValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value, json};

/// Options of a quantization method by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct MethodOptions(BTreeMap<String, OptionValue>);

impl MethodOptions {
    /// Those of a method that are not as by default.
    pub(crate) fn of(method: &Method) -> Self {
        let options = method.own_options();
        let unusual = |info: OptionInfo| {
            let value = options.get(info.name).filter(|value| *value != info.default)?;
            Some((info.name.to_owned(), value))
        };
        Self(options.list().into_iter().filter_map(unusual).collect())
    }

    /// Gives them to a method, or says which of them it does not have.
    pub(crate) fn give_to(&self, method: &mut Method) -> Result<(), String> {
        method.set_options(&self.0)
    }
}

impl<'de> Deserialize<'de> for MethodOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByName)
    }
}

struct ByName;

impl<'de> Visitor<'de> for ByName {
    type Value = MethodOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("options of a quantization method")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MethodOptions, A::Error> {
        let known: Vec<&str> = Method::all_options().iter().map(|option| option.name).collect();
        let mut options = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if !known.contains(&name.as_str()) {
                let fields = super::names_of::<crate::quantization::QuantizerRecipe>().join("`, `");
                let message = format!("unknown field `{name}`, expected one of `{fields}`");
                return Err(A::Error::custom(message));
            }
            options.insert(name, map.next_value()?);
        }
        Ok(MethodOptions(options))
    }
}

impl JsonSchema for MethodOptions {
    fn schema_name() -> Cow<'static, str> {
        "MethodOptions".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let options = Method::all_options().into_iter();
        let properties: Map<String, Value> =
            options.map(|option| (option.name.to_owned(), schema_of(&option))).collect();
        json_schema!({ "type": "object", "properties": properties })
    }
}

fn schema_of(option: &OptionInfo) -> Value {
    let mut schema = match option.accepted {
        Accepted::Flag => json!({ "type": "boolean" }),
        Accepted::Above(lowest) => json!({ "type": "number", "exclusiveMinimum": lowest }),
        Accepted::Within(lowest, highest) => {
            json!({ "type": "number", "minimum": lowest, "maximum": highest })
        }
        Accepted::Below(lowest, highest) => {
            json!({ "type": "number", "minimum": lowest, "exclusiveMaximum": highest })
        }
        Accepted::OneOf(names) => json!({ "enum": names }),
    };
    schema["description"] = option.description.as_str().into();
    schema
}

/// Stands for the name of a method where fields are documented.
pub(crate) struct MethodField;

impl JsonSchema for MethodField {
    fn schema_name() -> Cow<'static, str> {
        "MethodField".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": Method::names() })
    }
}
