//! The validation part of Tiny ImageNet: one folder of images, and a file that gives the class of
//! each image.

use std::{collections::BTreeMap, path::Path};

use crate::{error::DataError, files};

/// Name of the file.
pub(super) const FILE: &str = "val_annotations.txt";

/// Name of the folder beside the file.
pub(super) const FOLDER: &str = "images";

/// Returns the class of every image, in the order of `images`. A line of the file holds, separated
/// by tabs, the name of an image, the name of its class, and four numbers of a bounding box, which
/// are not used.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Annotations`] for a line in another form, an image without a
/// line, and a line without an image.
pub(super) fn read(path: &Path, images: &[String]) -> Result<Vec<String>, DataError> {
    let fail = |reason: String| DataError::Annotations { path: path.to_owned(), reason };
    let text = files::read_text(path)?;
    let mut classes = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let mut fields = line.split('\t').map(str::trim).filter(|field| !field.is_empty());
        let (Some(image), Some(class)) = (fields.next(), fields.next()) else {
            let expected = "expected the name of an image, a tab and the name of its class";
            return Err(fail(format!("line {number} is {line:?}: {expected}")));
        };
        if classes.insert(image, class).is_some() {
            return Err(fail(format!("line {number} gives the image {image} a second class")));
        }
    }
    let missing: Vec<&str> =
        images.iter().map(String::as_str).filter(|image| !classes.contains_key(image)).collect();
    if !missing.is_empty() {
        let missing = some(&missing);
        return Err(fail(format!("it has no line for {missing} of the folder {FOLDER}")));
    }
    let found = images.iter().map(|image| classes.remove(image.as_str()).unwrap_or_default());
    let found = found.map(str::to_owned).collect();
    let left: Vec<&str> = classes.into_keys().collect();
    if left.is_empty() {
        Ok(found)
    } else {
        Err(fail(format!("the folder {FOLDER} has no image {}", some(&left))))
    }
}

/// Joins the first names, and says how many more there are.
fn some(names: &[&str]) -> String {
    let first = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        ..=3 => first,
        count => format!("{first} and {} more", count - 3),
    }
}
