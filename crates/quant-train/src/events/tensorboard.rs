//! Event files for TensorBoard. A record consists of a length, its checksum, a protocol buffer
//! `Event`, and its checksum.
//!
//! The format is TensorFlow's `tfrecord` framing (`core/lib/io/record_writer.h`) around
//! `core/util/event.proto` and `core/framework/summary.proto`. Only a few of their fields are
//! written.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::event::Event;
use crate::{error::TrainError, files};

/// The folder of event files in the folder of a run.
const FOLDER: &str = "tensorboard";

/// Writes scalars when they are reported. `tensorboard/<phase>` in the folder of the run has the
/// curves over optimizer steps, and `tensorboard/<phase>/epochs` the curves over epochs.
/// TensorBoard shows each folder as a run.
#[derive(Debug)]
pub(super) struct TensorBoard {
    run: PathBuf,
    phase: Option<Curves>,
}

/// The event files of a phase.
#[derive(Debug)]
struct Curves {
    steps: EventFile,
    epochs: EventFile,
}

impl TensorBoard {
    /// Returns a writer of event files for the run in the folder `run`. They are made when a phase
    /// starts.
    pub(super) fn new(run: &Path) -> Self {
        Self { run: run.to_owned(), phase: None }
    }

    /// # Errors
    /// [`TrainError::Io`].
    pub(super) fn show(&mut self, event: &Event) -> Result<(), TrainError> {
        if let Event::PhaseStarted { phase, step, epoch, .. } = event {
            let folder = Path::new(FOLDER).join(phase);
            let of_epochs = files::make_folders(&self.run, folder.join("epochs"))?;
            // The results of later steps and epochs were not saved, and are drawn again.
            let curves = Curves {
                steps: EventFile::create(&self.run.join(folder), step + 1)?,
                epochs: EventFile::create(&of_epochs, epoch + 1)?,
            };
            self.phase = Some(curves);
        }
        let Some(Curves { steps, epochs }) = &mut self.phase else {
            return Ok(());
        };
        match event {
            Event::Progress { step, loss, learning_rate, images_per_second, .. } => steps.scalars(
                *step,
                &[
                    ("loss".into(), f64::from(*loss)),
                    ("learning_rate".into(), *learning_rate),
                    ("images_per_second".into(), *images_per_second),
                ],
            ),
            Event::EpochFinished { epoch, train_loss, train_top1, val, .. } => epochs.scalars(
                epoch + 1,
                &[
                    ("train_loss".into(), *train_loss),
                    ("train_top1".into(), *train_top1),
                    ("val_loss".into(), val.loss),
                    ("val_top1".into(), val.top1),
                    ("val_top5".into(), val.top5),
                ],
            ),
            Event::QuantizerHealth { epoch, quantizers, .. } => {
                let mut scalars = Vec::new();
                for health in quantizers {
                    let name = |what: &str| format!("{what}/{}", health.quantizer);
                    scalars.extend(health.at_bounds.map(|share| (name("at_bounds"), share)));
                    scalars.extend(health.scale.map(|scale| (name("scale"), scale)));
                    scalars.extend(health.flip_rate.map(|rate| (name("flip_rate"), rate)));
                }
                epochs.scalars(epoch + 1, &scalars)
            }
            Event::WeightHistogram { epoch, layer, low, high, bins, .. } => {
                epochs.histogram(&format!("weights/{layer}"), epoch + 1, (*low, *high), bins)
            }
            _ => Ok(()),
        }
    }
}

