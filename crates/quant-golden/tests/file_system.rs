//! Checks, in the source of the crates, which of them use the file system.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::sources;

/// The functions of the file system that the crates below `quant-train` use. `quant-data`, which
/// reads data sets, may use all functions; so may `quant-train` and the crates that depend on it.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("quant-kernels", &[]),
    ("quant-core", &[]),
    ("quant-export", &[]),
    ("quant-onnx", &[]),
    // This crate reads the states of networks.
    ("quant-nn", &["File::open", "PytorchReader::new", "fs::metadata", "fs::read"]),
];

/// Modules and types whose functions use the file system.
const OWNERS: [&str; 6] =
    ["fs", "File", "OpenOptions", "tempfile", "NamedTempFile", "PytorchReader"];

/// Methods of paths that use the file system.
const METHODS: [&str; 8] = [
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

/// Returns the functions of the file system that `code` calls, such as `fs::read`. An import of a
/// module or a type does not count.
fn uses(code: &str) -> BTreeSet<String> {
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.');
    let words = code.split(|c| !is_path(c)).map(|word| word.trim_matches(':'));
    let found = words.flat_map(|word| {
        let parts: Vec<_> = word.split("::").collect();
        let calls = parts.windows(2).filter(|pair| OWNERS.contains(&pair[0]));
        let calls = calls.filter(|pair| !OWNERS.contains(&pair[1])).map(|pair| pair.join("::"));
        let methods = word.split('.').skip(1).filter(|method| METHODS.contains(method));
        calls.chain(methods.map(str::to_owned)).collect::<Vec<_>>()
    });
    found.collect()
}

#[test]
fn calls_imports_and_methods_are_found() {
    let code = "use std::{fs, fs::File};\nuse std::fs::write;\n
        std::fs::read(path)?; File::open(path); path.exists() && metadata.len() > 0; fs::read(b)";
    let found: Vec<_> = uses(code).into_iter().collect();
    assert_eq!(found, ["File::open", "exists", "fs::read", "fs::write"]);
}

#[test]
fn below_the_trainer_only_data_sets_and_states_use_the_file_system() {
    let mut found: BTreeMap<_, _> = ALLOWED.map(|(name, _)| (name, BTreeSet::new())).into();
    for (file, code) in sources() {
        let name = file.split('/').next().unwrap_or_default();
        if let Some(found) = found.get_mut(name) {
            found.extend(uses(&code));
        }
    }
    for (name, allowed) in ALLOWED {
        let used: Vec<_> = found[name].iter().map(String::as_str).collect();
        assert_eq!(
            used, allowed,
            "{name} uses the functions on the left, but may use those on the right"
        );
    }
}
