//! Messages about fields in plain words, with the nearest known name.

/// Returns serde's message without the names of Rust's types, and with the nearest known name.
pub(crate) fn in_words(message: &str) -> String {
    let mut words = message.trim_end().to_owned();
    for (rust, plain) in [
        ("expected usize", "expected a whole number from 0 up"),
        ("expected u64", "expected a whole number from 0 up"),
        ("expected u32", "expected a whole number from 0 up"),
        ("expected i32", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a string", "expected text in quotes"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected a table"),
        ("floating point `", "number `"),
        ("invalid type: ", "found "),
        ("found map", "found a table"),
        ("found sequence", "found a list"),
        ("\nin `", " in `"),
    ] {
        words = words.replace(rust, plain);
    }
    match suggestion(message) {
        Some(known) => format!("{words}\ndid you mean `{known}`?"),
        None => words,
    }
}

/// Returns the known name that is nearest to the unknown name in serde's message.
fn suggestion(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("unknown ")?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    nearest(unknown, quoted)
}

/// Returns the known name that is probably meant, if one is similar enough.
pub(crate) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = 1 + unknown.len() / 3;
    // Names whose lengths differ by more letters than that need no comparison.
    let length = unknown.chars().count();
    let similar = known.filter(|known| known.chars().count().abs_diff(length) <= most);
    let near = similar.map(|known| (strsim::damerau_levenshtein(unknown, known), known));
    let (distance, known) = near.min()?;
    (distance <= most).then_some(known)
}
