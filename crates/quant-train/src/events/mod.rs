//! The events of a run: a log of JSON lines, a terminal display, event files for TensorBoard, and a
//! report at the end.

#[cfg(feature = "tui")]
mod dashboard;
mod destinations;
mod event;
pub(crate) mod report;
mod tensorboard;
mod terminal;

pub(crate) use destinations::Events;
pub use destinations::read_log;
pub use event::Event;
