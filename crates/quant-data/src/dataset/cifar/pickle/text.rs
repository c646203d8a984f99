//! The forms in which pickles hold texts.

use std::borrow::Cow;

/// A text in the form in which the pickle holds it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Text<'a> {
    pub(super) written: &'a [u8],
    pub(super) form: Form,
}

/// The form of a text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// The bytes themselves; Unicode in UTF-8.
    Plain,
    /// Unicode in Latin-1, with the escapes `\u` and `\U`.
    Escaped,
    /// A string literal of Python 2.
    Quoted,
}

impl<'a> Text<'a> {
    /// Returns the bytes of the text; Unicode becomes UTF-8.
    pub(super) fn bytes(self) -> Cow<'a, [u8]> {
        match self.form {
            Form::Plain => Cow::Borrowed(self.written),
            Form::Escaped => Cow::Owned(unescaped(self.written).into_bytes()),
            Form::Quoted => Cow::Owned(unquoted(self.written)),
        }
    }
}

/// Parses a hexadecimal number in the first `digits` bytes.
fn hexadecimal(bytes: &[u8], digits: usize) -> Option<u32> {
    let digits = std::str::from_utf8(bytes.get(..digits)?).ok()?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
    u32::from_str_radix(digits, 16).ok()
}

/// Decodes Python's encoding `raw-unicode-escape`.
fn unescaped(mut written: &[u8]) -> String {
    let mut text = String::new();
    while let Some((first, rest)) = written.split_first() {
        let digits = match rest.first() {
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => 0,
        };
        let code = rest.get(1..).and_then(|rest| hexadecimal(rest, digits));
        match code {
            Some(code) if *first == b'\\' && digits > 0 => {
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                written = &rest[1 + digits..];
            }
            _ => {
                text.push(char::from(*first));
                written = rest;
            }
        }
    }
    text
}

/// Returns the bytes of a literal in quotes.
fn unquoted(written: &[u8]) -> Vec<u8> {
    let mut rest = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(rest.len());
    loop {
        let (byte, length) = match rest {
            [] => return bytes,
            [b'\\', b'x', code @ ..] => {
                let code = hexadecimal(code, 2);
                (code.unwrap_or(u32::from(b'?')) as u8, 4.min(rest.len()))
            }
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', b't', ..] => (b'\t', 2),
            [b'\\', other, ..] => (*other, 2),
            [byte, ..] => (*byte, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
}
