//! Checks, in the source of the crates, which of them use the file system.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::sources;

/// The crates that do not use the file system. `quant-data`, which reads data sets, `quant-infer`,
/// which reads packed networks, and `quant-train` with the crates that depend on it do use it.
const BELOW: [&str; 6] =
    ["quant-kernels", "quant-cube", "quant-core", "quant-export", "quant-onnx", "quant-nn"];

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
fn crates_below_the_trainer_do_not_use_the_file_system() {
    let mut found: BTreeMap<_, _> = BELOW.map(|name| (name, BTreeSet::new())).into();
    for (file, code) in sources() {
        let name = file.split('/').next().unwrap_or_default();
        if let Some(found) = found.get_mut(name) {
            found.extend(uses(&code));
        }
    }
    for (name, used) in found {
        assert!(used.is_empty(), "{name} uses functions of the file system: {used:?}");
    }
}
