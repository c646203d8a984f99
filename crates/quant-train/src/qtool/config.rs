//! QTool's configuration files, which are shell scripts of assignments.

use std::collections::BTreeMap;

/// The variables of a configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShellConfig {
    /// The values of the variables after the last line.
    pub variables: BTreeMap<String, String>,
    /// Warnings about lines that are not assignments, and about unknown variables.
    pub warnings: Vec<String>,
}

/// The largest length of a value in bytes. Without it, a variable that contains itself twice would
/// double with every line.
const LONGEST: usize = 1 << 20;

impl ShellConfig {
    /// Reads assignments of the form `name=value`, with or without quotes. Lines may begin with
    /// blanks, and `#` begins a comment. `$name` and `${name}` are replaced by the value of the
    /// variable so far, or else by that in `outside` (such as `FASTDIR`). The last assignment of a
    /// variable counts. Nothing is executed.
    pub fn parse(text: &str, outside: &BTreeMap<String, String>) -> Self {
        let mut config = Self::default();
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let mut line = line.to_owned();
            // A line with a backslash at its end, or with an open quote, continues on the next
            // line.
            while line.ends_with('\\') || open_quote(&line) {
                let Some((_, next)) = lines.next() else { break };
                if line.ends_with('\\') {
                    line.pop();
                } else {
                    line.push(' ');
                }
                line.push_str(next);
            }
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let trimmed = trimmed.strip_prefix("export ").unwrap_or(trimmed).trim_start();
            match trimmed.split_once('=') {
                Some((name, value)) if is_name(name) => {
                    let value = config.value(value, outside, number + 1);
                    config.variables.insert(name.to_owned(), value);
                }
                _ => config
                    .warnings
                    .push(format!("line {}: not an assignment: {trimmed}", number + 1)),
            }
        }
        config
    }

    fn value(&mut self, text: &str, outside: &BTreeMap<String, String>, line: usize) -> String {
        let (mut value, mut quote) = (String::new(), None);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                // Outside of quotes, a blank ends the value.
                (c, None) if c.is_whitespace() || c == ';' => break,
                ('\\', None | Some('"')) => value.extend(chars.next()),
                ('$', None | Some('"')) => {
                    let braced = chars.next_if_eq(&'{').is_some();
                    let mut name = String::new();
                    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                        name.push(c);
                    }
                    if braced {
                        chars.next_if_eq(&'}');
                    }
                    match self.variables.get(&name).or_else(|| outside.get(&name)) {
                        Some(known) if value.len() + known.len() > LONGEST => {
                            let warning =
                                format!("line {line}: ${name} would make the value too long");
                            self.warnings.push(warning);
                        }
                        Some(known) => value.push_str(known),
                        // In a shell an unknown variable is empty. The first `options="$options
                        // ..."` relies on it.
                        None if name == "options" => {}
                        None => self.warnings.push(format!("line {line}: ${name} is not known")),
                    }
                }
                (c, _) => value.push(c),
            }
        }
        value
    }

    /// Returns the value of a variable, or `None` if it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn open_quote(line: &str) -> bool {
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('#', None) => return false,
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    quote.is_some()
}

fn is_name(text: &str) -> bool {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ShellConfig {
        let outside = BTreeMap::from([("FASTDIR".to_owned(), "/fast".to_owned())]);
        ShellConfig::parse(text, &outside)
    }

    #[test]
    fn assignments_expand_and_the_last_one_wins() {
        let config = parse(
            "# a comment\n  dataset=cifar100 # and another\n\nroot=$FASTDIR/data/${dataset}\n\
             model='$x'\noptions=\"--lr 0.1\"\n  options=\"$options --wd 1e-4\"\n\
             dataset=\"cifar10\"\n",
        );
        let expected = [
            ("dataset", "cifar10"),
            ("model", "$x"),
            ("options", "--lr 0.1 --wd 1e-4"),
            ("root", "/fast/data/cifar100"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(config.variables, BTreeMap::from(expected));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn lines_go_on_after_a_backslash_and_within_quotes() {
        let config = parse("a=\"1\n2\"\nb=3\\\n4\n");
        assert_eq!((config.get("a"), config.get("b")), (Some("1 2"), Some("34")));
    }

    #[test]
    fn a_variable_that_doubles_itself_stays_small() {
        let config = parse(&format!("x=12\n{}", "x=$x$x\n".repeat(64)));
        assert!(config.variables["x"].len() <= LONGEST);
        assert!(config.warnings[0].contains("too long"), "{:?}", config.warnings[0]);
    }

    #[test]
    fn what_is_not_understood_is_a_warning_and_nothing_runs() {
        let config = parse("echo hello\nroot=$NOWHERE/data\nrm -rf x\na=`b`\n");
        assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
        assert!(config.warnings[1].contains("NOWHERE"));
        assert_eq!(config.get("a"), Some("`b`"));
    }
}
