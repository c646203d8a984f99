//! Printing for programs, and wording that messages share. The reader of the output may end before
//! the program does (as in `quant recipe list | head -1`). What is printed after that is discarded,
//! and the program, which may be training, continues.

use std::io::{self, ErrorKind, Write};

pub use quant_data::names::plural;
use serde::Serialize;

/// Prints a line of a result on standard output.
///
/// # Errors
/// The error of writing, such as that of a full disk. A closed pipe is not an error.
pub fn print(line: &str) -> io::Result<()> {
    write_line(&mut io::stdout().lock(), line)
}

/// Prints a line of a message on standard error. An error of writing is ignored, because there is
/// no other place where it could be reported. Control characters, which names in files and commands
/// may have, are escaped: a terminal would act on them.
pub fn tell(line: &str) {
    let _ = write_line(&mut io::stderr().lock(), &visible(line));
}

/// Returns a text with its control characters escaped, except for ends of lines and tabs.
fn visible(text: &str) -> String {
    let escaped = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.chars()
        .map(|c| if escaped(c) { c.escape_default().to_string() } else { c.into() })
        .collect()
}

/// Returns a choice as recipes write it, such as `lq-nets`.
pub(crate) fn text_of(choice: &impl Serialize) -> String {
    let text = toml::Value::try_from(choice).ok();
    text.and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Breaks a paragraph into lines of at most 100 characters, between words. A longer word has a line
/// of its own.
#[doc(hidden)]
pub fn wrapped(paragraph: &str) -> String {
    const WIDTH: usize = 100;
    let mut text = String::new();
    let mut width = 0;
    for word in paragraph.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text
}

/// Writes a line and flushes it. A closed pipe is not an error.
fn write_line(to: &mut impl Write, line: &str) -> io::Result<()> {
    // The line is written in one call, so that lines of several processes do not mix.
    let written = to.write_all(format!("{line}\n").as_bytes()).and_then(|()| to.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| io::Error::new(error.kind(), format!("output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is_one() {
        assert!(write_line(&mut Fails(ErrorKind::BrokenPipe), "line").is_ok());
        let error = write_line(&mut Fails(ErrorKind::StorageFull), "line").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(error.to_string().starts_with("output: "), "{error}");
    }

    #[test]
    fn a_paragraph_is_broken_between_words() {
        let words = ["a".repeat(60), "b".repeat(39), "c".to_owned(), "d".repeat(120)];
        let lines: Vec<usize> = wrapped(&words.join(" ")).lines().map(str::len).collect();
        assert_eq!(lines, [100, 1, 120]);
    }

    #[test]
    fn a_line_is_written_with_its_end() {
        let mut written = Vec::new();
        write_line(&mut written, "one\ntwo").unwrap();
        assert_eq!(written, b"one\ntwo\n");
    }
}
