//! Processes that train one network together: each sees its own part of every batch, and gradients are averaged.
//!
//! [`Alone`] is one process, [`Threads`] are several in one program, [`Devices`] the same with a device each, and
//! `Mpi` (feature `mpi`) are the ranks of `mpirun`, on one machine or on many.

use std::{
    fmt::Debug,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{
        Device, Tensor, TensorData,
        distributed::{DistributedConfig, DistributedContext, ReduceOperation, all_reduce},
    },
};
use quant_nn::{Classifier, StateDict, SumOverProcesses};

use crate::error::TrainError;

/// The processes, as one of them sees them. All of them call the same methods in the same order.
pub trait Group: Debug + Send + Sync {
    /// Number of this process, from 0. Number 0 writes and reports.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// The sums of `values` over all processes, which have as many each.
    ///
    /// # Errors
    /// [`TrainError::Lost`] where a process does not answer for a minute.
    fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>, TrainError>;

    /// The same in 32 bits.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn sum_f32(&self, values: Vec<f32>) -> Result<Vec<f32>, TrainError>;

    /// The same of a tensor, where the devices can do it among themselves.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn sum_tensor(&self, x: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        let (shape, device) = (x.shape(), x.device());
        let sums = self.sum_f32(x.into_data().iter::<f32>().collect())?;
        Ok(Tensor::from_data(TensorData::new(sums, shape), &device))
    }

    /// Tells the others that this process cannot go on, and why: their sums end with
    /// [`TrainError::Peer`] instead of waiting for it.
    fn fail(&self, message: &str);
}

/// How long a process is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, values: Vec<f64>) -> Result<Vec<f64>, TrainError> {
        Ok(values)
    }

    fn sum_f32(&self, values: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        Ok(values)
    }

    fn fail(&self, _: &str) {}
}

/// Threads of one program.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    size: usize,
    patience: Duration,
    meeting: Arc<(Mutex<Meeting>, Condvar)>,
}

/// A sum in progress.
#[derive(Debug, Default)]
struct Meeting {
    /// What has come so far, by rank.
    brought: Vec<Option<Vec<f64>>>,
    sums: Vec<f64>,
    /// Sums that are complete.
    round: usize,
    /// The first that cannot go on, and why.
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
    /// A group of `size` threads: one for each.
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
            // In order of the ranks: the same bits whoever comes last.
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

/// Threads of one program with a device each. Gradients are summed by the devices themselves where Burn can have
/// them do so, which is CUDA with NCCL; through the host elsewhere.
#[derive(Debug)]
pub struct Devices {
    threads: Threads,
    devices: Vec<Device>,
    /// Lets the devices talk to each other, while one of the group lives.
    context: Option<Arc<DistributedContext>>,
}

impl Devices {
    /// A group of as many threads as `devices`, plain ones: one for each. `together`: the devices sum.
    pub fn new(devices: &[Device], together: bool, patience: Duration) -> Vec<Self> {
        // Sums, as every group gives: what is a mean is divided once, by the group's size.
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
        // Who does not come is found out here: the devices would wait for ever.
        self.threads.sum(vec![0.0])?;
        Ok(all_reduce(x, ReduceOperation::Sum, self.devices.clone()).resolve())
    }

    fn fail(&self, message: &str) {
        self.threads.fail(message);
    }
}

/// Tells the group what a process fails with, unless the others know it already.
///
/// # Errors
/// The error that came in.
pub fn tell<T>(group: &dyn Group, result: Result<T, TrainError>) -> Result<T, TrainError> {
    result.inspect_err(|error| {
        use TrainError::{Lost, Peer, Stopped};
        if !matches!(error, Lost { .. } | Peer { .. } | Stopped { .. }) {
            group.fail(&error.to_string());
        }
    })
}

/// The texts of all processes, in order of the processes.
///
/// # Errors
/// Those of [`Group::sum`].
pub fn gather_texts(group: &dyn Group, texts: Vec<String>) -> Result<Vec<String>, TrainError> {
    if group.size() == 1 {
        return Ok(texts);
    }
    let own: Vec<u8> = texts.iter().flat_map(|text| text.bytes().chain([0])).collect();
    let mut lengths = vec![0.0; group.size()];
    lengths[group.rank()] = own.len() as f64;
    let lengths: Vec<usize> = group.sum(lengths)?.into_iter().map(|n| n as usize).collect();
    let before: usize = lengths[..group.rank()].iter().sum();
    let mut bytes = vec![0.0; lengths.iter().sum()];
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    for (place, byte) in bytes[before..].iter_mut().zip(own) {
        *place = f32::from(byte);
    }
    let bytes: Vec<u8> = group.sum_f32(bytes)?.into_iter().map(|byte| byte as u8).collect();
    let texts = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty());
    Ok(texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect())
}

