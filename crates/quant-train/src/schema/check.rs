//! Checks that values are within the bounds and among the names that their fields take.

use toml::{Table, Value};

use super::{node::SchemaNode, words::nearest};
use crate::error::TrainError;

/// Checks every number of a recipe, given as a table. `place` is the place of recipes.
///
/// # Errors
/// [`TrainError::OutOfRange`] with the field, its value and what it takes.
pub(crate) fn check_numbers(recipe: &Table, place: &SchemaNode) -> Result<(), TrainError> {
    let recipe = Value::Table(recipe.clone());
    check(&recipe, place, "", &|value| value.is_integer() || value.is_float())
}

/// Checks every number, text and truth value below `place`, whose path in a recipe is `path`.
///
/// # Errors
/// [`TrainError::OutOfRange`] with the field, its value and what it takes.
pub(crate) fn check_values(
    table: &Table,
    place: &SchemaNode,
    path: &str,
) -> Result<(), TrainError> {
    check(&Value::Table(table.clone()), place, path, &|_| true)
}

/// Checks those values below `place` that `wanted` selects.
pub(super) fn check(
    value: &Value,
    place: &SchemaNode,
    path: &str,
    wanted: &dyn Fn(&Value) -> bool,
) -> Result<(), TrainError> {
    match value {
        Value::Table(table) => {
            let place = place.narrowed(table);
            table.iter().try_for_each(|(name, value)| match place.field(name) {
                Some(field) => check(value, &field, &joined(path, name), wanted),
                // Unknown fields are reported later, with their lines.
                None => Ok(()),
            })
        }
        Value::Array(items) => {
            let Some(place) = place.items() else { return Ok(()) };
            items.iter().enumerate().try_for_each(|(index, item)| {
                let name = item.get("name").and_then(Value::as_str);
                let path = match name {
                    Some(name) => joined(path, name),
                    None if items.len() > 1 && item.is_table() => {
                        format!("{path} (number {})", index + 1)
                    }
                    None => path.to_owned(),
                };
                check(item, &place, &path, wanted)
            })
        }
        _ if !wanted(value) || place.accepts(value) => Ok(()),
        _ => {
            let near = value.as_str().and_then(|text| nearest(text, place.texts()));
            let near = near.map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
            Err(TrainError::OutOfRange {
                field: path.to_owned(),
                value: value.to_string(),
                takes: place.takes() + &near,
            })
        }
    }
}

/// Returns the path of a field of the table at `path`.
pub(crate) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
