//! Keyword lists as QTool reads them. QTool tests whether the list has each of the words that it
//! knows; a word that it does not know changes nothing.

use quant_core::qtool::QtoolOptions;

use super::{WORDS, Word, known_words, model};
use crate::error::NetworkError;

/// A keyword list without the words that QTool does not act on.
#[doc(hidden)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acting {
    /// The remaining words, joined by commas, each once.
    pub keywords: String,
    /// For each of the other words, the reason why it was left out.
    pub notes: Vec<String>,
}

/// Kinds of words that exclude each other. QTool tests for them in this order and uses the first
/// that the list contains.
const FIRST_FOUND: [(&str, &[&str]); 4] = [
    ("data", &["cifar10", "cifar100", "imagenet"]),
    ("order", &["cbas", "cbsa", "cabs", "bacs", "bcas", "bac", "cba", "abc"]),
    ("norm", &["group-norm", "static-bn", "freeze-bn", "reverse-bn", "instance-norm"]),
    ("activation", &["PReLU", "NReLU", "ReLU6", "LReLU", "RPReLU"]),
];

/// Finds the words of a comma-separated list that QTool acts on when it builds a model. Unknown
/// words are left out. Of several words that exclude each other, only the one that QTool tests for
/// first is kept.
///
/// # Errors
/// [`NetworkError::Keyword`] for an unknown model.
#[doc(hidden)]
pub fn acting(model_name: &str, keywords: &str) -> Result<Acting, NetworkError> {
    model(model_name)?;
    let mut notes = Vec::new();
    let mut left: Vec<&str> = Vec::new();
    for word in keywords.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if !known_words().any(|known| known == word) {
            notes.push(unknown(word));
        } else if !left.contains(&word) {
            left.push(word);
        }
    }
    for (kind, order) in FIRST_FOUND {
        let rivals: Vec<&str> = order.iter().copied().filter(|word| left.contains(word)).collect();
        let acts = |word: &&&str| {
            WORDS.iter().any(|entry| entry.word == **word && acts_on(entry, model_name))
        };
        let Some(first) = rivals.iter().find(acts).or(rivals.first()).copied() else { continue };
        for word in rivals.into_iter().filter(|word| *word != first) {
            let why = format!("QTool takes {first:?} as {kind}");
            notes.push(format!("keyword {word:?}: {why}; left out"));
            left.retain(|other| *other != word);
        }
    }
    Ok(Acting { keywords: left.join(","), notes })
}

/// Returns whether the word alone changes the model.
fn acts_on(entry: &Word, model_name: &str) -> bool {
    let options = QtoolOptions::default();
    model(model_name).is_ok_and(|mut config| (entry.apply)(&mut config, &options).unwrap_or(false))
}

fn unknown(word: &str) -> String {
    let near = nearest(word, known_words());
    let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
    format!("keyword {word:?} is not one that QTool acts on{near}")
}

/// Returns the known name that is most similar to a misspelt one, if it is similar enough: apart
/// from capitals, one letter differs, or one letter in four.
#[doc(hidden)]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (lower, length) = (name.to_lowercase(), name.chars().count());
    let most = (length / 4).max(1);
    // Names whose lengths differ by more letters than that need no comparison.
    let similar = known.into_iter().filter(|known| known.chars().count().abs_diff(length) <= most);
    let distances =
        similar.map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known));
    let (distance, known) = distances.min()?;
    (distance <= most).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_are_left_out_with_the_nearest_where_it_may_be_meant() {
        let acting =
            acting("resnet20", "debug,cifar10, cbsa,fix_poling,save,raw,NRelu,cbsa").unwrap();
        assert_eq!(acting.keywords, "cifar10,cbsa");
        let note = |word: &str| format!("keyword {word:?} is not one that QTool acts on");
        let expected = [
            note("debug"),
            note("fix_poling") + "; did you mean fix_pooling?",
            note("save"),
            note("raw"),
            note("NRelu") + "; did you mean NReLU?",
        ];
        assert_eq!(acting.notes, expected);
    }

    #[test]
    fn of_words_that_exclude_each_other_the_first_that_is_looked_for_stays() {
        for (model, words, left) in [
            ("resnet20", "bacs,cbas,imagenet,cifar100", "cbas,cifar100"),
            ("resnet20", "cba,bacs", "bacs"),
            ("vgg_small", "cbas,cba", "cba"),
            ("resnet20", "cbas,NReLU,PReLU,static-bn,group-norm", "cbas,PReLU,group-norm"),
        ] {
            let acting = acting(model, words).unwrap();
            assert_eq!(acting.keywords, left, "{words}");
            let out = words.split(',').count() - left.split(',').count();
            assert_eq!(acting.notes.len(), out, "{:?}", acting.notes);
        }
    }

    #[test]
    fn the_order_of_looking_names_every_word_of_its_kind() {
        for (kind, order) in FIRST_FOUND {
            let mut of_kind: Vec<&str> =
                WORDS.iter().filter(|entry| entry.kind == kind).map(|entry| entry.word).collect();
            let mut order = order.to_vec();
            of_kind.sort_unstable();
            order.sort_unstable();
            assert_eq!(order, of_kind, "{kind}");
        }
    }

    #[test]
    fn an_unknown_model_is_refused() {
        assert!(acting("resnet19", "cbas").unwrap_err().to_string().contains("resnet18"));
    }
}
