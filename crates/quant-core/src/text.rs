//! The text of values in configuration files.

use std::fmt::Debug;

/// Returns a value as it is written in configuration files: `per-channel` rather than `PerChannel`,
/// `{ groups = 2 }` rather than `Groups(2)`, `4` rather than `Levels(4)`.
pub(crate) fn name(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let kebab = |text: &str| {
        let mut name = String::new();
        for (index, letter) in text.char_indices() {
            if letter.is_ascii_uppercase() && index > 0 {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    };
    match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        None => kebab(&text),
        Some(("Levels", count)) => count.to_owned(),
        Some((choice, value)) => format!("{{ {} = {value} }}", kebab(choice)),
    }
}
