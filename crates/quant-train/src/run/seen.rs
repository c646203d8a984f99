//! The data and the devices with which a run was started. A run that is resumed with others does
//! not end with the same bits.

use quant_data::{Dataset, Fingerprint};
use serde::{Deserialize, Serialize};

use super::options::RunOptions;
use crate::{classes, devices::device, error::TrainError};

/// The data and the devices of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    train: Fingerprint,
    val: Fingerprint,
    /// The number of processes or devices that train together. Each of them has its share of every
    /// batch.
    processes: usize,
    /// The kind of device, such as `cuda`. Nothing if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

impl Seen {
    pub(crate) fn new(train: &dyn Dataset, val: &dyn Dataset, options: &RunOptions) -> Self {
        Self {
            train: train.fingerprint(),
            val: val.fingerprint(),
            processes: options.group.size(),
            device: device::known(&options.device_name).map(str::to_owned),
        }
    }

    /// Returns the names of the classes.
    pub(crate) fn classes(&self) -> &[String] {
        &self.train.classes
    }

    /// Checks that these are the data and the devices with which a run was started.
    ///
    /// # Errors
    /// [`TrainError::OtherData`] with everything that differs.
    pub(crate) fn check(&self, started: &Self) -> Result<(), TrainError> {
        let mut changes = classes::difference(&started.train.classes, &self.train.classes);
        for (part, started, now) in
            [("training", &started.train, &self.train), ("validation", &started.val, &self.val)]
        {
            if started.images != now.images {
                changes.push(format!("{part} images: {}, expected {}", now.images, started.images));
            } else if started.hash != now.hash {
                changes.push(format!(
                    "{part} images: the same number, but other files or other labels"
                ));
            } else if let (Some(before), Some(found)) = (started.contents, now.contents)
                && before != found
            {
                changes.push(format!(
                    "{part} images: the same files and labels, but other contents: pictures were \
                     replaced or changed"
                ));
            }
        }
        if started.processes != self.processes {
            changes.push(format!(
                "devices or processes: {}, expected {}: each batch would have other images",
                self.processes, started.processes
            ));
        }
        if let (Some(before), Some(now)) = (&started.device, &self.device)
            && before != now
        {
            changes.push(format!(
                "device: {now}, expected {before}, which --device {before} chooses: another kind \
                 of device rounds otherwise"
            ));
        }
        if changes.is_empty() { Ok(()) } else { Err(TrainError::OtherData { changes }) }
    }
}
