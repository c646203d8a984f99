//! Counts, in the source of all crates, the places that have to be changed to add a quantization
//! method.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Returns every source file of the crates, without comments and without its tests.
fn sources() -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let mut folders: Vec<PathBuf> = fs::read_dir(&crates)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("src"))
        .filter(|folder| folder.is_dir())
        .collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                let name = path.strip_prefix(&crates).unwrap().to_string_lossy().into_owned();
                files.push((name.replace('\\', "/"), lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    files
}

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
/// modules and one line that declares the file. Its options, if it has any, are exported.
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
        assert!(found.is_empty(), "{file} also stands in {found:?}");
    }
}

/// The names of learned parameters occur only where they are declared and where another program's
/// names are read.
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
        });
        files.collect::<Vec<_>>()
    };
    for name in ["clip_val", "step_size", "offset", "intervals", "alpha0", "positive"] {
        assert_eq!(elsewhere(name), Vec::<String>::new(), "{name}");
    }
}
