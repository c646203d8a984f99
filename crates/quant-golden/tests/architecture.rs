//! Checks that docs/architecture.md agrees with the crates, their files and their dependencies, and
//! that links between the pages lead somewhere.

#[allow(dead_code, reason = "each test program uses only a part")]
mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::root;

fn page() -> String {
    fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md")
}

/// Returns the parts of a text that are between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns whether a folder has a file `<path>.rs` or a folder `path`.
fn has_module(folder: &Path, path: &str) -> bool {
    folder.join(path).is_dir() || folder.join(format!("{path}.rs")).is_file()
}

/// Returns the text of a crate's manifest.
fn manifest(name: &str) -> String {
    let path = root().join("crates").join(name).join("Cargo.toml");
    fs::read_to_string(path).expect("a manifest")
}

/// Returns the crates of the workspace that are published.
fn published() -> BTreeSet<String> {
    let folders = fs::read_dir(root().join("crates")).expect("the folder of the crates");
    let names = folders.map(|entry| {
        let name = entry.expect("an entry").file_name();
        name.into_string().expect("the name of a crate")
    });
    names.filter(|name| !manifest(name).contains("publish = false")).collect()
}

#[test]
fn every_file_and_folder_of_the_page_exists() {
    let page = page();
    let is_path = |word: &&str| {
        ["crates/", "docs/", "examples/", ".ci/"].iter().any(|start| word.starts_with(start))
    };
    let paths: Vec<_> = page.split(['`', ' ', '\n']).filter(is_path).collect();
    let missing: Vec<_> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "docs/architecture.md names {missing:?}");
    assert!(paths.len() > 30, "only {} paths were found", paths.len());
}

/// The page writes modules as `crate: path`, with the path below `src`, also in its drawings.
#[test]
fn every_module_of_the_page_exists() {
    let page = page();
    let words: Vec<&str> = page.split([' ', '\n', '`', ',', ';', '(', ')']).collect();
    let mut count = 0;
    for pair in words.windows(2) {
        let Some(name) = pair[0].strip_suffix(':').filter(|name| name.starts_with("quant-")) else {
            continue;
        };
        let source = root().join("crates").join(name).join("src");
        assert!(has_module(&source, pair[1]), "{name} has no module {}", pair[1]);
        count += 1;
    }
    assert!(count > 50, "only {count} modules were found");
}

#[test]
fn the_page_lists_every_crate_with_its_dependencies() {
    let page = page();
    let mut names = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| `quant-") && !line.contains(": ")) {
        let cells: Vec<_> = line.split('|').collect();
        let name = quoted(cells[1]).next().expect("a crate's name");
        let listed: BTreeSet<_> = quoted(cells[2]).map(str::to_owned).collect();
        assert_eq!(listed, dependencies(name), "{name}");
        names.insert(name.to_owned());
    }
    assert_eq!(names, published());
}

/// Returns the crates of the workspace that the manifest of a crate lists under `[dependencies]`.
fn dependencies(name: &str) -> BTreeSet<String> {
    let text = manifest(name);
    let rest = text.split("\n[dependencies]\n").nth(1).expect("dependencies");
    let section = rest.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| name.starts_with("quant-")).map(str::to_owned).collect()
}

/// Returns the name that a heading has in links.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn links_between_pages_lead_to_a_file_and_a_heading() {
    let mut pages = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    pages.extend(common::entries(&root().join("docs")));
    pages.extend(common::entries(&root().join("crates")).iter().map(|path| path.join("README.md")));
    let mut count = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|kind| kind == "md")) {
        let Ok(text) = fs::read_to_string(page) else { continue };
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (link, _) in links.filter(|(link, _)| !link.contains([' ', '\n', ':'])) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = page.parent().expect("the folder of a page");
            let target = if path.is_empty() { page.clone() } else { folder.join(path) };
            assert!(target.exists(), "{}: {link}: no such file", page.display());
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).expect("a page");
                let known =
                    text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(known, "{}: {link}: no such heading", page.display());
            }
            count += 1;
        }
    }
    assert!(count > 60, "only {count} links were found");
}
