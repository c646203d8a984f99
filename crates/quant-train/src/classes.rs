//! Differences between the classes of data and of networks.

use std::{collections::BTreeSet, path::Path};

use crate::{error::TrainError, output::plural, recipe::data::DataKind};

/// Returns the difference between two lists of classes, or nothing if they are equal.
pub(crate) fn difference(expected: &[String], found: &[String]) -> Vec<String> {
    if expected == found {
        return Vec::new();
    }
    let first = first_difference(expected, found);
    if expected.len() == found.len() {
        return vec![first];
    }
    vec![format!(
        "classes: {}, expected {}; first that differs: {first}",
        found.len(),
        expected.len()
    )]
}

/// Describes the first class that differs between two lists that are not equal.
fn first_difference(expected: &[String], found: &[String]) -> String {
    let pairs = expected.iter().zip(found);
    let label = pairs.take_while(|(expected, found)| expected == found).count();
    match (expected.get(label), found.get(label)) {
        (Some(expected), Some(found)) => format!("class {label}: {found:?}, expected {expected:?}"),
        (Some(expected), None) => format!("class {label}: missing, expected {expected:?}"),
        (None, Some(found)) => format!("class {label}: {found:?}, expected no further class"),
        (None, None) => "none".to_owned(),
    }
}

/// Checks that the labels of data mean the classes that a network was trained on. `names` are the
/// names of the network's classes, which are empty if they are not known, and `outputs` is their
/// number. `file` is the network's, and `data` the folder of the data with the classes `found`.
///
/// # Errors
/// [`TrainError::Classes`] if only the numbers of classes are known, and they differ;
/// [`TrainError::OtherClasses`] if the names differ.
pub(crate) fn check_labels(
    (file, names, outputs): (&Path, &[String], usize),
    (data, kind, found): (&Path, DataKind, &[String]),
) -> Result<(), TrainError> {
    // Labels that are numbers, and not places in a list of names, mean the same in every part of a
    // data set, also in a part that lacks the highest of them.
    let numbers = kind != DataKind::ImageFolder
        && found.iter().enumerate().all(|(label, name)| *name == label.to_string());
    let unknown = names.is_empty();
    if numbers && (unknown && found.len() <= outputs || names.starts_with(found)) {
        return Ok(());
    }
    if unknown && found.len() != outputs {
        let path = file.to_owned();
        return Err(TrainError::Classes { path, network: outputs, data: found.len() });
    }
    if unknown || names == found {
        return Ok(());
    }
    let mut change = format!(
        "the network has {}, the data {}; first that differs: {}",
        plural(names.len(), "class", "classes"),
        found.len(),
        first_difference(names, found)
    );
    let known: BTreeSet<&String> = names.iter().collect();
    let subset = found.iter().all(|name| known.contains(name));
    change.push_str(if subset && kind == DataKind::ImageFolder {
        ". Every class of the data is one of the network's: with a folder train beside val, which \
         has a folder with a picture for each of the network's classes, the labels are matched by \
         name, and val may lack some of the classes"
    } else {
        ". Evaluate the network on data with its own classes"
    });
    Err(TrainError::OtherClasses { path: data.to_owned(), change })
}
