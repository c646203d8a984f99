//! The classes of shards, and what a sample's label may be.

use std::{collections::HashMap, io::ErrorKind, path::Path};

use crate::{error::DataError, files};

/// The list of classes beside the tar files.
pub(super) const CLASSES: &str = "classes.txt";

/// The highest label. A larger number is more likely to be something else, and each number up to it
/// would become a class.
const HIGHEST: u32 = 999_999;

/// The names in a folder's list of classes, if it has one. Empty lines at the end are left out.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Shard`] for an empty line between others, which would shift the
/// numbers of those after it.
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
        let reason = format!("it has {lines} lines: expected {} classes at most", HIGHEST + 1);
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

/// What labels there are.
pub(super) struct Labels<'a> {
    /// Who says so, and how many classes there are; none where every number is a label.
    classes: Option<(&'a str, u32)>,
    /// None for a name that several classes have.
    numbers: HashMap<&'a str, Option<u32>>,
}

impl<'a> Labels<'a> {
    /// Every number, as far as it is sensible.
    pub(super) fn any() -> Self {
        Self { classes: None, numbers: HashMap::new() }
    }

    /// The numbers and the names of the classes that `source` lists.
    pub(super) fn of(names: &'a [String], source: &'a str) -> Self {
        let mut numbers = HashMap::new();
        for (number, name) in (0..).zip(names) {
            let first = !numbers.contains_key(name.as_str());
            numbers.insert(name.as_str(), first.then_some(number));
        }
        Self { classes: Some((source, names.len() as u32)), numbers }
    }

    /// The number that a sample's label, as text, stands for.
    ///
    /// # Errors
    /// What the label is, and what it may be.
    pub(super) fn number(&self, text: &str) -> Result<u32, String> {
        let text = text.trim();
        match (text.parse::<u32>(), self.classes) {
            (Ok(label), None) if label <= HIGHEST => Ok(label),
            (Ok(label), None) => Err(format!(
                "has label {label}: without {CLASSES} labels are 0 to {HIGHEST} at most"
            )),
            (Ok(label), Some((_, count))) if label < count => Ok(label),
            (Ok(label), Some((source, 0))) => {
                Err(format!("has label {label}, but {source} has no classes"))
            }
            (Ok(label), Some((source, count))) => Err(format!(
                "has label {label}: expected 0 to {}, as {source} has {count} classes",
                count - 1
            )),
            (Err(_), None) => Err(format!(
                "has label {text:?}: expected a number; a name needs {CLASSES} beside the shards"
            )),
            (Err(_), Some((source, count))) => match self.numbers.get(text) {
                Some(Some(number)) => Ok(*number),
                Some(None) => {
                    Err(format!("has label {text:?}, and several classes of {source} have it"))
                }
                None => Err(format!(
                    "has label {text:?}: expected the number or the name of one of the {count} \
                     classes of {source}"
                )),
            },
        }
    }
}
