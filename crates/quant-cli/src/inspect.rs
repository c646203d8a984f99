//! The command `quant inspect`: the contents of a file of weights or of a packed network.

use std::{error::Error, fmt::Write, path::Path};

use crate::{
    networks::{WeightsArguments, is_packed, no_effect},
    packed,
};

/// Returns a table of the entries of a file of weights: their names, shapes and types, and the
/// smallest and the largest value of each. The file's metadata come first. For a packed network,
/// the table has one line for each node.
///
/// # Errors
/// As [`WeightsFile::read`](quant_train::WeightsFile::read); and for options that have no effect.
pub fn inspect(file: &Path, reading: &WeightsArguments) -> Result<String, Box<dyn Error>> {
    if is_packed(file) {
        let given = [("--key", reading.key.is_some()), ("--map", reading.map.is_some())];
        no_effect(&given, "a packed network")?;
        return packed::describe(file);
    }
    let state = reading.file(file).read()?;
    let mut text = String::new();
    for (key, value) in state.metadata() {
        writeln!(text, "{key}: {value}")?;
    }
    let (name, shape, kind) = ("name", "shape", "type");
    writeln!(text, "{name:<52} {shape:<16} {kind:<5} {:>12} {:>12}", "smallest", "largest")?;
    let mut elements = 0;
    for (name, entry) in state.entries() {
        let shape: Vec<String> = entry.shape.iter().map(usize::to_string).collect();
        let (low, high) = (entry.values.iter())
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
        let unusual = match entry.values.iter().filter(|x| !x.is_finite()).count() {
            0 => String::new(),
            count => format!("   {count} not finite"),
        };
        let shape = shape.join("x");
        let kind = state.stored_type(name).unwrap_or("-");
        writeln!(text, "{name:<52} {shape:<16} {kind:<5} {low:>12.5} {high:>12.5}{unusual}")?;
        elements += entry.values.len();
    }
    write!(text, "{} entries, {elements} elements", state.entries().count())?;
    Ok(text)
}
