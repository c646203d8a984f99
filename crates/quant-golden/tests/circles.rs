//! Checks that no files of a crate need each other in a circle, so that each can be read after the
//! files that it uses. The graph is drawn from the paths in the source. Paths that macros put
//! together from their arguments are not seen.

#[allow(dead_code, reason = "each test program uses only a part")]
mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::sources;

/// The crates whose files and folders directly below `src` need each other in a circle. Remove a
/// crate from this list when it has none, and add none.
const FOLDERS_LEFT: [&str; 4] = ["quant-cli", "quant-core", "quant-data", "quant-nn"];

/// The names of modules from the root of the crate: empty for `lib.rs`.
type Module = Vec<String>;

/// A path as it stands in the code.
type Names = Vec<String>;

/// A source file of a crate.
#[derive(Default)]
struct Source {
    /// The path below `src`.
    file: String,
    /// The names that `use` brings into the module, each with its path.
    imports: BTreeMap<String, Names>,
    /// The paths that the module needs. What a module with submodules exports again is not needed.
    paths: Vec<Names>,
}

/// Returns code without the modules that are written inside it.
fn without_inner_modules(code: &str) -> String {
    let mut kept = String::new();
    let mut end: Option<String> = None;
    for line in code.lines() {
        let text = line.trim_start();
        if let Some(close) = &end {
            if line == close {
                end = None;
            }
            continue;
        }
        let declared = text.strip_prefix("pub(crate) ").or(text.strip_prefix("pub "));
        let declared = declared.unwrap_or(text);
        if declared.starts_with("mod ") && declared.ends_with('{') {
            end = Some(format!("{}}}", &line[..line.len() - text.len()]));
        } else {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

/// Returns the paths of a tree such as `a::{b, c::{d, e as f}}`, each with its name in the module.
fn branches(tree: &str) -> Vec<(String, Names)> {
    if let Some((before, rest)) = tree.split_once('{') {
        let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
        let mut depth = 0;
        let parts = inside.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        let parts = parts.map(str::trim).filter(|part| !part.is_empty());
        return parts.flat_map(|part| branches(&format!("{before}{part}"))).collect();
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut path: Names = path.split("::").map(|name| name.trim().to_owned()).collect();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self" || last == "*") {
        path.pop();
    }
    let name = if alias.is_empty() { path.last().cloned() } else { Some(alias.trim().to_owned()) };
    vec![(name.unwrap_or_default(), path)]
}

/// Returns the imports and the other code of a module. An import is whether it is public, and its
/// tree.
fn split_imports(code: &str) -> (Vec<(bool, String)>, String) {
    let (mut imports, mut rest) = (Vec::new(), String::new());
    let mut open: Option<(bool, String)> = None;
    for line in code.lines() {
        let text = line.trim();
        if open.is_none() {
            let (before, tree) = text.split_once("use ").unwrap_or((text, ""));
            let is_public = before.starts_with("pub") && !before.starts_with("pub(in");
            if tree.is_empty() || !(before.is_empty() || is_public && !before.contains("fn")) {
                rest += line;
                rest.push('\n');
                continue;
            }
            open = Some((is_public, tree.to_owned()));
        } else if let Some((_, tree)) = &mut open {
            tree.push(' ');
            *tree += text;
        }
        if let Some((is_public, tree)) = open.take_if(|(_, tree)| tree.ends_with(';')) {
            imports.push((is_public, tree.trim_end_matches(';').to_owned()));
        }
    }
    (imports, rest)
}

/// Returns the paths of code that is no import. Those that say who sees an item do not count.
fn paths(code: &str) -> Vec<Names> {
    let mut seen_by = code.split("pub(in ");
    let first = seen_by.next().unwrap_or_default().to_owned();
    let code =
        seen_by.fold(first, |code, rest| code + rest.split_once(')').map_or("", |(_, rest)| rest));
    let words = code.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
    let words = words.map(|word| word.trim_end_matches(':')).filter(|word| word.contains("::"));
    words.map(|word| word.split("::").map(str::to_owned).collect()).collect()
}

/// The modules of a crate.
struct Crate(BTreeMap<Module, Source>);

impl Crate {
    /// Reads the code of files, each with its path below `src`.
    fn new(files: &[(String, String)]) -> Self {
        let module = |file: &str| -> Module {
            let names = file.trim_end_matches(".rs").split('/').map(str::to_owned);
            let mut names: Module = names.collect();
            names.pop_if(|last| ["lib", "main", "mod"].contains(&last.as_str()));
            names
        };
        let all: BTreeSet<Module> = files.iter().map(|(file, _)| module(file)).collect();
        let read = |(file, code): &(String, String)| {
            let name = module(file);
            let is_parent =
                all.iter().any(|other| other.len() > name.len() && other.starts_with(&name));
            let (trees, code) = split_imports(&without_inner_modules(code));
            let mut source = Source { file: file.clone(), ..Source::default() };
            for (is_public, tree) in trees {
                for (name, path) in branches(&tree) {
                    if !(is_public && is_parent) {
                        source.paths.push(path.clone());
                    }
                    source.imports.insert(name, path);
                }
            }
            source.paths.extend(paths(&code));
            (name, source)
        };
        Self(files.iter().map(read).collect())
    }

    /// Returns the path from the root of the crate of a path in a module, or `None` for a path of
    /// another crate or of a local name.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let joined = |names: &[String], rest: &[String]| [names, rest].concat();
        let up = path.iter().take_while(|name| *name == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some(joined(module, &path[1..])),
            "super" => Some(joined(&module[..module.len().checked_sub(up)?], &path[up..])),
            _ => self.0.contains_key(&joined(module, &path[..1])).then(|| joined(module, path)),
        }
    }

    /// Returns the module that has what a path names: where a module only imports it, the module
    /// that it is imported from.
    fn owner(&self, path: &[String], depth: usize) -> Option<Module> {
        let is_module = |count: &usize| self.0.contains_key(&path[..*count]);
        let mut count = 0;
        while count < path.len() && is_module(&(count + 1)) {
            count += 1;
        }
        let module = path[..count].to_vec();
        let import = path.get(count).and_then(|name| self.0.get(&module)?.imports.get(name));
        match import {
            Some(import) if depth < 8 => {
                let target = self.absolute(&module, import)?;
                self.owner(&[&target[..], &path[count + 1..]].concat(), depth + 1)
            }
            _ => Some(module),
        }
    }

    /// Returns the modules that each module needs.
    fn edges(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let needed = |(module, source): (&Module, &Source)| {
            let paths = source.paths.iter().filter_map(|path| self.absolute(module, path));
            let targets = paths.filter_map(|path| self.owner(&path, 0));
            (module.clone(), targets.filter(|other| self.0.contains_key(other)).collect())
        };
        self.0.iter().map(needed).collect()
    }

    /// Returns the circles, each with the files that need each other.
    fn circles(&self) -> BTreeSet<BTreeSet<String>> {
        let file = |module: &Module| self.0[module].file.clone();
        circles(&self.edges()).iter().map(|circle| circle.iter().map(file).collect()).collect()
    }

    /// Returns the circles of the files and folders directly below `src`.
    fn folder_circles(&self) -> BTreeSet<BTreeSet<String>> {
        let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, needed) in self.edges() {
            let Some(folder) = module.first() else { continue };
            let needed = needed.iter().filter_map(|other| other.first().cloned());
            folders.entry(folder.clone()).or_default().extend(needed);
        }
        circles(&folders)
    }
}

/// Returns the circles of a graph: the sets of two or more nodes, each of which leads to all others
/// of its set.
fn circles<N: Clone + Ord>(edges: &BTreeMap<N, BTreeSet<N>>) -> BTreeSet<BTreeSet<N>> {
    let reached = |node: &N| {
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<&N> = edges[node].iter().collect();
        while let Some(next) = waiting.pop() {
            if reached.insert(next) {
                waiting.extend(edges.get(next).into_iter().flatten());
            }
        }
        reached
    };
    let reached: BTreeMap<&N, BTreeSet<&N>> =
        edges.keys().map(|node| (node, reached(node))).collect();
    let circle = |node: &N| -> BTreeSet<N> {
        let others = reached[node].iter().filter(|other| reached[**other].contains(node));
        others.map(|other| (*other).clone()).collect()
    };
    edges.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// Returns the crates of the workspace by their names.
fn crates() -> BTreeMap<String, Crate> {
    let mut files: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (path, code) in sources() {
        let (name, file) = path.split_once("/src/").expect("a file below src");
        files.entry(name.to_owned()).or_default().push((file.to_owned(), code));
    }
    files.into_iter().map(|(name, files)| (name, Crate::new(&files))).collect()
}

#[test]
fn circles_of_two_and_of_three_files_are_found() {
    let files = |files: &[(&str, &str)]| {
        let owned = files.iter().map(|(file, code)| ((*file).to_owned(), (*code).to_owned()));
        Crate::new(&owned.collect::<Vec<_>>()).circles()
    };
    let circle = |files: &[&str]| -> BTreeSet<BTreeSet<String>> {
        [files.iter().map(|file| (*file).to_owned()).collect()].into()
    };
    // Through an import, a path and a name that a parent exports again.
    let found = files(&[
        ("lib.rs", "mod a;\nmod b;\npub use b::{\n    B,\n    c::{C as D},\n};"),
        ("a.rs", "use crate::{B, other};"),
        ("b/mod.rs", "pub struct B(c::C);"),
        ("b/c.rs", "fn f() { crate::a::f() }"),
    ]);
    assert_eq!(found, circle(&["a.rs", "b/mod.rs", "b/c.rs"]));
    let found = files(&[
        ("lib.rs", "pub use b::c::C as D;"),
        ("b/mod.rs", "mod c;"),
        ("b/c.rs", "use super::super::a;"),
        ("a.rs", "fn f() -> Option<crate::D> {}"),
    ]);
    assert_eq!(found, circle(&["a.rs", "b/c.rs"]));
    // What a parent imports from another crate, and modules inside of a file, are no circle.
    let found = files(&[
        ("lib.rs", ""),
        ("a/mod.rs", "pub use other::X;\nfn f() { b::f() }"),
        ("a/b.rs", "use super::X;\nmod inner {\n    use super::Y;\n}\nuse std::fmt;"),
    ]);
    assert_eq!(found, BTreeSet::new());
}

#[test]
fn files_do_not_need_each_other_in_a_circle() {
    let found = crates().into_iter().flat_map(|(name, graph)| {
        let circles = graph.circles().into_iter();
        circles.map(move |circle| format!("{name}: {circle:?}"))
    });
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "these files need each other:\n{}", found.join("\n"));
}

#[test]
fn folders_do_not_need_each_other_in_a_circle() {
    let found = crates().into_iter().map(|(name, graph)| (name, graph.folder_circles()));
    let found: BTreeMap<_, _> = found.filter(|(_, circles)| !circles.is_empty()).collect();
    let names: Vec<&String> = found.keys().collect();
    assert_eq!(names, FOLDERS_LEFT, "{found:?}");
}
