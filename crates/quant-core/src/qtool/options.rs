//! The keywords and options of QTool, parsed.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::QuantizerError;

/// The options and keywords of QTool, parsed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QtoolOptions {
    keywords: BTreeSet<String>,
    repeated: BTreeSet<String>,
    options: BTreeMap<String, String>,
}

impl QtoolOptions {
    /// Parses a comma-separated list of keywords and a command line. A later option overrides an
    /// earlier one of the same name.
    ///
    /// # Errors
    /// [`QuantizerError::Option`] for a word that is neither the name of an option nor its value.
    pub fn parse(keywords: &str, command_line: &str) -> Result<Self, QuantizerError> {
        let mut options = BTreeMap::new();
        let mut words = command_line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                return Err(unusable(word, "", "expected --<name> [value]"));
            };
            if let Some((name, value)) = name.split_once('=') {
                options.insert(name.to_owned(), value.to_owned());
                continue;
            }
            let is_value = |word: &&str| !word.starts_with("--");
            let value = words.next_if(is_value).unwrap_or_default();
            options.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self::from_pairs(keywords, options))
    }

    /// Makes the options from a comma-separated list of keywords, and from options whose names have
    /// no dashes.
    pub fn from_pairs(keywords: &str, options: impl IntoIterator<Item = (String, String)>) -> Self {
        let words = keywords.split(',').map(str::trim).filter(|word| !word.is_empty());
        let (mut keywords, mut repeated) = (BTreeSet::new(), BTreeSet::new());
        for word in words {
            if !keywords.insert(word.to_owned()) {
                repeated.insert(word.to_owned());
            }
        }
        Self { keywords, repeated, options: options.into_iter().collect() }
    }

    /// Returns whether a keyword is given.
    pub fn keyword(&self, word: &str) -> bool {
        self.keywords.contains(word)
    }

    /// Returns the words that the option `keyword` lists.
    pub fn keywords(&self) -> impl Iterator<Item = &str> {
        self.keywords.iter().map(String::as_str)
    }

    /// Returns the keywords that were given more than once.
    pub fn repeated(&self) -> impl Iterator<Item = &str> {
        self.repeated.iter().map(String::as_str)
    }

    /// Returns the names of all options, without their dashes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.options.keys().map(String::as_str)
    }

    /// Returns whether an option is given, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// Returns the value of an option, or `None` where it is not given.
    ///
    /// # Errors
    /// [`QuantizerError::Option`] for a value of the wrong type.
    pub fn get<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, QuantizerError> {
        let Some(value) = self.options.get(name) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(unusable(name, value, "expected a number")),
        }
    }

    /// Returns the value of an option, or `none`, which may be written in upper case.
    pub(super) fn text(&self, option: &str) -> &str {
        let value = self.options.get(option).map_or("none", String::as_str);
        if value.eq_ignore_ascii_case("none") { "none" } else { value }
    }

    /// Removes an option.
    pub(super) fn remove(&mut self, name: &str) {
        self.options.remove(name);
    }
}

/// Returns the error for the value of an option.
pub(super) fn unusable(option: &str, value: &str, accepted: &'static str) -> QuantizerError {
    QuantizerError::Option { option: option.to_owned(), value: value.to_owned(), accepted }
}
