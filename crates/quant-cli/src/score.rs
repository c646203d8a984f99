//! The scores of networks and of pictures as text.

use std::{error::Error, fmt::Write, path::Path};

use quant_infer::{Network, top_k};
use quant_train::{evaluate::Score, output::plural};
use serde_json::{Value, json};

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

/// Returns a line with the name of a picture, its best classes, and their scores.
pub(crate) fn picture_line(
    network: &Network,
    picture: &Path,
    scores: &[f32],
    top: usize,
) -> String {
    let best = network.top_k(scores, top).into_iter();
    let best: Vec<String> = best.map(|(class, score)| format!("{class} {score:.3}")).collect();
    format!("{}: {}", picture.display(), best.join(", "))
}

/// Returns a JSON object with the name of a picture, its best classes with their indices and
/// scores, and the scores of all classes by their indices.
pub(crate) fn picture_json(
    network: &Network,
    picture: &Path,
    scores: &[f32],
    top: usize,
) -> String {
    let names = network.top_k(scores, top).into_iter().map(|(class, _)| class);
    let best: Vec<Value> = (names.zip(top_k(scores, top)))
        .map(|(class, (index, score))| json!({ "class": class, "index": index, "score": score }))
        .collect();
    let picture = picture.display().to_string();
    json!({ "picture": picture, "best": best, "scores": scores }).to_string()
}
