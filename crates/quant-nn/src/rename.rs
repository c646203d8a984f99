//! Gives the entries of a state other names: from torchvision's networks to keyword networks, or by
//! the rules in a file.

use crate::error::NetworkError;

/// The most rules of a file, where each name that a list stands for is a rule of its own.
const MOST_RULES: usize = 100_000;

/// The most characters, in all, of the names that one pattern stands for. Lists multiply: without a
/// bound, a short line could fill the memory.
const MOST_CHARACTERS: usize = 100_000;

/// Rules that give entries other names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renaming {
    /// The prefixes, the longest first, and what each becomes.
    rules: Vec<(String, Becomes)>,
    torchvision: bool,
}

/// What a prefix becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Becomes {
    /// This prefix replaces the usual one.
    Named(String),
    /// Nothing: the prefix and its dot are removed.
    Removed,
    /// The whole entry is dropped.
    Dropped,
}

impl Renaming {
    /// Returns the rules from torchvision's ResNet names to those of keyword networks:
    /// `layer1.0.conv1.weight` becomes `layer1.0.conv1.0.weight`, `layer2.0.downsample.0.weight`
    /// becomes `layer2.0.skip.1.weight`, and `bn1.weight` becomes `bn1.0.weight`.
    pub fn torchvision_to_keywords() -> Self {
        Self { rules: Vec::new(), torchvision: true }
    }

    /// Reads rules from text, one rule per line. If several rules fit a name, the one with the
    /// longest `from` applies:
    ///
    /// - `from to`: in names that are `from`, or start with it and a dot, `to` replaces it. `{a,b}`
    ///   stands for each of a and b, in step in both: `conv{1,2} layer.{0,1}`.
    /// - `from -`: from names that start with `from` and a dot, both are removed.
    /// - `!from`: entries whose name is `from`, or starts with it and a dot, are dropped.
    ///
    /// Empty lines and lines that start with # are skipped.
    ///
    /// # Errors
    /// [`NetworkError::Renaming`] with the line, for a line that is not such a rule, whose lists
    /// differ in length, or whose lists stand for more than 100,000 characters; and for more than
    /// 100,000 names in all.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason: &str| NetworkError::Renaming {
                line: Some(number + 1),
                text: line.to_owned(),
                reason: reason.to_owned(),
            };
            let expanded = |pattern: &str| {
                expanded(pattern).ok_or_else(|| {
                    wrong("its lists in braces stand for too many names; write several lines")
                })
            };
            if rules.len() > MOST_RULES {
                return Err(wrong("the lines before it stand for more than 100,000 names"));
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ([word], Some(dropped)) = (&words[..], line.strip_prefix('!'))
                && !dropped.is_empty()
                && word.len() > 1
            {
                rules.extend(expanded(dropped)?.into_iter().map(|from| (from, Becomes::Dropped)));
                continue;
            }
            let [from, to] = words[..] else {
                return Err(wrong(
                    "expected two words, the old name and the new, or - for no new one; or one \
                     word that begins with !, the name of entries to drop",
                ));
            };
            if to == "-" {
                rules.extend(expanded(from)?.into_iter().map(|from| (from, Becomes::Removed)));
                continue;
            }
            let (from, to) = (expanded(from)?, expanded(to)?);
            if from.len() != to.len() {
                return Err(wrong("the lists in braces differ in length"));
            }
            rules.extend(from.into_iter().zip(to.into_iter().map(Becomes::Named)));
        }
        rules.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Ok(Self { rules, torchvision: false })
    }

    /// Returns the new name of an entry, or `None` if the entry is dropped.
    pub fn apply(&self, name: &str) -> Option<String> {
        if self.torchvision {
            return Some(keyword_name(name));
        }
        for (from, becomes) in &self.rules {
            let Some(rest) = name.strip_prefix(from.as_str()) else { continue };
            match (becomes, rest.strip_prefix('.')) {
                (_, None) if !rest.is_empty() => {}
                (Becomes::Named(to), _) => return Some(format!("{to}{rest}")),
                (Becomes::Dropped, _) => return None,
                (Becomes::Removed, Some(rest)) => return Some(rest.to_owned()),
                (Becomes::Removed, None) => {}
            }
        }
        Some(name.to_owned())
    }
}

