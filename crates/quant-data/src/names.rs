//! Escapes names that come from outside the program, so that they can be printed.

use std::{ffi::OsStr, fmt::Write};

/// Returns a file's name, or another text from outside the program, in a form that is safe to
/// print. Control characters, which could move a terminal's cursor or add lines to a log,
/// characters that change the direction of writing, and bytes that are not UTF-8 are escaped as
/// `\n`, `\u{1b}` and `\xff`.
pub fn printable(name: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    for chunk in name.as_ref().as_encoded_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() || turns_direction(letter) {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

/// Returns a name as text. Bytes that are not UTF-8 are escaped as `\xff`, and everything else is
/// kept, so that such names do not all become the same text.
pub(crate) fn text(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

/// Does the same as [`printable`] for bytes.
pub(crate) fn printable_bytes(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(&printable(chunk.valid()));
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

fn escape_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Returns whether a character is one of Unicode's marks, embeddings, overrides and isolates of the
/// direction of writing.
fn turns_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns a number with its noun: `one` stands after 1, and `many` after every other number.
///
/// ```
/// use quant_data::names::plural;
///
/// assert_eq!(plural(1, "class", "classes"), "1 class");
/// assert_eq!(plural(0, "class", "classes"), "0 classes");
/// ```
pub fn plural(count: usize, one: &str, many: &str) -> String {
    let noun = if count == 1 { one } else { many };
    format!("{count} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_letter_is_escaped_and_letters_stay() {
        for (name, expected) in [
            ("n01/é 猫.jpg", "n01/é 猫.jpg"),
            ("a\nb\x1b[2J\t.jpg", "a\\nb\\u{1b}[2J\\t.jpg"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            (r"C:\data", r"C:\data"),
        ] {
            assert_eq!(printable(name), expected);
            // Escaping an escaped name changes nothing.
            assert_eq!(printable(expected), expected);
        }
        assert_eq!(printable_bytes(b"caf\xe9\n.jpg"), "caf\\xe9\\n.jpg");
    }
}
