//! The page of all fields of a recipe, `docs/recipe-fields.md`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schema;
use crate::{
    output::wrapped,
    schema::{
        check::joined,
        node::{SchemaNode, is_a, is_required},
    },
};

/// A field with the texts that the page shows.
#[derive(PartialEq)]
struct Row {
    name: String,
    takes: String,
    default: String,
    about: String,
}

/// Returns the page, which has a table for each table of a recipe.
pub fn guide() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut shown = BTreeSet::new();
    section(&mut page, "", "The recipe", schema(), &mut shown);
    page
}

/// Writes the section of the table at `path`, and the sections of the tables below it that have not
/// been shown yet.
fn section(
    page: &mut String,
    path: &str,
    title: &str,
    table: &'static Value,
    shown: &mut BTreeSet<&'static str>,
) {
    *page += &format!("\n## {title}\n\n");
    if let Some(about) = table.get("description") {
        *page += &format!("{}\n\n", wrapped(&sentence(about)));
    }
    if is_told_apart(table) {
        kinds(table).for_each(|kind| subsection(page, title, kind));
    } else {
        list(page, rows(table));
    }
    for (name, field) in properties(table) {
        let Some((type_name, below)) = referred(field) else { continue };
        if !is_table(below) || !shown.insert(type_name) {
            continue;
        }
        let path = joined(path, name);
        let title = if field.get("items").is_some() {
            format!("`[[{path}]]`")
        } else {
            format!("`[{path}]`")
        };
        section(page, &path, &title, below, shown);
    }
}

/// Writes the fields of one of the kinds that a table can be of, where each kind has its own
/// fields.
fn subsection(page: &mut String, title: &str, table: &'static Value) {
    let named = properties(table).find_map(|(name, field)| Some((name, field.get("const")?)));
    let with = match named {
        Some((name, value)) if is_required(table, name) => format!("`{name} = {value}`"),
        Some((name, value)) => format!("`{name} = {value}`, which may be left out"),
        None => {
            let mut names = properties(table).map(|(name, _)| name);
            let first = names.find(|name| is_required(table, name));
            format!("`{}`", first.unwrap_or_default())
        }
    };
    let about = table.get("description").map(sentence).unwrap_or_default();
    *page += &format!("\n### {title} with {with}\n\n{}\n\n", wrapped(&about));
    let fields = rows(table);
    if fields.is_empty() {
        *page += "It has no other fields.\n";
    } else {
        list(page, fields);
    }
}

fn list(page: &mut String, rows: Vec<Row>) {
    *page +=
        "| field | takes | by default | what it is, and when to change it |\n|---|---|---|---|\n";
    for Row { name, takes, default, about } in rows {
        *page += &format!("| {name} | {takes} | {default} | {about} |\n");
    }
}

