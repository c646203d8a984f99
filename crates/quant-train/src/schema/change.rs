//! Changes of the fields of a recipe, as `--set field=value` gives them.

use toml::{Table, Value};

use super::{
    check::{check, joined},
    node::SchemaNode,
    words::nearest,
};
use crate::error::TrainError;

/// Applies the changes to the table and returns `read` of the result. `place` says which fields the
/// table has, and the table is valid without the changes. Error messages name a change as it was
/// typed, because the changed table is not in any file.
pub(crate) fn change<T>(
    table: &Table,
    place: &SchemaNode,
    changes: &[String],
    read: impl Fn(Table) -> Result<T, String>,
) -> Result<T, TrainError> {
    let with = |changes: &[&str]| read(changed(table, place, changes)?);
    let all: Vec<&str> = changes.iter().map(String::as_str).collect();
    let shown = |reason: String| reason.trim_start_matches("recipe: ").to_owned();
    with(&all).map_err(|reason| {
        let (changes, reason) = invalid_changes(&all, reason, with);
        TrainError::Change { changes: changes.join(" --set "), reason: shown(reason) }
    })
}

/// Returns the changes that make a recipe invalid, and the reason: a change without which the
/// recipe would be valid, or else the first change that is invalid alone, or else all changes
/// together. `with` reads the recipe with some of the changes.
fn invalid_changes<'a, T>(
    changes: &[&'a str],
    reason: String,
    with: impl Fn(&[&str]) -> Result<T, String>,
) -> (Vec<&'a str>, String) {
    if changes.len() == 1 {
        return (changes.to_vec(), reason);
    }
    for (index, change) in changes.iter().enumerate() {
        let others = [&changes[..index], &changes[index + 1..]].concat();
        if with(&others).is_ok() {
            return (vec![change], reason);
        }
    }
    let alone = changes.iter().find_map(|change| Some((*change, with(&[change]).err()?)));
    match alone {
        Some((change, reason)) => (vec![change], reason),
        None => (changes.to_vec(), reason),
    }
}

/// Returns the table with the changes, or the reason why they are not possible.
fn changed(table: &Table, place: &SchemaNode, changes: &[&str]) -> Result<Table, String> {
    let mut table = table.clone();
    for change in changes {
        let (field, new) = change.split_once('=').ok_or("expected field=value")?;
        let fields: Vec<&str> = field.trim().split('.').collect();
        put(&mut table, place, &fields, "", &value(new))?;
    }
    Ok(table)
}

/// Parses a value as TOML, or else takes it as text.
fn value(text: &str) -> Value {
    let table = toml::from_str::<Table>(&format!("v = {text}")).ok();
    let value = table.filter(|table| table.len() == 1).and_then(|mut table| table.remove("v"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Sets the field at a path below the table at `at`.
fn put(
    table: &mut Table,
    place: &SchemaNode,
    path: &[&str],
    at: &str,
    new: &Value,
) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    let Some(place) = place.field(first) else {
        return Err(no_field(place, at, first));
    };
    let at = joined(at, first);
    let Some(next) = rest.first() else {
        check(new, &place, &at, &|_| true).map_err(|error| error.to_string())?;
        table.insert((*first).to_owned(), new.clone());
        return Ok(());
    };
    match table.entry((*first).to_owned()).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(table) => put(table, &place, rest, &at, new),
        Value::Array(items) => {
            let names: Vec<String> = items.iter().filter_map(name).map(str::to_owned).collect();
            if let Some(index) = items.iter().position(|item| name(item) == Some(next)) {
                return match (items[index].as_table_mut(), rest.len()) {
                    (Some(item), 2..) => put(item, &place, &rest[1..], &joined(&at, next), new),
                    _ => Err(format!("{} is a phase: name one of its fields", joined(&at, next))),
                };
            }
            if place.field(next).is_none() {
                // The name of a phase is followed by the name of a field.
                return Err(if rest.len() > 1 && !names.is_empty() {
                    no_phase(&place, &names, next)
                } else {
                    no_field(&place, &at, next)
                });
            }
            let tables = items.iter_mut().filter_map(Value::as_table_mut);
            tables.into_iter().try_for_each(|item| put(item, &place, rest, &at, new))
        }
        _ => Err(format!("{at} has no fields: it takes {}", place.takes())),
    }
}

fn name(item: &Value) -> Option<&str> {
    item.get("name").and_then(Value::as_str)
}

fn no_field(place: &SchemaNode, at: &str, wanted: &str) -> String {
    let at = if at.is_empty() { "a recipe" } else { at };
    let names = place.names();
    match (nearest(wanted, names.iter().copied()), names.is_empty()) {
        (Some(near), _) => format!("{at} has no field `{wanted}`; did you mean `{near}`?"),
        (None, true) => format!("{at} has no fields: it takes {}", place.takes()),
        (None, false) => {
            format!("{at} has no field `{wanted}`; its fields are {}", names.join(", "))
        }
    }
}

fn no_phase(place: &SchemaNode, phases: &[String], wanted: &str) -> String {
    let names = phases.iter().map(String::as_str).chain(place.names());
    let near = nearest(wanted, names);
    format!(
        "no phase has the name `{wanted}`, and phases have no field of that name; the phases are \
         {}{}",
        phases.join(", "),
        near.map_or(String::new(), |near| format!("; did you mean `{near}`?"))
    )
}
