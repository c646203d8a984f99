//! The training of one phase: its start, its steps and epochs, and its checkpoints.

pub mod checkpoint;
mod epoch_end;
pub mod loss;
mod phase_loop;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod step;
pub(crate) mod trainer;
