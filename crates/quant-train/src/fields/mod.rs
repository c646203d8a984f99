//! The fields of a recipe: what each takes, its bounds, its default and what it is for, made from
//! the types and their documentation. Numbers of recipes are held to these bounds, changes of
//! fields (`--set`) are checked by them, and `quant recipe fields` prints them.

pub(crate) mod choices;
mod guide;
pub(crate) mod options;
mod set;
pub(crate) mod shadow;

use std::sync::OnceLock;

use serde_json::{Number, Value};

use crate::{error::TrainError, recipe::Recipe};
pub use guide::guide;
pub(crate) use set::{change, nearest};

/// What may stand at a place of a recipe: the schemas of all possibilities.
#[derive(Debug, Clone)]
pub(crate) struct Place(Vec<&'static Value>);

/// The schema of recipes.
fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| schemars::schema_for!(Recipe).to_value())
}

impl Place {
    /// The whole recipe.
    pub(crate) fn recipe() -> Self {
        Self::of(schema())
    }

    fn of(node: &'static Value) -> Self {
        let mut found = Vec::new();
        collect(node, &mut found);
        Self(found)
    }

    fn join(places: impl IntoIterator<Item = Self>) -> Option<Self> {
        let all: Vec<_> = places.into_iter().flat_map(|place| place.0).collect();
        (!all.is_empty()).then_some(Self(all))
    }

    /// The field of a name, of a table or of each table of a list.
    pub(crate) fn field(&self, name: &str) -> Option<Self> {
        let fields = self.tables().filter_map(|table| {
            let known = table.get("properties").and_then(|properties| properties.get(name));
            known.or_else(|| table.get("additionalProperties").filter(|node| node.is_object()))
        });
        Self::join(fields.map(Self::of))
    }

    /// The names of its fields.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let properties = self.tables().filter_map(|table| table.get("properties")?.as_object());
        let mut names: Vec<_> =
            properties.flat_map(|properties| properties.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names of the fields that a table of a single kind has to have.
    pub(crate) fn required(&self) -> Vec<&'static str> {
        let [table] = self.0.as_slice() else { return Vec::new() };
        let required = table.get("required").and_then(Value::as_array).into_iter().flatten();
        required.filter_map(Value::as_str).collect()
    }

    fn tables(&self) -> impl Iterator<Item = &'static Value> {
        let items = self.items().map(|items| items.0).unwrap_or_default();
        self.0.clone().into_iter().chain(items).filter(|node| is_a(node, "object"))
    }

    /// The items of a list.
    fn items(&self) -> Option<Self> {
        Self::join(self.0.iter().filter_map(|node| node.get("items")).map(Self::of))
    }

    /// Where a table can be one of several kinds, those that its texts allow.
    pub(crate) fn narrowed(&self, table: &toml::Table) -> Self {
        let allows = |node: &&&'static Value| {
            let Some(properties) = node.get("properties").and_then(Value::as_object) else {
                return true;
            };
            properties.iter().all(|(name, schema)| match (schema.get("const"), table.get(name)) {
                (Some(only), Some(given)) => only.as_str() == given.as_str(),
                (Some(_), None) => !is_required(node, name),
                _ => true,
            })
        };
        Self(self.0.iter().filter(allows).copied().collect())
    }

    /// Of the kinds that a table can be of, those with a field of a name.
    pub(crate) fn with_field(&self, name: &str) -> Self {
        let has = |node: &&&'static Value| {
            node.get("properties").is_some_and(|properties| properties.get(name).is_some())
        };
        Self(self.0.iter().filter(has).copied().collect())
    }

    /// Whether a number, text or truth value may stand here.
    fn accepts(&self, value: &toml::Value) -> bool {
        self.0.iter().any(|node| match value {
            toml::Value::Integer(number) => in_bounds(node, *number as f64),
            toml::Value::Float(number) => is_a(node, "number") && in_bounds(node, *number),
            toml::Value::Boolean(_) => is_a(node, "boolean"),
            toml::Value::String(text) => match texts(node).next() {
                Some(_) => texts(node).any(|known| known == text),
                None => is_a(node, "string"),
            },
            _ => true,
        })
    }

    /// The texts that it takes, where not every text will do.
    fn texts(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().flat_map(|node| texts(node))
    }

    /// What it takes, in words.
    pub(crate) fn takes(&self) -> String {
        let mut names: Vec<String> = self.texts().map(|text| format!("\"{text}\"")).collect();
        for node in self.0.iter().filter(|node| texts(node).next().is_none()) {
            let words = kind(node);
            if !words.is_empty() && !names.contains(&words) {
                names.push(words);
            }
        }
        match names.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => names.join(""),
        }
    }
}