/// Returns the kinds that a table can be of.
fn kinds(table: &'static Value) -> impl Iterator<Item = &'static Value> {
    table.get("oneOf").and_then(Value::as_array).into_iter().flatten()
}

/// Returns whether the kinds of a table have so little in common that each kind gets its own list.
fn is_told_apart(table: &Value) -> bool {
    table.get("x-each-apart").is_some()
}

/// Returns the rows for the fields of a table, or of each kind that the table can be of.
fn rows(table: &'static Value) -> Vec<Row> {
    let kinds: Vec<_> = kinds(table).collect();
    let mut rows: Vec<Row> = kinds.iter().filter_map(|table| kind(table)).collect();
    for table in std::iter::once(table).chain(kinds) {
        let fields = table.get("properties").and_then(Value::as_object).into_iter().flatten();
        for (name, field) in fields.filter(|(_, field)| field.get("const").is_none()) {
            let row = Row {
                name: format!("`{name}`"),
                takes: escaped(&takes(field)),
                default: default(table, name, field),
                about: about(field),
            };
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    rows
}

/// Returns the row of one of the kinds that a table can be of: the value that selects it, and its
/// fields.
fn kind(table: &'static Value) -> Option<Row> {
    let (name, value) =
        properties(table).find_map(|(name, field)| Some((name, field.get("const")?)))?;
    let others = properties(table).filter(|(other, _)| *other != name);
    let others: Vec<_> = others.map(|(other, _)| format!("`{other}`")).collect();
    let takes =
        if others.is_empty() { String::new() } else { format!("with {}", others.join(", ")) };
    let about = table.get("description").map(sentence).unwrap_or_default();
    let name = format!("`{name} = {value}`");
    Some(Row { name, takes, default: String::new(), about: escaped(&about) })
}

fn properties(table: &'static Value) -> impl Iterator<Item = (&'static str, &'static Value)> {
    let tables = std::iter::once(table).chain(kinds(table));
    let properties = tables.filter_map(|table| table.get("properties")?.as_object());
    properties.flat_map(|properties| properties.iter().map(|(name, field)| (name.as_str(), field)))
}

/// Returns the type that a field refers to, with its name. For a list it is the type of the items.
fn referred(field: &'static Value) -> Option<(&'static str, &'static Value)> {
    let kinds = field.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let places = std::iter::once(field).chain(field.get("items")).chain(kinds);
    let path = places.filter_map(|place| place.get("$ref")?.as_str()).next()?;
    let name = path.rsplit('/').next()?;
    Some((name, schema().pointer(path.trim_start_matches('#'))?))
}

/// Returns whether a type is a table with fields, not a choice.
fn is_table(node: &Value) -> bool {
    let named = |kind: &Value| {
        let properties = kind.get("properties").and_then(Value::as_object);
        properties.is_some_and(|all| all.values().any(|field| field.get("const").is_some()))
    };
    match node.get("oneOf").and_then(Value::as_array) {
        Some(kinds) => is_told_apart(node) || kinds.iter().all(named),
        None => is_a(node, "object"),
    }
}

fn takes(field: &'static Value) -> String {
    match (referred(field), field.get("items").is_some()) {
        (Some((_, below)), false) if is_table(below) && below.get("x-example").is_none() => {
            "a table".into()
        }
        (Some((_, below)), true) if is_table(below) => "a list of tables".into(),
        _ => SchemaNode::at(schema(), field).takes(),
    }
}

fn default(table: &Value, name: &str, field: &'static Value) -> String {
    if is_required(table, name) {
        return "required".into();
    }
    match field.get("default") {
        None | Some(Value::Null) => "none".into(),
        Some(Value::Object(_))
            if referred(field).is_some_and(|(_, t)| t.get("oneOf").is_none()) =>
        {
            "as its fields say".into()
        }
        Some(value) => match toml::Value::try_from(value) {
            Ok(value) => format!("`{value}`"),
            Err(_) => "none".into(),
        },
    }
}

/// Returns what a field is for. For a choice, the text includes its possibilities.
fn about(field: &'static Value) -> String {
    let mut text = field.get("description").map(sentence).unwrap_or_default();
    if let Some((_, below)) = referred(field).filter(|(_, below)| !is_table(below)) {
        for kind in below.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
            if let Some(about) = kind.get("description") {
                text +=
                    &format!(" {}: {}", SchemaNode::at(schema(), kind).takes(), sentence(about));
            }
        }
    }
    escaped(&text)
}

/// Returns documentation as one line, without the links that only rustdoc understands.
fn sentence(text: &Value) -> String {
    let words = text.as_str().unwrap_or_default().split_whitespace();
    words.collect::<Vec<_>>().join(" ").replace("[`", "`").replace("`]", "`")
}

/// Returns text for the cell of a table.
fn escaped(text: &str) -> String {
    let parts = text.split('`').enumerate();
    // Every second part is code, which is shown as it is.
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => part.replace('<', "&lt;"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`").replace('|', "\\|")
}

const INTRODUCTION: &str = "# The fields of a recipe

This page lists every field, the values that it takes, its default, and when to change it.
[recipes.md](recipes.md) shows a recipe of ten lines and explains how it can be extended.
[training.md](training.md) explains phases. [quantizers.md](quantizers.md) explains the methods and
the options that each method has.

`--set` changes a field of a recipe for one run: `--set data.workers=2`, `--set phase.epochs=3` for
every phase, `--set phase.<name>.epochs=3` for the phase of that name. `quant recipe show <recipe>`
prints a recipe with every default. Numbers outside their bounds, fields that do not exist and
values of a wrong type give an error that names the field.

`quant recipe fields` writes this page from the types that recipes are read into. A test compares
the page with them.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::node::bound;

    fn undocumented(path: &str, table: &'static Value, found: &mut Vec<String>) {
        for (name, field) in properties(table).filter(|(_, field)| field.get("const").is_none()) {
            let path = joined(path, name);
            if about(field).trim().is_empty() {
                found.push(path.clone());
            }
            if let Some((_, below)) = referred(field).filter(|(_, below)| is_table(below)) {
                undocumented(&path, below, found);
            }
        }
    }

    #[test]
    fn every_field_is_documented() {
        let mut found = Vec::new();
        undocumented("", schema(), &mut found);
        assert!(found.is_empty(), "document {found:?}");
    }

    /// A field without a default says in words what happens where it is left out.
    #[test]
    fn a_field_without_a_default_says_what_its_absence_means() {
        let phase = schema().pointer("/$defs/Phase").unwrap();
        for (name, field) in properties(phase) {
            let says = about(field).contains("y default") || about(field).contains("Without");
            assert!(default(phase, name, field) != "none" || says, "phase.{name}");
        }
    }

    #[test]
    fn what_was_nowhere_is_explained() {
        let page = guide();
        for field in [
            "first_last",
            "real_downsample",
            "calibration_batches",
            "scale_batch_size",
            "keep_at_steps",
            "prefetch",
            "workers",
        ] {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{field}` |")));
            assert!(row.is_some_and(|row| row.len() > 100), "{field}: {row:?}");
        }
        assert!(page.contains("The first and the last layer stay in 32 bits"));
    }

    /// The possibilities of a choice are listed with the field that takes it.
    #[test]
    fn tables_and_choices_are_told_apart() {
        let place = |path: &str| schema().pointer(&format!("/$defs/{path}")).unwrap();
        assert!(is_table(place("Schedule")) && is_table(place("Phase")));
        assert!(!is_table(place("CalibrationRecipe")) && !is_table(place("Trigger")));
    }

    /// Collects every number below a schema, with its path.
    fn numbers(place: &SchemaNode, path: &str, found: &mut Vec<(String, &'static Value)>) {
        let own =
            place.possibilities.iter().filter(|node| is_a(node, "integer") || is_a(node, "number"));
        found.extend(own.map(|node| (path.to_owned(), *node)));
        if let Some(items) = place.items() {
            numbers(&items, path, found);
        }
        for name in place.names() {
            if let Some(field) = place.field(name) {
                numbers(&field, &joined(path, name), found);
            }
        }
    }

    #[test]
    fn every_whole_number_of_a_recipe_has_bounds() {
        let mut found = Vec::new();
        numbers(&SchemaNode::new(schema()), "", &mut found);
        assert!(found.len() > 60, "{}", found.len());
        for (path, node) in found.iter().filter(|(_, node)| is_a(node, "integer")) {
            let bounded = bound(node, "minimum").is_some() && bound(node, "maximum").is_some();
            assert!(bounded, "{path}: give it #[schemars(range(min = .., max = ..))]");
        }
    }

    #[test]
    fn what_a_field_takes_is_said_in_words() {
        let takes = |path: &str| {
            let place = path
                .split('.')
                .try_fold(SchemaNode::new(schema()), |place, name| place.field(name));
            place.unwrap().takes()
        };
        assert_eq!(takes("phase.epochs"), "a whole number from 1 to 1,000,000");
        assert_eq!(takes("phase.learning_rate"), "a number above 0");
        assert_eq!(takes("phase.label_smoothing"), "a number from 0 to below 1");
        assert_eq!(takes("phase.last_batch"), "\"drop\" or \"keep\"");
        assert_eq!(takes("phase.fresh_classifier"), "true or false");
        assert_eq!(takes("phase.init"), "text");
        assert_eq!(
            takes("phase.quantization.weight.granularity"),
            "\"per-tensor\", \"per-channel\", { groups = <whole number> } or { groups-of = <whole \
             number> }"
        );
    }
}