/// The bytes that process 0 gives, for all.
///
/// # Errors
/// Those of [`Group::sum`].
pub fn broadcast(group: &dyn Group, bytes: Vec<u8>) -> Result<Vec<u8>, TrainError> {
    let first = group.rank() == 0;
    let length = group.sum(vec![if first { bytes.len() as f64 } else { 0.0 }])?[0] as usize;
    let values = match first {
        true => bytes.into_iter().map(f32::from).collect(),
        false => vec![0.0; length],
    };
    Ok(group.sum_f32(values)?.into_iter().map(|byte| byte as u8).collect())
}

/// The network of process 0, for all: its parameters and running values.
///
/// # Errors
/// Those of [`Group::sum`].
pub fn same_network<M: Classifier>(group: &dyn Group, network: M) -> Result<M, TrainError> {
    if group.size() == 1 {
        return Ok(network);
    }
    let share = if group.rank() == 0 { 1.0 } else { 0.0 };
    let state = StateDict::of(&network);
    let mut entries: Vec<_> =
        state.entries().map(|(name, entry)| (name.to_owned(), entry.clone())).collect();
    let values = entries.iter().flat_map(|(_, entry)| &entry.values);
    let mut sums = group.sum_f32(values.map(|value| *value * share).collect())?.into_iter();
    for (_, entry) in &mut entries {
        entry.values.iter_mut().zip(&mut sums).for_each(|(value, sum)| *value = sum);
    }
    Ok(StateDict::from_entries(entries).load_into(network).0)
}

/// The mean of all processes' gradients, and whether one of them says `flag`.
///
/// # Errors
/// Those of [`Group::sum_f32`].
pub fn mean_gradients<M: Module>(
    group: &dyn Group,
    network: &M,
    grads: GradientsParams,
    flag: bool,
) -> Result<(GradientsParams, bool), TrainError> {
    if group.size() == 1 {
        return Ok((grads, flag));
    }
    let mut gather = Gather { grads: &grads, values: Vec::new() };
    network.visit(&mut gather);
    let mut values = gather.values;
    let device = network.devices().into_iter().next().unwrap_or_default().without_autodiff();
    values.push(Tensor::full([1], if flag { 1.0 } else { 0.0 }, &device));
    let sums = group.sum_tensor(Tensor::cat(values, 0))?;
    let last = sums.dims()[0] - 1;
    let flag = sums.clone().narrow(0, last, 1).into_scalar::<f32>() > 0.0;
    let means = sums.div_scalar(group.size() as f64);
    let mut scatter = Scatter { grads, values: means, at: 0 };
    network.visit(&mut scatter);
    Ok((scatter.grads, flag))
}

/// All gradients, one after another.
struct Gather<'a> {
    grads: &'a GradientsParams,
    values: Vec<Tensor<1>>,
}

impl ModuleVisitor for Gather<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            let count = grad.shape().num_elements();
            self.values.push(grad.reshape([count]));
        }
    }
}

struct Scatter {
    grads: GradientsParams,
    values: Tensor<1>,
    at: usize,
}

impl ModuleVisitor for Scatter {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            let shape = grad.shape();
            let count = shape.num_elements();
            let mean = self.values.clone().narrow(0, self.at, count).reshape(shape);
            self.at += count;
            self.grads.register::<D>(param.id, mean);
        }
    }
}

/// Batch statistics over a group. Layers cannot fail: what fails is kept, and told by [`check`](Self::check).
#[derive(Debug, Clone)]
pub struct SharedStatistics {
    group: Arc<dyn Group>,
    failure: Arc<Mutex<Option<TrainError>>>,
    /// Whether this process has no images, and adds nothing.
    absent: Arc<AtomicBool>,
}

impl SharedStatistics {
    /// Statistics over `group`.
    pub fn new(group: Arc<dyn Group>) -> Self {
        Self { group, failure: Arc::default(), absent: Arc::default() }
    }

    /// Whether what this process computes next is of no images: it then takes part in the sums, and adds
    /// nothing to them.
    pub fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Ordering::Relaxed);
    }

    /// What the layers sum by.
    pub fn sums(&self) -> SumOverProcesses {
        let shared = self.clone();
        SumOverProcesses::new(move |mut values| {
            if shared.absent.load(Ordering::Relaxed) {
                values.fill(0.0);
            }
            let mut failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
            // Once one is lost, nobody is waited for again.
            if failure.is_some() {
                return values;
            }
            shared.group.sum_f32(values.clone()).unwrap_or_else(|error| {
                *failure = Some(error);
                values
            })
        })
    }

    /// # Errors
    /// The first failure, if there was one.
    pub fn check(&self) -> Result<(), TrainError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}

