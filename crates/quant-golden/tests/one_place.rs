//! Counts, in the source of all crates, the places that have to be changed to add a quantization
//! method.

mod common;

use std::collections::BTreeMap;

use common::sources;

/// Where the methods of a served network's quantizers are found again. Each has thresholds and
/// values of its own, by which it is recognised.
const RAISE: &str = "quant-export/src/raise/";

/// Counts the lines of each file that contain one of `words` as a whole word.
fn lines_with(words: &[&str]) -> BTreeMap<String, usize> {
    let is_word = |line: &str| {
        let mut found = line.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-'));
        found.any(|word| words.contains(&word))
    };
    let counted = sources().into_iter().map(|(file, text)| {
        let count = text.lines().filter(|line| is_word(line)).count();
        (file, count)
    });
    counted.filter(|(_, count)| *count > 0).collect()
}

/// A method with an existing formula needs its own file, one line for its name, one line for its
/// modules and one line that declares the file. Its options, if it has any, are exported. If its
/// parameters can be found again from a served network, `raise` says how; it works without.
#[test]
fn a_method_is_its_file_and_three_lines() {
    for (file, words, options) in [
        ("apot", &["apot", "Apot"][..], false),
        ("lsq_plus", &["lsq_plus", "LsqPlus", "lsq-plus"], false),
        ("n2uq", &["n2uq", "N2uq", "N2uqActivation", "N2uqWeight"], false),
        ("ttq", &["ttq", "Ttq", "TtqOptions"], true),
    ] {
        let mut found = lines_with(words);
        assert!(found.remove(&format!("quant-core/src/methods/{file}.rs")).is_some(), "{found:?}");
        assert_eq!(found.remove("quant-core/src/methods/mod.rs"), Some(2), "{file}");
        let names = found.remove("quant-core/src/method.rs").unwrap_or_default();
        if options {
            assert_eq!(found.remove("quant-core/src/lib.rs"), Some(1), "{file}");
        } else {
            assert_eq!(names, 1, "{file}");
        }
        found.retain(|file, _| !file.starts_with(RAISE));
        assert!(found.is_empty(), "{file} also stands in {found:?}");
    }
}

/// The names of learned parameters and running values occur only where they are declared, and where
/// another program's names are read.
#[test]
fn names_of_parameters_are_typed_once() {
    let elsewhere = |name: &str| {
        let literal = format!("\"{name}\"");
        let files = sources().into_iter().filter(|(_, text)| text.contains(&literal));
        let files = files.map(|(file, _)| file).filter(|file| {
            !file.starts_with("quant-core/src/methods/")
                && file != "quant-core/src/parameter.rs"
                && !file.contains("/qtool")
                && !file.starts_with("quant-golden/")
                // ONNX has entries with such names.
                && !file.starts_with("quant-onnx/")
        });
        files.collect::<Vec<_>>()
    };
    for name in [
        "clip_val",
        "step_size",
        "offset",
        "intervals",
        "alpha0",
        "alpha1",
        "positive",
        "negative",
        "basis",
    ] {
        assert_eq!(elsewhere(name), Vec::<String>::new(), "{name}");
    }
}
