//! The destinations of events: the log, the terminal and TensorBoard.

#[cfg(feature = "tui")]
use std::io::IsTerminal;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

#[cfg(feature = "tui")]
use super::dashboard::Dashboard;
use super::{event::Event, tensorboard::TensorBoard, terminal::Terminal};
use crate::{error::TrainError, files, lock::Guard};

/// The destinations of events.
pub(crate) struct Events {
    path: PathBuf,
    log: Option<File>,
    terminal: Option<Terminal>,
    board: Option<TensorBoard>,
    /// Notices when the folder of the run has gone.
    guard: Option<Guard>,
    #[cfg(feature = "tui")]
    dashboard: Option<Dashboard>,
}

impl Events {
    /// Opens the log at `path`, to which events are appended. With `terminal`, progress is also
    /// shown on the terminal.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the log cannot be opened.
    pub(crate) fn open(path: &Path, terminal: bool) -> Result<Self, TrainError> {
        if path.exists() {
            files::check_regular(path).map_err(TrainError::io(path))?;
        }
        // If the last line is incomplete, it is ended, so that the next event gets its own line.
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
            guard: None,
            #[cfg(feature = "tui")]
            dashboard: None,
        })
    }

    /// Returns events without a destination, for a process that leaves reporting to another
    /// process.
    pub(crate) fn silent() -> Self {
        Self {
            path: PathBuf::new(),
            log: None,
            terminal: None,
            board: None,
            guard: None,
            #[cfg(feature = "tui")]
            dashboard: None,
        }
    }

    /// Also writes event files for TensorBoard into the folder `run`.
    #[must_use]
    pub(crate) fn with_tensorboard(mut self, run: &Path) -> Self {
        self.board = Some(TensorBoard::new(run));
        self
    }

    /// Checks before every event that the folder of the run is still there.
    #[must_use]
    pub(crate) fn with_guard(mut self, guard: Option<Guard>) -> Self {
        self.guard = guard;
        self
    }

    /// Checks that the folder of the run is still the one in which it began.
    ///
    /// # Errors
    /// [`TrainError::Gone`].
    pub(crate) fn check_folder(&self) -> Result<(), TrainError> {
        self.guard.as_ref().map_or(Ok(()), Guard::check)
    }

    /// Shows Burn's dashboard instead of progress bars if there is a terminal. Its command "stop"
    /// makes the request `stop`.
    #[cfg(feature = "tui")]
    #[must_use]
    pub fn with_dashboard(mut self, stop: crate::Stop) -> Self {
        if self.terminal.is_some() && std::io::stdout().is_terminal() {
            self.terminal = None;
            self.dashboard = Some(Dashboard::new(stop));
        }
        self
    }

    /// Writes an event to the log and shows it.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the log cannot be written; [`TrainError::Gone`] where the folder of
    /// the run has gone.
    pub(crate) fn emit(&mut self, event: &Event) -> Result<(), TrainError> {
        self.check_folder()?;
        // Histograms are only written for TensorBoard, so that the log stays readable.
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

/// Reads the events of a log. Incomplete lines, which are left when the machine stops, are passed
/// over.
///
/// # Errors
/// [`TrainError::Io`] where the log cannot be read.
pub fn read_log(path: &Path) -> Result<Vec<Event>, TrainError> {
    let log = files::read(path).map_err(TrainError::io(path))?;
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
