//! Checks that the lines of code, of pages and of recipes are short enough to be read side by side.

#[allow(dead_code, reason = "each test program uses only a part")]
mod common;

use std::fs;

use common::{entries, root};

/// The most characters of a line.
const WIDTH: usize = 100;

/// The endings of the files that are checked. Scripts without an ending are checked too.
const KINDS: [&str; 11] = ["c", "css", "h", "html", "js", "md", "mjs", "py", "rs", "sh", "toml"];

/// Folders whose files are built or measured, or come from other programs.
const OTHERS: [&str; 8] =
    ["corpus", "formats", "golden", "models", "node_modules", "pickles", "runs", "target"];

/// Returns whether a line may be long: a row of a table cannot be broken, and neither can a link.
fn may_be_long(kind: &str, line: &str) -> bool {
    let text = line.trim_start_matches(['/', '!', '#', ' ']);
    let is_row = text.starts_with('|') && (kind == "md" || line.trim_start().starts_with("//"));
    is_row || text.split(' ').any(|word| word.contains("](") || word.contains("://"))
}

/// Returns the number and the length of each line of `text` that is too long.
fn too_long(kind: &str, text: &str) -> Vec<(usize, usize)> {
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line, line.chars().count()));
    let long = lines.filter(|(_, line, count)| *count > WIDTH && !may_be_long(kind, line));
    long.map(|(number, _, count)| (number, count)).collect()
}

#[test]
fn characters_are_counted_and_tables_and_links_may_be_long() {
    let long = "α".repeat(WIDTH + 1);
    assert_eq!(too_long("rs", &format!("short\n{long}")), [(2, WIDTH + 1)]);
    assert_eq!(too_long("rs", &"α".repeat(WIDTH)), []);
    assert_eq!(too_long("md", &format!("| {long} |")), []);
    assert_eq!(too_long("rs", &format!("/// | {long} |")), []);
    assert_eq!(too_long("rs", &format!("| {long} |")), [(1, WIDTH + 5)]);
    assert_eq!(too_long("md", &format!("[page](docs/{long}.md)")), []);
}

#[test]
fn no_line_is_longer_than_100_characters() {
    let root = root();
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    let mut checked = 0;
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                let hidden = name.starts_with('.') && name != ".ci";
                if !hidden && !OTHERS.contains(&name.as_str()) {
                    folders.push(path);
                }
                continue;
            }
            let kind = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            let is_script = kind.is_empty() && folder.ends_with(".ci");
            if !is_script && !KINDS.contains(&kind.as_str()) {
                continue;
            }
            // A link to a file that is gone is not source code.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            checked += 1;
            let file = path.strip_prefix(&root).expect("a file of the workspace").display();
            let lines = too_long(&kind, &text).into_iter();
            found
                .extend(lines.map(|(line, count)| format!("{file}:{line} has {count} characters")));
        }
    }
    assert!(checked > 500, "only {checked} files were found");
    assert!(found.is_empty(), "lines above {WIDTH} characters:\n{}", found.join("\n"));
}
