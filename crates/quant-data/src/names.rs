//! Names from outside, as they are printed.

use std::{ffi::OsStr, fmt::Write};

/// A file's name, or another text from outside, as it can be printed safely: control characters,
/// which could move a terminal's cursor or add lines to a log, characters that turn the direction
/// of writing, and bytes that are not UTF-8 are escaped as `\n`, `\u{1b}` and `\xff`.
pub fn printable(name: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    for chunk in name.as_ref().as_encoded_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter.is_control() || turns_direction(letter) {
                true => text.extend(letter.escape_default()),
                false => text.push(letter),
            }
        }
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

/// A name as a text that no other name has: bytes that are not UTF-8 are escaped as `\xff`, and all
/// else stays.
pub(crate) fn text(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

/// The same as [`printable`] of bytes.
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
        // Writing to a text cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Unicode's marks, embeddings, overrides and isolates of direction.
fn turns_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
            // What has been escaped stays.
            assert_eq!(printable(expected), expected);
        }
        assert_eq!(printable_bytes(b"caf\xe9\n.jpg"), "caf\\xe9\\n.jpg");
    }
}
