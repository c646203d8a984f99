//! The classes of shards, and the labels that samples may have.

use std::{collections::HashMap, io::ErrorKind, path::Path};

use crate::{error::DataError, files, names::plural};

/// Name of the file beside the tar files that lists the classes.
pub(super) const CLASSES: &str = "classes.txt";

/// The largest label. A larger number is probably not a label, and every number up to it would
/// become a class.
const HIGHEST: u32 = 999_999;

/// Returns the names in a folder's list of classes, if there is one. Empty lines at the end are
/// ignored.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Shard`] for an empty line between others, which would shift the
/// numbers of the classes after it.
pub(super) fn read_classes(folder: &Path) -> Result<Option<Vec<String>>, DataError> {
    let path = folder.join(CLASSES);
    let text = match files::read_text(&path) {
        Err(DataError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(None);
        }
        text => text?,
    };
    let lines = text.lines().count();
    if lines > HIGHEST as usize + 1 {
        let reason = format!("it has {lines} lines: expected at most {} classes", HIGHEST + 1);
        return Err(DataError::Shard { path, reason });
    }
    let names: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    match names.iter().position(String::is_empty) {
        Some(line) => {
            let reason = format!("line {} is empty: expected the name of a class", line + 1);
            Err(DataError::Shard { path, reason })
        }
        None => Ok(Some(names)),
    }
}

/// The labels that samples may have.
pub(super) struct Labels<'a> {
    /// The source of the classes for messages, and the number of classes; `None` if every number is
    /// a label.
    classes: Option<(&'a str, u32)>,
    /// Number of each class by its name; `None` for a name that several classes have.
    numbers: HashMap<&'a str, Option<u32>>,
}

impl<'a> Labels<'a> {
    /// Accepts every number up to [`HIGHEST`].
    pub(super) fn any() -> Self {
        Self { classes: None, numbers: HashMap::new() }
    }

    /// Accepts the numbers and the names of the classes that `source` lists.
    pub(super) fn of(names: &'a [String], source: &'a str) -> Self {
        let mut numbers = HashMap::new();
        for (number, name) in (0..).zip(names) {
            let first = !numbers.contains_key(name.as_str());
            numbers.insert(name.as_str(), first.then_some(number));
        }
        Self { classes: Some((source, names.len() as u32)), numbers }
    }

    /// Returns the number of the class for the text of a sample's label.
    ///
    /// # Errors
    /// If the label is not accepted: the label, and what is accepted.
    pub(super) fn number(&self, text: &str) -> Result<u32, String> {
        let text = text.trim();
        match (text.parse::<u32>(), self.classes) {
            (Ok(label), None) if label <= HIGHEST => Ok(label),
            (Ok(label), None) => {
                Err(format!("has label {label}: without {CLASSES}, labels are 0 to {HIGHEST}"))
            }
            (Ok(label), Some((_, count))) if label < count => Ok(label),
            (Ok(label), Some((source, 0))) => {
                Err(format!("has label {label}, but {source} has no classes"))
            }
            (Ok(label), Some((source, count))) => Err(format!(
                "has label {label}: expected 0 to {}, because {source} has {}",
                count - 1,
                plural(count as usize, "class", "classes")
            )),
            (Err(_), None) => Err(format!(
                "has label {text:?}: expected a number, because there is no {CLASSES} with names"
            )),
            (Err(_), Some((source, count))) => match self.numbers.get(text) {
                Some(Some(number)) => Ok(*number),
                Some(None) => {
                    Err(format!("has label {text:?}, which is several classes of {source}"))
                }
                None => Err(format!(
                    "has label {text:?}: expected the number or the name of one of the {count} \
                     classes of {source}"
                )),
            },
        }
    }
}