/// Returns all texts that a pattern with lists in braces stands for, in the order in which the last
/// list changes first. `None` if they are too long in all.
fn expanded(pattern: &str) -> Option<Vec<String>> {
    let (mut texts, mut rest) = (vec![String::new()], pattern);
    while let Some((before, from_list)) = rest.split_once('{')
        && let Some((list, after)) = from_list.split_once('}')
    {
        let items: Vec<&str> = list.split(',').collect();
        if texts.len() * items.len() * pattern.len() > MOST_CHARACTERS {
            return None;
        }
        let with_item = |text: &String, item: &str| format!("{text}{before}{item}");
        texts = (texts.iter())
            .flat_map(|text| items.iter().map(move |item| with_item(text, item)))
            .collect();
        rest = after;
    }
    texts.iter_mut().for_each(|text| text.push_str(rest));
    Some(texts)
}

fn keyword_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let numbered = |part: &str| {
        ["conv", "bn", "relu"].iter().any(|kind| {
            part.strip_prefix(kind).is_some_and(|n| !n.is_empty() && n.parse::<u8>().is_ok())
        })
    };
    match parts[..] {
        [stage, block, part, ref rest @ ..] if stage.starts_with("layer") => {
            let rest = rest.join(".");
            match (part, rest.split_once('.')) {
                ("downsample", Some(("0", rest))) => format!("{stage}.{block}.skip.1.{rest}"),
                ("downsample", Some((_, rest))) => format!("{stage}.{block}.skip.2.{rest}"),
                _ if numbered(part) => format!("{stage}.{block}.{part}.0.{rest}"),
                _ => name.to_owned(),
            }
        }
        ["bn1", rest] => format!("bn1.0.{rest}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torchvisions_names_become_those_of_keyword_networks() {
        let renaming = Renaming::torchvision_to_keywords();
        for (from, to) in [
            ("conv1.weight", "conv1.weight"),
            ("bn1.running_mean", "bn1.0.running_mean"),
            ("layer1.0.conv1.weight", "layer1.0.conv1.0.weight"),
            ("layer1.0.bn2.bias", "layer1.0.bn2.0.bias"),
            ("layer2.0.downsample.0.weight", "layer2.0.skip.1.weight"),
            ("layer2.0.downsample.1.running_var", "layer2.0.skip.2.running_var"),
            ("fc.weight", "fc.weight"),
        ] {
            assert_eq!(renaming.apply(from).as_deref(), Some(to));
        }
    }

    #[test]
    fn lists_in_braces_are_taken_in_step() {
        let renaming = Renaming::parse("# comment\n\nconv{1,2} layer.{0,1}.conv\nfc head").unwrap();
        let name = |name: &str| renaming.apply(name).unwrap();
        assert_eq!(name("conv2.weight"), "layer.1.conv.weight");
        assert_eq!(name("fc"), "head");
        assert_eq!(name("fc2.weight"), "fc2.weight", "a prefix ends at a dot");
    }

    #[test]
    fn prefixes_come_off_and_entries_are_dropped() {
        let renaming = Renaming::parse("encoder -\n!encoder.aux\n!head{1,2}").unwrap();
        assert_eq!(renaming.apply("encoder.conv.weight").as_deref(), Some("conv.weight"));
        assert_eq!(renaming.apply("encoder.aux.weight"), None, "the longest rule applies");
        assert_eq!(renaming.apply("head2.bias"), None);
        assert_eq!(renaming.apply("header.bias").as_deref(), Some("header.bias"));
    }

    #[test]
    fn several_lists_stand_for_every_combination() {
        let renaming = Renaming::parse("a{1,2}.{x,y} b{3,4}.{z,w}").unwrap();
        for (from, to) in [("a1.x", "b3.z"), ("a1.y", "b3.w"), ("a2.x", "b4.z"), ("a2.y", "b4.w")] {
            assert_eq!(renaming.apply(from).as_deref(), Some(to));
        }
    }

    #[test]
    fn a_line_that_is_no_rule_is_named() {
        let too_many = format!("ok ok\n!x{}", "{0,1}".repeat(40));
        for (text, line) in [
            ("a b\nc", "line 2"),
            ("x{1,2} y{1,2,3}", "line 1"),
            ("!", "line 1"),
            (&too_many, "line 2"),
        ] {
            let error = Renaming::parse(text).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }
}