/// The names of the fields of a type that recipes are read into.
pub(crate) fn names_of<T: schemars::JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T).to_value();
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// The texts that a schema lists.
fn texts(node: &'static Value) -> impl Iterator<Item = &'static str> {
    let listed = node.get("enum").and_then(Value::as_array).into_iter().flatten();
    node.get("const").into_iter().chain(listed).filter_map(Value::as_str)
}

/// A schema's possibilities, references followed.
fn collect(node: &'static Value, found: &mut Vec<&'static Value>) {
    let referred = node.get("$ref").and_then(Value::as_str);
    if let Some(target) = referred.and_then(|path| schema().pointer(path.trim_start_matches('#'))) {
        return collect(target, found);
    }
    let kinds = ["anyOf", "oneOf"].into_iter().filter_map(|key| node.get(key)?.as_array());
    let kinds: Vec<_> = kinds.flatten().collect();
    match kinds.is_empty() {
        true if is_only(node, "null") => {}
        true => found.push(node),
        false => kinds.into_iter().for_each(|kind| collect(kind, found)),
    }
}

fn is_a(node: &Value, kind: &str) -> bool {
    match node.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|other| other == kind),
        Some(other) => other == kind,
        None => false,
    }
}

/// Whether a table has to have the field of a name.
fn is_required(table: &Value, name: &str) -> bool {
    let required = table.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|other| other == name))
}

fn is_only(node: &Value, kind: &str) -> bool {
    node.get("type").is_some_and(|other| other == kind)
}

fn bound(node: &Value, name: &str) -> Option<f64> {
    node.get(name).and_then(Value::as_f64)
}

fn in_bounds(node: &Value, number: f64) -> bool {
    (is_a(node, "integer") || is_a(node, "number"))
        && number.is_finite()
        && bound(node, "minimum").is_none_or(|least| number >= least)
        && bound(node, "maximum").is_none_or(|most| number <= most)
        && bound(node, "exclusiveMinimum").is_none_or(|below| number > below)
        && bound(node, "exclusiveMaximum").is_none_or(|above| number < above)
}

/// What one possibility takes, in words.
fn kind(node: &'static Value) -> String {
    for (kind, words) in [("integer", "a whole number"), ("number", "a number")] {
        if is_a(node, kind) {
            return format!("{words}{}", range(node));
        }
    }
    if is_a(node, "array") {
        let each = node.get("items").map(|items| Place::of(items).takes()).unwrap_or_default();
        let list = match node.get("maxItems") {
            Some(length) => format!("a list of {length}"),
            None => "a list".into(),
        };
        return if each.is_empty() { list } else { format!("{list}, each {each}") };
    }
    let names = node.get("properties").and_then(Value::as_object);
    match (is_a(node, "string"), is_a(node, "boolean"), is_a(node, "object")) {
        (true, ..) => "text".into(),
        (_, true, _) => "true or false".into(),
        (.., true) => match names.into_iter().flatten().next() {
            // A possibility with a name and the number that it brings.
            Some((name, number))
                if names.is_some_and(|names| names.len() == 1)
                    && (is_a(number, "integer") || is_a(number, "number")) =>
            {
                let whole = if is_a(number, "integer") { "whole number" } else { "number" };
                format!("{{ {name} = <{whole}> }}")
            }
            _ => "a table".into(),
        },
        _ => String::new(),
    }
}

