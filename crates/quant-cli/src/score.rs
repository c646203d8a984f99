//! The score of a network as text.

use std::{error::Error, fmt::Write};

use quant_train::{evaluate::Score, output::plural};

/// Returns a line for each unusable image.
pub(crate) fn skipped_lines(skipped: &[String]) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    for reason in skipped {
        writeln!(text, "skipped: {reason}")?;
    }
    Ok(text)
}

/// Returns the score in one line.
pub(crate) fn score_line(score: &Score) -> Result<String, Box<dyn Error>> {
    let Score { top1, top5, loss, images, skipped } = score;
    let mut text = format!("top-1 {top1:.2} %, top-5 {top5:.2} %, loss {loss:.4} on ");
    text += &plural(*images, "image", "images");
    if *skipped > 0 {
        write!(text, ", {skipped} skipped")?;
    }
    Ok(text)
}
