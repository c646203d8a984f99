//! The ranks of `mpirun` as a [`Group`].

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use mpi::{collective::SystemOperation, traits::*};

use crate::{
    devices::group::{Group, PATIENCE},
    error::TrainError,
};

/// The ranks of `mpirun`. MPI is called in a separate thread, so that this process can stop waiting
/// for a rank that does not answer.
#[derive(Debug)]
pub struct Mpi {
    rank: usize,
    size: usize,
    channel: Mutex<(Sender<Sum>, Receiver<Sum>)>,
    thread: Option<JoinHandle<()>>,
    /// Whether this process has stopped waiting for a rank, so that the thread does not end.
    given_up: AtomicBool,
}

/// A request with values to sum, the answer with their sums, or the failure of a rank.
#[derive(Debug)]
enum Sum {
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// The number of the rank, and its message.
    Failed(usize, String),
}

impl Mpi {
    /// Joins the other ranks. It can be called once in a program.
    ///
    /// # Errors
    /// [`TrainError::Mpi`] where MPI does not start.
    pub fn start() -> Result<Self, TrainError> {
        let (to_thread, asked) = channel::<Sum>();
        let (answers, from_thread) = channel();
        let (to_main, from_start) = channel();
        let thread = thread::spawn(move || {
            // All calls of MPI come from this thread.
            let Some((_universe, _)) = mpi::initialize_with_threading(mpi::Threading::Funneled)
            else {
                return;
            };
            let world = mpi::topology::SimpleCommunicator::world();
            if to_main.send((world.rank() as usize, world.size() as usize)).is_err() {
                return;
            }
            for sum in asked {
                if answers.send(together(&world, sum)).is_err() {
                    return;
                }
            }
        });
        let failed = |reason: &str| TrainError::Mpi { reason: reason.to_owned() };
        let (rank, size) = from_start
            .recv()
            .map_err(|_| failed("it was already started, or it does not start"))?;
        let channel = Mutex::new((to_thread, from_thread));
        Ok(Self { rank, size, channel, thread: Some(thread), given_up: AtomicBool::new(false) })
    }

    fn ask(&self, sum: Sum) -> Result<Sum, TrainError> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = || TrainError::Lost {
            rank: self.rank,
            missing: Vec::new(),
            seconds: PATIENCE.as_secs(),
        };
        channel.0.send(sum).map_err(|_| lost())?;
        let answer = channel.1.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                self.given_up.store(true, Ordering::Relaxed);
                lost()
            }
            RecvTimeoutError::Disconnected => TrainError::Mpi { reason: "it has ended".into() },
        })?;
        match answer {
            Sum::Failed(rank, message) => Err(TrainError::Peer { rank, message }),
            sums => Ok(sums),
        }
    }
}

/// Returns the sums over all ranks. A rank that has failed takes part with its message instead of
/// values. Before every sum, the ranks exchange whether one of them has failed.
fn together(world: &mpi::topology::SimpleCommunicator, sum: Sum) -> Sum {
    let own = if matches!(sum, Sum::Failed(..)) { world.rank() + 1 } else { 0 };
    let mut failed = 0;
    world.all_reduce_into(&own, &mut failed, SystemOperation::max());
    if failed > 0 {
        let message = match sum {
            Sum::Failed(_, message) if failed == own => message,
            _ => String::new(),
        };
        let mut bytes = message.into_bytes();
        let first = world.process_at_rank(failed - 1);
        let mut length = bytes.len() as u64;
        first.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        first.broadcast_into(&mut bytes[..]);
        let message = String::from_utf8_lossy(&bytes).into_owned();
        return Sum::Failed(failed as usize - 1, message);
    }
    match sum {
        Sum::F32(values) => {
            let mut sums = vec![0.0; values.len()];
            world.all_reduce_into(&values[..], &mut sums[..], SystemOperation::sum());
            Sum::F32(sums)
        }
        Sum::F64(values) => {
            let mut sums = vec![0.0; values.len()];
            world.all_reduce_into(&values[..], &mut sums[..], SystemOperation::sum());
            Sum::F64(sums)
        }
        failed => failed,
    }
}

impl Group for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>, TrainError> {
        match self.ask(Sum::F64(values))? {
            Sum::F64(sums) => Ok(sums),
            Sum::F32(sums) => Ok(sums.into_iter().map(f64::from).collect()),
            Sum::Failed(rank, message) => Err(TrainError::Peer { rank, message }),
        }
    }

    fn sum_f32(&self, values: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        match self.ask(Sum::F32(values))? {
            Sum::F32(sums) => Ok(sums),
            Sum::F64(sums) => Ok(sums.into_iter().map(|sum| sum as f32).collect()),
            Sum::Failed(rank, message) => Err(TrainError::Peer { rank, message }),
        }
    }

    fn fail(&self, message: &str) {
        // A rank that has stopped waiting cannot reach the others. Otherwise the answer is this
        // rank's own message.
        if !self.given_up.load(Ordering::Relaxed) {
            let _ = self.ask(Sum::Failed(self.rank, message.to_owned()));
        }
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // The thread ends when its sender is gone, and MPI ends with it.
        let channel = self.channel.get_mut().unwrap_or_else(PoisonError::into_inner);
        channel.0 = channel_without_receiver();
        if let (Some(thread), false) = (self.thread.take(), *self.given_up.get_mut()) {
            // A thread that panicked has already printed its message.
            let _ = thread.join();
        }
    }
}

fn channel_without_receiver() -> Sender<Sum> {
    channel().0
}