/// The bounds of a number, in words that follow "a number".
fn range(node: &Value) -> String {
    let get = |name| node.get(name).and_then(Value::as_number).map(written);
    let (from, above) = (get("minimum"), get("exclusiveMinimum"));
    match (from, above, get("maximum"), get("exclusiveMaximum")) {
        (_, Some(above), Some(to), _) => format!(" above {above}, up to {to}"),
        (_, Some(above), ..) => format!(" above {above}"),
        (Some(from), _, Some(to), _) => format!(" from {from} to {to}"),
        (Some(from), _, _, Some(below)) => format!(" from {from} to below {below}"),
        (Some(from), ..) => format!(" of at least {from}"),
        _ => String::new(),
    }
}

/// A number with its thousands set apart.
fn written(number: &Number) -> String {
    let whole = number.as_f64().filter(|number| number.fract() == 0.0);
    let digits = number.to_string().trim_end_matches(".0").to_owned();
    if whole.is_none_or(|number| number.abs() < 10_000.0) {
        return digits;
    }
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        let left = digits.len() - index;
        if index > 0 && left.is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Checks every number of a recipe, or of what is to become one.
///
/// # Errors
/// [`TrainError::OutOfRange`] with the field, its value and what it takes.
pub(crate) fn check_numbers(recipe: &toml::Table) -> Result<(), TrainError> {
    let recipe = toml::Value::Table(recipe.clone());
    check(&recipe, &Place::recipe(), "", &|value| value.is_integer() || value.is_float())
}

/// Checks every number, text and truth value below `place`, which is at `path` of a recipe.
///
/// # Errors
/// [`TrainError::OutOfRange`] with the field, its value and what it takes.
pub(crate) fn check_values(
    table: &toml::Table,
    place: &Place,
    path: &str,
) -> Result<(), TrainError> {
    check(&toml::Value::Table(table.clone()), place, path, &|_| true)
}

/// Checks the values below `place` that `wanted` picks.
fn check(
    value: &toml::Value,
    place: &Place,
    path: &str,
    wanted: &dyn Fn(&toml::Value) -> bool,
) -> Result<(), TrainError> {
    match value {
        toml::Value::Table(table) => {
            let place = place.narrowed(table);
            table.iter().try_for_each(|(name, value)| match place.field(name) {
                Some(field) => check(value, &field, &joined(path, name), wanted),
                // What is no field is told with its line.
                None => Ok(()),
            })
        }
        toml::Value::Array(items) => {
            let Some(place) = place.items() else { return Ok(()) };
            items.iter().enumerate().try_for_each(|(index, item)| {
                let name = item.get("name").and_then(toml::Value::as_str);
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

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every number below a schema, with its path.
    fn numbers(place: &Place, path: &str, found: &mut Vec<(String, &'static Value)>) {
        let own = place.0.iter().filter(|node| is_a(node, "integer") || is_a(node, "number"));
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
        numbers(&Place::recipe(), "", &mut found);
        assert!(found.len() > 60, "{}", found.len());
        for (path, node) in found.iter().filter(|(_, node)| is_a(node, "integer")) {
            let bounded = bound(node, "minimum").is_some() && bound(node, "maximum").is_some();
            assert!(bounded, "{path}: give it #[schemars(range(min = .., max = ..))]");
        }
    }

    #[test]
    fn what_a_field_takes_is_said_in_words() {
        let takes = |path: &str| {
            let place = path.split('.').try_fold(Place::recipe(), |place, name| place.field(name));
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

    #[test]
    fn numbers_are_written_with_their_thousands_apart() {
        let numbers = [json!(1), json!(4096), json!(65536), json!(0.25), json!(i64::MAX)];
        let texts = numbers.map(|number| written(number.as_number().unwrap()));
        assert_eq!(texts, ["1", "4096", "65,536", "0.25", "9,223,372,036,854,775,807"]);
    }
}
