//! What a run was started on: its data and its devices. A run that is resumed on others does not end with
//! the same bits.

use std::path::Path;

use quant_data::Dataset;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// The data and the devices of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    train: Fingerprint,
    val: Fingerprint,
    /// Processes or devices that train together: each has its share of every batch.
    processes: usize,
}

/// What tells one data set from another, wherever it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fingerprint {
    classes: Vec<String>,
    images: usize,
    /// Of the images' names and labels, in order: FNV-1a in 64 bits, in hexadecimal digits.
    hash: String,
}

impl Fingerprint {
    fn of(data: &dyn Dataset) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut take = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for index in 0..data.len() {
            let name = data.name(index);
            // The folder of the data may be another one later: class and file stay.
            let mut parts = Path::new(&name).components().rev();
            for part in [parts.next(), parts.next()].into_iter().flatten() {
                take(part.as_os_str().as_encoded_bytes());
                take(&[0]);
            }
            take(&data.label(index).to_le_bytes());
        }
        Self { classes: data.classes().to_vec(), images: data.len(), hash: format!("{hash:016x}") }
    }
}

impl Seen {
    pub(crate) fn new(train: &dyn Dataset, val: &dyn Dataset, processes: usize) -> Self {
        Self { train: Fingerprint::of(train), val: Fingerprint::of(val), processes }
    }

    /// Names of the classes.
    pub(crate) fn classes(&self) -> &[String] {
        &self.train.classes
    }

    /// Checks that these are the data and devices that a run was started with.
    ///
    /// # Errors
    /// [`TrainError::OtherData`] with all that differs.
    pub(crate) fn check(&self, started: &Self) -> Result<(), TrainError> {
        let mut changes = classes(&started.train.classes, &self.train.classes);
        for (part, started, now) in
            [("training", &started.train, &self.train), ("validation", &started.val, &self.val)]
        {
            if started.images != now.images {
                changes.push(format!("{part} images: {}, expected {}", now.images, started.images));
            } else if started.hash != now.hash {
                changes.push(format!("{part} images: as many, but other files or other labels"));
            }
        }
        if started.processes != self.processes {
            changes.push(format!(
                "devices or processes: {}, expected {}: each batch would be of other images",
                self.processes, started.processes
            ));
        }
        match changes.is_empty() {
            true => Ok(()),
            false => Err(TrainError::OtherData { changes }),
        }
    }
}

/// What differs between two lists of classes.
pub(crate) fn classes(expected: &[String], found: &[String]) -> Vec<String> {
    if expected == found {
        return Vec::new();
    }
    if expected.len() != found.len() {
        return vec![format!("classes: {}, expected {}", found.len(), expected.len())];
    }
    let pair = expected.iter().zip(found).enumerate().find(|(_, (a, b))| a != b);
    pair.map(|(label, (expected, found))| {
        format!("class {label}: {found:?}, expected {expected:?}")
    })
    .into_iter()
    .collect()
}
