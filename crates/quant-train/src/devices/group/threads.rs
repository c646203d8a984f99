//! Threads of one program that train together, with or without a device for each.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use burn::tensor::{
    Device, Tensor,
    distributed::{DistributedConfig, DistributedContext, ReduceOperation, all_reduce},
};

use super::Group;
use crate::error::TrainError;

/// One of several threads of a program that train together.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    size: usize,
    patience: Duration,
    meeting: Arc<(Mutex<Meeting>, Condvar)>,
}

/// A sum that the threads compute together.
#[derive(Debug, Default)]
struct Meeting {
    /// The values that the threads have given so far, by rank.
    brought: Vec<Option<Vec<f64>>>,
    sums: Vec<f64>,
    /// The number of completed sums.
    round: usize,
    /// The first thread that cannot continue, and the reason.
    failed: Option<(usize, String)>,
}

impl Meeting {
    fn check(&self) -> Result<(), TrainError> {
        match self.failed.clone() {
            Some((rank, message)) => Err(TrainError::Peer { rank, message }),
            None => Ok(()),
        }
    }
}

impl Threads {
    /// Returns the members of a group of `size` threads, one for each thread.
    pub fn new(size: usize, patience: Duration) -> Vec<Self> {
        let meeting = Meeting { brought: vec![None; size], ..Meeting::default() };
        let meeting = Arc::new((Mutex::new(meeting), Condvar::new()));
        let thread = |rank| Self { rank, size, patience, meeting: Arc::clone(&meeting) };
        (0..size).map(thread).collect()
    }
}

impl Group for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>, TrainError> {
        let (meeting, changed) = &*self.meeting;
        let mut meeting = meeting.lock().unwrap_or_else(PoisonError::into_inner);
        meeting.check()?;
        let round = meeting.round;
        let length = values.len();
        meeting.brought[self.rank] = Some(values);
        if meeting.brought.iter().all(Option::is_some) {
            // The values are added in the order of the ranks, so that the bits do not depend on
            // which thread comes last.
            let mut sums = vec![0.0; length];
            for brought in meeting.brought.iter_mut().filter_map(Option::take) {
                sums.iter_mut().zip(brought).for_each(|(sum, value)| *sum += value);
            }
            (meeting.sums, meeting.round) = (sums, round + 1);
            changed.notify_all();
        }
        let waits = |meeting: &mut Meeting| meeting.round == round && meeting.failed.is_none();
        let (meeting, waited) = changed
            .wait_timeout_while(meeting, self.patience, waits)
            .unwrap_or_else(PoisonError::into_inner);
        if meeting.round == round {
            meeting.check()?;
        }
        if waited.timed_out() {
            let missing = (0..self.size).filter(|rank| meeting.brought[*rank].is_none()).collect();
            return Err(TrainError::Lost {
                rank: self.rank,
                missing,
                seconds: self.patience.as_secs(),
            });
        }
        Ok(meeting.sums.clone())
    }

    fn sum_f32(&self, values: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        let sums = self.sum(values.into_iter().map(f64::from).collect())?;
        Ok(sums.into_iter().map(|sum| sum as f32).collect())
    }

    fn fail(&self, message: &str) {
        let (meeting, changed) = &*self.meeting;
        let mut meeting = meeting.lock().unwrap_or_else(PoisonError::into_inner);
        meeting.failed.get_or_insert_with(|| (self.rank, message.to_owned()));
        changed.notify_all();
    }
}

/// One of several threads of a program that train together with one device each. The devices sum
/// the gradients themselves where Burn supports it, which is on CUDA with NCCL. Otherwise the host
/// sums them.
#[derive(Debug)]
pub struct Devices {
    threads: Threads,
    devices: Vec<Device>,
    /// The context in which the devices communicate, as long as a member of the group exists.
    context: Option<Arc<DistributedContext>>,
}

impl Devices {
    /// Returns the members of a group of threads, one for each of the plain `devices`. With
    /// `together`, the devices sum tensors themselves.
    pub fn new(devices: &[Device], together: bool, patience: Duration) -> Vec<Self> {
        // The devices compute sums, as every group does. Means are divided by the size of the group
        // afterwards.
        let config = DistributedConfig { all_reduce_op: ReduceOperation::Sum };
        let context =
            together.then(|| Arc::new(DistributedContext::init(devices.to_vec(), config)));
        let member =
            |threads| Self { threads, devices: devices.to_vec(), context: context.clone() };
        Threads::new(devices.len(), patience).into_iter().map(member).collect()
    }
}

impl Group for Devices {
    fn rank(&self) -> usize {
        self.threads.rank()
    }

    fn size(&self) -> usize {
        self.threads.size()
    }

    fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>, TrainError> {
        self.threads.sum(values)
    }

    fn sum_f32(&self, values: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        self.threads.sum_f32(values)
    }

    fn sum_tensor(&self, x: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        if self.context.is_none() {
            return self.threads.sum_tensor(x);
        }
        // This sum reports a process that is missing. The devices would wait for it without an end.
        self.threads.sum(vec![0.0])?;
        Ok(all_reduce(x, ReduceOperation::Sum, self.devices.clone()).resolve())
    }

    fn fail(&self, message: &str) {
        self.threads.fail(message);
    }
}
