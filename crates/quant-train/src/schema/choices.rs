//! The names that the choices of other crates have in a recipe, as serde knows them.

use std::{borrow::Cow, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor, value::Error},
    forward_to_deserialize_any,
};
use serde_json::{Value, json};

/// The largest number that a choice can have, such as a number of groups.
const LARGEST: u32 = 1 << 24;

/// Stands for a choice `T` where fields are documented. It lists the name of each possibility. A
/// possibility with a number is a table of the name and the number.
pub(crate) struct Choice<T>(PhantomData<T>);

impl<T: DeserializeOwned> JsonSchema for Choice<T> {
    fn schema_name() -> Cow<'static, str> {
        "Choice".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |name: &&'static str| {
            if brings_a_value::<T>(name) {
                let value = json!({ "type": "integer", "minimum": 1, "maximum": LARGEST });
                json!({ "type": "object", "properties": { *name: value }, "required": [name] })
            } else {
                json!({ "const": name })
            }
        };
        let possibilities: Vec<Value> = names::<T>().iter().map(one).collect();
        json_schema!({ "oneOf": possibilities })
    }
}

/// Steps of augmentation. Each is a name, or a table of a name and its numbers.
pub(crate) struct Steps;

impl JsonSchema for Steps {
    fn schema_name() -> Cow<'static, str> {
        "Steps".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Sizes in pixels are the largest of these numbers. An image with a side of 8192 pixels
        // takes 200 MB.
        let number = json!({ "type": "number", "minimum": 0, "maximum": 8192 });
        let numbers = json!({ "anyOf": [number, { "type": "array", "items": number }] });
        let step = json!({ "type": "object", "additionalProperties": numbers });
        json_schema!({
            "type": "array",
            "items": { "anyOf": [
                { "type": "string" },
                { "type": "object", "additionalProperties": step },
            ] },
        })
    }
}

/// Returns the names of the fields of a struct, or of the possibilities of a choice.
pub(crate) fn names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    let _ = T::deserialize(Names(&mut found));
    found
}

/// Returns whether a possibility of a choice has a value.
fn brings_a_value<T: DeserializeOwned>(name: &'static str) -> bool {
    let mut brings = false;
    let _ = T::deserialize(Probe { name, brings: &mut brings });
    brings
}

fn done<T>() -> Result<T, Error> {
    Err(de::Error::custom("only looking"))
}

/// A deserializer that records the names that it is asked for.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> de::Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        done()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = names;
        done()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = names;
        done()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// A deserializer that chooses one possibility and records whether a value is asked for with it.
struct Probe<'a> {
    name: &'static str,
    brings: &'a mut bool,
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, 'a> de::EnumAccess<'de> for Probe<'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let name: de::value::StrDeserializer<'_, Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Probe<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Error> {
        *self.brings = true;
        done()
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        *self.brings = true;
        done()
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.brings = true;
        done()
    }
}

#[cfg(test)]
mod tests {
    use quant_core::{Granularity, Role};
    use quant_data::dataset::shapes::ShapesConfig;

    use super::*;

    #[test]
    fn names_are_those_that_serde_reads() {
        assert_eq!(names::<Role>(), ["activation", "weight", "output"]);
        assert!(names::<ShapesConfig>().contains(&"train_per_class"));
    }

    #[test]
    fn what_brings_a_number_is_told_from_what_does_not() {
        let brings: Vec<_> = names::<Granularity>()
            .iter()
            .copied()
            .filter(|name| brings_a_value::<Granularity>(name))
            .collect();
        assert_eq!(brings, ["groups", "groups-of"]);
    }
}