/// One event file.
#[derive(Debug)]
struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Makes a new event file in `folder`. It tells TensorBoard to discard what earlier files of
    /// the folder contain for the step `first` and later steps.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    fn create(folder: &Path, first: usize) -> Result<Self, TrainError> {
        let seconds = now();
        // A resumed run writes another file. TensorBoard reads all of them in the order of their
        // names.
        let mut number = 0;
        let (path, file) = loop {
            let path =
                folder.join(format!("events.out.tfevents.{}.quant.{number:04}", seconds as u64));
            match OpenOptions::new().create_new(true).append(true).open(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(TrainError::io(path)(error)),
            }
        };
        let mut board = Self { path, file };
        let mut event = Message::default();
        event.double(1, seconds).bytes(3, b"brain.Event:2");
        board.write(&event)?;
        // This event contains a SessionLog with the status START.
        let (mut event, mut session) = (Message::default(), Message::default());
        session.varint(1, 1);
        event.double(1, seconds).varint(2, first as u64).message(7, &session);
        board.write(&event)?;
        Ok(board)
    }

    fn scalars(&mut self, step: usize, scalars: &[(String, f64)]) -> Result<(), TrainError> {
        let mut summary = Message::default();
        for (tag, value) in scalars {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes()).float(2, *value as f32);
            summary.message(1, &entry);
        }
        self.summary(step, &summary)
    }

    /// Writes a histogram from the counts of evenly spaced bins.
    fn histogram(
        &mut self,
        tag: &str,
        step: usize,
        (low, high): (f64, f64),
        bins: &[u64],
    ) -> Result<(), TrainError> {
        let width = (high - low) / bins.len().max(1) as f64;
        let middle = |bin: usize| low + (bin as f64 + 0.5) * width;
        let weighted = |f: &dyn Fn(f64) -> f64| -> f64 {
            bins.iter().enumerate().map(|(bin, count)| *count as f64 * f(middle(bin))).sum()
        };
        let limits: Vec<f64> = (1..=bins.len()).map(|bin| low + bin as f64 * width).collect();
        let counts: Vec<f64> = bins.iter().map(|count| *count as f64).collect();
        let mut histogram = Message::default();
        histogram
            .double(1, low)
            .double(2, high)
            .double(3, counts.iter().sum())
            .double(4, weighted(&|x| x))
            .double(5, weighted(&|x| x * x))
            .doubles(6, &limits)
            .doubles(7, &counts);
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes()).message(5, &histogram);
        let mut summary = Message::default();
        summary.message(1, &entry);
        self.summary(step, &summary)
    }

    fn summary(&mut self, step: usize, summary: &Message) -> Result<(), TrainError> {
        let mut event = Message::default();
        event.double(1, now()).varint(2, step as u64).message(5, summary);
        self.write(&event)
    }

    fn write(&mut self, event: &Message) -> Result<(), TrainError> {
        let length = (event.0.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked(&length).to_le_bytes());
        record.extend(&event.0);
        record.extend(masked(&event.0).to_le_bytes());
        self.file.write_all(&record).map_err(TrainError::io(&self.path))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Returns CRC-32C, rotated by 15 bits plus a constant, as the format requires. Checksums of
/// data that contain checksums are then safe.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A message of a protocol buffer: fields with a number, a type and a value.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) -> &mut Self {
        self.raw_varint(field << 3);
        self.raw_varint(value);
        self
    }

    fn double(&mut self, field: u64, value: f64) -> &mut Self {
        self.raw_varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.raw_varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.raw_varint(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn doubles(&mut self, field: u64, values: &[f64]) -> &mut Self {
        let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, &packed)
    }

    fn message(&mut self, field: u64, value: &Message) -> &mut Self {
        self.bytes(field, &value.0)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_checksum_is_the_formats() {
        // The CRC-32C of "123456789" is e3069283 (with the polynomial of RFC 3720).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let expected = 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked(b"123456789"), expected);
    }

    /// Reads the messages of an event file and checks their frames.
    fn messages(path: &Path) -> Vec<Vec<u8>> {
        let bytes = fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked(&rest[..8]).to_le_bytes());
            let event = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked(event).to_le_bytes());
            events.push(event.to_vec());
            rest = &rest[16 + length..];
        }
        events
    }

    #[test]
    fn records_are_framed_and_messages_nested() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = EventFile::create(folder.path(), 300).unwrap();
        board.scalars(300, &[("a".into(), 1.5)]).unwrap();
        let events = messages(&board.path);
        assert!(events[0].ends_with(b"brain.Event:2"));
        // Step 300 is ac 02. Field 7 is the session log, whose field 1 is the status, and 1 is
        // START.
        assert_eq!(events[1][9..], [0x10, 0xac, 2, 0x3a, 2, 0x08, 1]);
        // The value of the summary has the tag "a" and the float 1.5.
        let expected =
            [&[0x10, 0xac, 2, 0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15][..], &1.5f32.to_le_bytes()]
                .concat();
        assert_eq!(events[2][9..], expected);
        // A second writer in the same second gets another file, whose name comes after that of the
        // first.
        let other = EventFile::create(folder.path(), 1).unwrap();
        assert!(other.path > board.path);
    }
}
