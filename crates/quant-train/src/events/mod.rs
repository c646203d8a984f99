//! What happens in a run: a log of JSON lines, a terminal display, and at the end a report.

pub mod report;
mod terminal;

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use quant_core::CalibrationInfo;
use quant_nn::NetworkSummary;
use serde::{Deserialize, Serialize};

use crate::{error::TrainError, evaluate::Score};
use terminal::Terminal;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run began or went on.
    RunStarted {
        /// Name of the recipe.
        name: String,
        /// The device.
        device: String,
        /// Training images.
        train_images: usize,
        /// Validation images.
        val_images: usize,
        /// Names of the classes.
        classes: Vec<String>,
        /// Whether it was resumed.
        resumed: bool,
    },
    /// A phase began or went on.
    PhaseStarted {
        /// Its name.
        phase: String,
        /// Optimizer steps already done.
        step: usize,
        /// The network.
        summary: NetworkSummary,
    },
    /// Clipping values were found from data.
    Calibrated {
        /// The phase.
        phase: String,
        /// What each quantizer got.
        quantizers: Vec<CalibrationInfo>,
    },
    /// A few steps were done.
    Progress {
        /// The phase.
        phase: String,
        /// Epoch, from 0.
        epoch: usize,
        /// Optimizer steps of the phase so far.
        step: usize,
        /// Batches of the epoch so far.
        batch: usize,
        /// Batches of an epoch.
        batches: usize,
        /// Mean loss of these steps.
        loss: f32,
        /// Learning rate of the next.
        learning_rate: f64,
        /// Training speed of these steps.
        images_per_second: f64,
    },
    /// An epoch ended and was evaluated.
    EpochFinished {
        /// The phase.
        phase: String,
        /// Epoch, from 0.
        epoch: usize,
        /// Epochs of the phase.
        epochs: usize,
        /// Mean training loss.
        train_loss: f64,
        /// Training accuracy in percent, while the network was changing.
        train_top1: f64,
        /// On the validation images.
        val: Score,
    },
    /// An image could not be used.
    ImageSkipped {
        /// Which, and why.
        reason: String,
    },
    /// Something is wrong, but training goes on.
    Warning {
        /// What.
        message: String,
    },
    /// A phase ended.
    PhaseFinished {
        /// Its name.
        phase: String,
        /// Its last network's score.
        last: Score,
        /// Epoch of its best network.
        best_epoch: usize,
        /// That one's score.
        best: Score,
    },
}

/// Where events go.
pub struct Events {
    path: PathBuf,
    log: File,
    terminal: Option<Terminal>,
}

impl Events {
    /// Appends to the log at `path`; shows progress on the terminal if asked.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the log cannot be opened.
    pub fn open(path: &Path, terminal: bool) -> Result<Self, TrainError> {
        let log = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self {
            path: path.to_owned(),
            log: log.map_err(TrainError::io(path))?,
            terminal: terminal.then(Terminal::default),
        })
    }

    /// Logs and shows an event.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the log cannot be written.
    pub fn emit(&mut self, event: &Event) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(event).unwrap_or_default();
        line.push('\n');
        self.log.write_all(line.as_bytes()).map_err(TrainError::io(&self.path))?;
        if let Some(terminal) = &mut self.terminal {
            terminal.show(event);
        }
        Ok(())
    }
}

/// The events of a log. Lines that are cut off, as when the machine stopped, are passed over.
///
/// # Errors
/// [`TrainError::Io`] where the log cannot be read.
pub fn read_log(path: &Path) -> Result<Vec<Event>, TrainError> {
    let file = File::open(path).map_err(TrainError::io(path))?;
    let mut events = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(TrainError::io(path))?;
        events.extend(serde_json::from_str::<Event>(&line));
    }
    Ok(events)
}
