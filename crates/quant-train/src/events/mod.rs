//! What happens in a run: a log of JSON lines, a terminal display, event files for TensorBoard, and at the end a
//! report.

#[cfg(feature = "tui")]
mod dashboard;
pub mod report;
mod tensorboard;
mod terminal;

#[cfg(feature = "tui")]
use std::io::IsTerminal;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use quant_core::CalibrationInfo;
use quant_nn::NetworkSummary;
use serde::{Deserialize, Serialize};

use crate::{error::TrainError, evaluate::Score, monitor::Health, precision::LossScale};
use tensorboard::TensorBoard;
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
    /// The recipe, the data or the devices of a run that goes on are others than before.
    Changed {
        /// What changed, one change in each.
        changes: Vec<String>,
    },
    /// A phase began or went on.
    PhaseStarted {
        /// Its name.
        phase: String,
        /// Optimizer steps already done.
        step: usize,
        /// Epochs already done.
        #[serde(default)]
        epoch: usize,
        /// The network.
        summary: NetworkSummary,
    },
    /// Weights were read from a file.
    WeightsLoaded {
        /// The phase.
        phase: String,
        /// The file.
        path: String,
        /// What became of its entries.
        report: String,
    },
    /// The quantizers have their first parameters.
    Calibrated {
        /// The phase.
        phase: String,
        /// What each quantizer got whose parameters were found from data.
        quantizers: Vec<CalibrationInfo>,
        /// Quantizers that keep the parameters that the weights came with.
        #[serde(default)]
        kept: Vec<String>,
        /// Quantizers that are left at their defaults.
        #[serde(default)]
        untouched: Vec<String>,
    },
    /// A few steps were done.
    Progress {
        /// The phase.
        phase: String,
        /// Epoch, from 0.
        epoch: usize,
        /// Epochs of the phase.
        #[serde(default)]
        epochs: usize,
        /// Optimizer steps of the phase so far.
        step: usize,
        /// Batches of the epoch so far.
        batch: usize,
        /// Batches of an epoch.
        batches: usize,
        /// Mean loss of these steps.
        #[serde(deserialize_with = "quant_core::number::or_nan_f32")]
        loss: f32,
        /// Learning rate of the next.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        learning_rate: f64,
        /// Training speed of these steps.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
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
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        train_loss: f64,
        /// Training accuracy in percent, while the network was changing.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        train_top1: f64,
        /// On the validation images.
        val: Score,
        /// The loss scale of mixed precision, and how many steps it has cost.
        #[serde(default)]
        loss_scale: Option<LossScale>,
    },
    /// How the quantizers fared in an epoch.
    QuantizerHealth {
        /// The phase.
        phase: String,
        /// Epoch, from 0.
        epoch: usize,
        /// The quantizers that quantize.
        quantizers: Vec<Health>,
    },
    /// How the weights of a quantized layer are distributed after an epoch.
    WeightHistogram {
        /// The phase.
        phase: String,
        /// Epoch, from 0.
        epoch: usize,
        /// The layer.
        layer: String,
        /// The smallest weight.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        low: f64,
        /// The largest.
        #[serde(deserialize_with = "quant_core::number::or_nan")]
        high: f64,
        /// Weights in each of the evenly spaced bins between.
        bins: Vec<u64>,
    },
    /// A policy changed quantizers.
    PolicyApplied {
        /// The phase.
        phase: String,
        /// Optimizer steps before it.
        step: usize,
        /// Its index in the recipe.
        policy: usize,
        /// The quantizers.
        layers: Vec<String>,
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
    log: Option<File>,
    terminal: Option<Terminal>,
    board: Option<TensorBoard>,
    #[cfg(feature = "tui")]
    dashboard: Option<dashboard::Dashboard>,
}

