//! The values that are possible at a place of a recipe, according to the schemas of its types.

use serde_json::{Number, Value};

/// The values that are possible at a place of a recipe: the schemas of all possibilities.
#[derive(Debug, Clone)]
pub(crate) struct SchemaNode {
    /// The schema in which the references of the possibilities are resolved.
    schema: &'static Value,
    pub(crate) possibilities: Vec<&'static Value>,
}

impl SchemaNode {
    /// Returns the place of a value that the whole schema describes.
    pub(crate) fn new(schema: &'static Value) -> Self {
        Self::at(schema, schema)
    }

    /// Returns the place of a value that `node`, a part of `schema`, describes.
    pub(crate) fn at(schema: &'static Value, node: &'static Value) -> Self {
        let mut possibilities = Vec::new();
        collect(schema, node, &mut possibilities);
        Self { schema, possibilities }
    }

    /// Returns the place with all possibilities of several parts, or `None` if there is no part.
    fn join(&self, nodes: impl Iterator<Item = &'static Value>) -> Option<Self> {
        let mut possibilities = Vec::new();
        nodes.for_each(|node| collect(self.schema, node, &mut possibilities));
        (!possibilities.is_empty()).then_some(Self { schema: self.schema, possibilities })
    }

    /// Returns the same place with only those possibilities that `wanted` selects.
    fn with(&self, wanted: impl Fn(&&'static Value) -> bool) -> Self {
        let possibilities = self.possibilities.iter().copied().filter(wanted).collect();
        Self { schema: self.schema, possibilities }
    }

    /// Returns the place of the field with this name, in a table or in each table of a list.
    pub(crate) fn field(&self, name: &str) -> Option<Self> {
        let fields = self.tables().filter_map(|table| {
            let known = table.get("properties").and_then(|properties| properties.get(name));
            known.or_else(|| table.get("additionalProperties").filter(|node| node.is_object()))
        });
        self.join(fields)
    }

    /// Returns the names of the fields.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let properties = self.tables().filter_map(|table| table.get("properties")?.as_object());
        let mut names: Vec<_> =
            properties.flat_map(|properties| properties.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the names of the required fields of a table that can be of one kind only.
    pub(crate) fn required(&self) -> Vec<&'static str> {
        let [table] = self.possibilities.as_slice() else { return Vec::new() };
        let required = table.get("required").and_then(Value::as_array).into_iter().flatten();
        required.filter_map(Value::as_str).collect()
    }

    fn tables(&self) -> impl Iterator<Item = &'static Value> {
        let items = self.items().map(|items| items.possibilities).unwrap_or_default();
        self.possibilities.clone().into_iter().chain(items).filter(|node| is_a(node, "object"))
    }

    /// Returns the place of the items of a list.
    pub(crate) fn items(&self) -> Option<Self> {
        self.join(self.possibilities.iter().filter_map(|node| node.get("items")))
    }