/// Makes what follows the data the same in all processes, the mean over their images: running statistics of norms
/// and of quantizers; with `learned`, the quantizers' parameters too, which a warm-up sets from the data. `share` is
/// this process's share of the images.
///
/// # Errors
/// Those of [`Group::sum_f32`].
pub fn same_running<M: Classifier>(
    group: &dyn Group,
    network: &mut M,
    learned: bool,
    share: f64,
) -> Result<(), TrainError> {
    if group.size() == 1 {
        return Ok(());
    }
    let mut values = network.running_statistics();
    let statistics = values.len();
    for (_, _, quantizer) in network.quantizers() {
        for (_, value) in quantizer.running() {
            values.extend(value.into_data().iter::<f32>());
        }
        for parameter in quantizer.learned().iter().filter(|_| learned) {
            values.extend(quantizer.learned_values(parameter.name).unwrap_or_default());
        }
    }
    // A process without images has followed none, whatever its values are.
    let weigh = |value: f32| if share == 0.0 { 0.0 } else { (f64::from(value) * share) as f32 };
    let means = group.sum_f32(values.into_iter().map(weigh).collect())?;
    let (statistics, rest) = means.split_at(statistics);
    network.set_running_statistics(statistics);
    let mut rest = rest.iter().copied();
    let mut take = |count: usize| rest.by_ref().take(count).collect::<Vec<f32>>();
    network.change_quantizers(|_, quantizer| {
        let running = quantizer.running().into_iter();
        let running: Vec<_> =
            running.map(|(name, value)| (name, value.shape().num_elements())).collect();
        for (name, count) in running {
            quantizer.set_running(name, &take(count));
        }
        let parameters = quantizer.learned().into_iter().filter(|_| learned);
        let parameters: Vec<_> =
            parameters.map(|l| (l.name, l.value.lazy_shape().num_elements())).collect();
        for (name, count) in parameters {
            quantizer.set_learned(name, &take(count));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn together<T: Send>(size: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
        let threads = Threads::new(size, Duration::from_secs(20));
        thread::scope(|scope| {
            let work = &work;
            let running: Vec<_> =
                threads.into_iter().map(|t| scope.spawn(move || work(t))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_are_the_same_for_all_round_after_round() {
        let results = together(3, |group| {
            (0..50)
                .map(|round| group.sum(vec![group.rank() as f64, round as f64]).unwrap())
                .collect::<Vec<_>>()
        });
        for result in results {
            assert!(
                result.iter().enumerate().all(|(round, sums)| *sums == [3.0, 3.0 * round as f64])
            );
        }
    }

    #[test]
    fn bytes_of_the_first_reach_all() {
        let results = together(3, |group| {
            let own = format!("from {}", group.rank());
            broadcast(&group, own.into_bytes()).unwrap()
        });
        assert!(results.iter().all(|bytes| bytes == b"from 0"));
    }

    #[test]
    fn tensors_are_summed_through_the_host_where_devices_cannot() {
        let device = Device::flex();
        let members = Devices::new(&[device.clone(), device.clone()], false, PATIENCE);
        let sums = thread::scope(|scope| {
            let running: Vec<_> = (members.into_iter())
                .map(|member| {
                    let x = Tensor::from_floats([1.0, member.rank() as f32], &device);
                    scope.spawn(move || member.sum_tensor(x).unwrap().into_data())
                })
                .collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(sums.iter().all(|sum| sum.as_slice::<f32>().unwrap() == [2.0, 1.0]));
    }

    #[test]
    fn the_error_of_one_ends_the_others_with_its_message() {
        let begin = std::time::Instant::now();
        let results = together(3, |group| match group.rank() {
            1 => {
                group.fail("disk full");
                String::new()
            }
            _ => group.sum(vec![1.0]).unwrap_err().to_string(),
        });
        assert!(begin.elapsed() < Duration::from_secs(10));
        for told in [&results[0], &results[2]] {
            assert_eq!(told, "process 1 of the group has failed: disk full");
        }
    }

    #[test]
    fn texts_of_all_reach_all_in_order() {
        let own = |rank| match rank {
            0 => vec!["ä".to_owned(), "b".to_owned()],
            1 => Vec::new(),
            _ => vec!["c".to_owned()],
        };
        let results = together(3, |group| gather_texts(&group, own(group.rank())).unwrap());
        assert!(results.iter().all(|texts| *texts == ["ä", "b", "c"]));
        assert!(together(2, |group| gather_texts(&group, Vec::new()).unwrap())[1].is_empty());
    }

    #[test]
    fn who_is_lost_is_named() {
        let mut threads = Threads::new(2, Duration::from_millis(50));
        let error = threads.remove(0).sum(vec![1.0]).unwrap_err().to_string();
        assert!(error.contains("process 1 of the group has not answered"), "{error}");
        let unknown = TrainError::Lost { rank: 0, missing: Vec::new(), seconds: 60 }.to_string();
        assert!(unknown.contains("another process of the group has not answered"), "{unknown}");
    }
}