impl Events {
    /// Appends to the log at `path`; shows progress on the terminal if asked.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the log cannot be opened.
    pub fn open(path: &Path, terminal: bool) -> Result<Self, TrainError> {
        // A line that was cut off must not take the next one with it.
        let cut_off = fs::read(path).is_ok_and(|log| log.last().is_some_and(|last| *last != b'\n'));
        let log = OpenOptions::new().create(true).append(true).open(path);
        let mut log = log.map_err(TrainError::io(path))?;
        if cut_off {
            log.write_all(b"\n").map_err(TrainError::io(path))?;
        }
        Ok(Self {
            path: path.to_owned(),
            log: Some(log),
            terminal: terminal.then(Terminal::default),
            board: None,
            #[cfg(feature = "tui")]
            dashboard: None,
        })
    }

    /// Goes nowhere: of a process that leaves reporting to another.
    pub fn silent() -> Self {
        Self {
            path: PathBuf::new(),
            log: None,
            terminal: None,
            board: None,
            #[cfg(feature = "tui")]
            dashboard: None,
        }
    }

    /// Writes event files for TensorBoard below `folder` too.
    #[must_use]
    pub fn with_tensorboard(mut self, folder: &Path) -> Self {
        self.board = Some(TensorBoard::new(folder));
        self
    }

    /// Shows Burn's dashboard instead of progress bars, where there is a terminal. Its "stop" asks `stop`.
    #[cfg(feature = "tui")]
    #[must_use]
    pub fn with_dashboard(mut self, stop: crate::Stop) -> Self {
        if self.terminal.is_some() && std::io::stdout().is_terminal() {
            self.terminal = None;
            self.dashboard = Some(dashboard::Dashboard::new(stop));
        }
        self
    }

    /// Logs and shows an event.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the log cannot be written.
    pub fn emit(&mut self, event: &Event) -> Result<(), TrainError> {
        // Histograms are for TensorBoard alone: the log stays readable.
        if let (Some(log), false) = (&mut self.log, matches!(event, Event::WeightHistogram { .. }))
        {
            let mut line = serde_json::to_string(event).unwrap_or_default();
            line.push('\n');
            log.write_all(line.as_bytes()).map_err(TrainError::io(&self.path))?;
        }
        if let Some(terminal) = &mut self.terminal {
            terminal.show(event);
        }
        #[cfg(feature = "tui")]
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.show(event);
        }
        if let Some(board) = &mut self.board {
            board.show(event)?;
        }
        Ok(())
    }
}

/// The events of a log. Lines that are cut off, as when the machine stopped, are passed over.
///
/// # Errors
/// [`TrainError::Io`] where the log cannot be read.
pub fn read_log(path: &Path) -> Result<Vec<Event>, TrainError> {
    let log = fs::read(path).map_err(TrainError::io(path))?;
    let events = log.split(|byte| *byte == b'\n').map(serde_json::from_slice);
    Ok(events.filter_map(Result::ok).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_number_is_logged_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let event = |loss: f32, rate: f64| Event::Progress {
            phase: "p".into(),
            epoch: 0,
            epochs: 1,
            step: 1,
            batch: 1,
            batches: 2,
            loss,
            learning_rate: rate,
            images_per_second: f64::INFINITY,
        };
        let mut events = Events::open(&path, false).unwrap();
        events.emit(&event(f32::NAN, f64::NEG_INFINITY)).unwrap();
        events.emit(&event(1.5, 0.25)).unwrap();
        let read = read_log(&path).unwrap();
        assert_eq!(read.len(), 2);
        assert!(matches!(read[0], Event::Progress { loss, .. } if loss.is_nan()));
        assert!(matches!(read[1], Event::Progress { loss: 1.5, learning_rate: 0.25, .. }));
    }

    #[test]
    fn a_line_that_was_cut_off_costs_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        fs::write(&path, b"{\"event\":\"warning\",\"message\":\"\xc3").unwrap();
        let event = Event::Warning { message: "after".into() };
        Events::open(&path, false).unwrap().emit(&event).unwrap();
        assert_eq!(read_log(&path).unwrap(), [event]);
    }
}