    /// For a table that can be of several kinds, returns the place with those kinds that the
    /// table's texts allow.
    pub(crate) fn narrowed(&self, table: &toml::Table) -> Self {
        let allows = |node: &&'static Value| {
            let Some(properties) = node.get("properties").and_then(Value::as_object) else {
                return true;
            };
            properties.iter().all(|(name, schema)| match (schema.get("const"), table.get(name)) {
                (Some(only), Some(given)) => only.as_str() == given.as_str(),
                (Some(_), None) => !is_required(node, name),
                _ => true,
            })
        };
        self.with(allows)
    }

    /// For a table that can be of several kinds, returns the place with those kinds that have a
    /// field of this name.
    pub(crate) fn with_field(&self, name: &str) -> Self {
        let has = |node: &&'static Value| {
            node.get("properties").is_some_and(|properties| properties.get(name).is_some())
        };
        self.with(has)
    }

    /// Returns whether a number, text or truth value is possible here.
    pub(super) fn accepts(&self, value: &toml::Value) -> bool {
        self.possibilities.iter().any(|node| match value {
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

    /// Returns the texts that are possible, where not every text is.
    pub(super) fn texts(&self) -> impl Iterator<Item = &'static str> {
        self.possibilities.iter().flat_map(|node| texts(node))
    }

    /// Describes in words the values that are possible.
    pub(crate) fn takes(&self) -> String {
        let mut names: Vec<String> = self.texts().map(|text| format!("\"{text}\"")).collect();
        let others = self.possibilities.iter().filter(|node| texts(node).next().is_none());
        for node in others {
            let words = if is_a(node, "boolean") {
                vec!["true".to_owned(), "false".to_owned()]
            } else {
                vec![self.kind(node)]
            };
            for words in words {
                if !words.is_empty() && !names.contains(&words) {
                    names.push(words);
                }
            }
        }
        match names.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => names.join(""),
        }
    }

    /// Describes one possibility in words.
    fn kind(&self, node: &'static Value) -> String {
        for (kind, words) in [("integer", "a whole number"), ("number", "a number")] {
            if is_a(node, kind) {
                return format!("{words}{}", range(node));
            }
        }
        if is_a(node, "array") {
            let each = node.get("items").map(|items| Self::at(self.schema, items).takes());
            let each = each.unwrap_or_default();
            let list = match node.get("maxItems") {
                Some(length) => format!("a list of {length}"),
                None => "a list".into(),
            };
            return if each.is_empty() { list } else { format!("{list}, each {each}") };
        }
        let names = node.get("properties").and_then(Value::as_object);
        match (is_a(node, "string"), is_a(node, "object")) {
            (true, _) => "text".into(),
            (_, true) => match names.into_iter().flatten().next() {
                // This possibility is a table of a name and a number.
                Some((name, number))
                    if names.is_some_and(|names| names.len() == 1)
                        && (is_a(number, "integer") || is_a(number, "number")) =>
                {
                    let whole = if is_a(number, "integer") { "whole number" } else { "number" };
                    format!("{{ {name} = <{whole}> }}")
                }
                _ => match node.get("x-example").and_then(Value::as_str) {
                    Some(example) => format!("a table such as {example}"),
                    None => "a table".into(),
                },
            },
            _ => String::new(),
        }
    }
}

/// Returns the names of the fields of a type that recipes are read into.
pub(crate) fn field_names<T: schemars::JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T).to_value();
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// Returns the texts that a schema lists.
fn texts(node: &'static Value) -> impl Iterator<Item = &'static str> {
    let listed = node.get("enum").and_then(Value::as_array).into_iter().flatten();
    node.get("const").into_iter().chain(listed).filter_map(Value::as_str)
}

/// Collects the possibilities of a part of a schema, and follows its references.
fn collect(schema: &'static Value, node: &'static Value, found: &mut Vec<&'static Value>) {
    let referred = node.get("$ref").and_then(Value::as_str);
    if let Some(target) = referred.and_then(|path| schema.pointer(path.trim_start_matches('#'))) {
        return collect(schema, target, found);
    }
    let kinds = ["anyOf", "oneOf"].into_iter().filter_map(|key| node.get(key)?.as_array());
    let kinds: Vec<_> = kinds.flatten().collect();
    if !kinds.is_empty() {
        kinds.into_iter().for_each(|kind| collect(schema, kind, found));
    } else if !is_only(node, "null") {
        found.push(node);
    }
}

pub(crate) fn is_a(node: &Value, kind: &str) -> bool {
    match node.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|other| other == kind),
        Some(other) => other == kind,
        None => false,
    }
}

/// Returns whether a table requires the field with this name.
pub(crate) fn is_required(table: &Value, name: &str) -> bool {
    let required = table.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|other| other == name))
}

fn is_only(node: &Value, kind: &str) -> bool {
    node.get("type").is_some_and(|other| other == kind)
}

pub(crate) fn bound(node: &Value, name: &str) -> Option<f64> {
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

/// Describes the bounds of a number, in words that follow "a number".
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

/// Writes a number with separated thousands.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_written_with_their_thousands_apart() {
        let numbers = [json!(1), json!(4096), json!(65536), json!(0.25), json!(i64::MAX)];
        let texts = numbers.map(|number| written(number.as_number().unwrap()));
        assert_eq!(texts, ["1", "4096", "65,536", "0.25", "9,223,372,036,854,775,807"]);
    }
}
