//! The source code of the workspace, as text.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Returns the path below `crates` and the code of every source file, without comments and without
/// the module of tests at the end of a file.
pub(crate) fn sources() -> Vec<(String, String)> {
    let crates = root().join("crates");
    let mut folders: Vec<PathBuf> =
        entries(&crates).into_iter().map(|path| path.join("src")).filter(|p| p.is_dir()).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let name = path.strip_prefix(&crates).expect("a file below crates");
                files.push((name.to_string_lossy().replace('\\', "/"), code(&path)));
            }
        }
    }
    files
}

/// Returns the paths of what a folder has.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}
