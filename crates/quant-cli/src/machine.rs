//! The command-line options that choose where and how a command works: on which device, on several
//! devices or in several processes, and which process it waits for first.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use burn::tensor::Device;
use clap::builder::RangedI64ValueParser;
use quant_train::{
    RunOptions, Stop, TrainError, device,
    group::{Alone, Devices, Group, PATIENCE},
    output,
};

/// The device of commands that do not name one.
pub(crate) const DEFAULT_DEVICE: &str = "flex";

/// The device that a command works on.
#[derive(Debug, Clone, clap::Args)]
pub struct DeviceArguments {
    /// Device: flex (CPU), cuda, rocm, wgpu, vulkan or metal, if the program is built with it
    #[arg(long, default_value = DEFAULT_DEVICE)]
    pub device: String,
}

impl DeviceArguments {
    /// Returns the options for opening a run or evaluating a network on this device.
    ///
    /// # Errors
    /// If the device is unknown or not part of this build.
    pub fn options(&self) -> Result<RunOptions, Box<dyn Error>> {
        let device = device::select(&self.device)?;
        Ok(options(device, &self.device, Stop::default(), Arc::new(Alone)))
    }
}

/// Where and how a network is evaluated.
#[derive(Debug, Clone, clap::Args)]
pub struct EvalArguments {
    /// The device
    #[command(flatten)]
    pub device: DeviceArguments,
    /// Number of threads that load images; by default that of the recipe
    #[arg(long, value_parser = worker_count())]
    pub workers: Option<u16>,
    /// Wait for the process of this number to end first
    #[arg(long, value_name = "PID")]
    pub after: Option<u32>,
}

impl EvalArguments {
    /// Waits for the process that `--after` names, if any, and returns the options of an
    /// evaluation.
    ///
    /// # Errors
    /// If the device is unknown or not part of this build, or if the state of the process cannot be
    /// found out.
    pub fn options(&self) -> Result<RunOptions, Box<dyn Error>> {
        let options = self.device.options()?;
        if let Some(process) = self.after {
            wait_for(process, &options.stop)?;
        }
        Ok(RunOptions { workers: self.workers.map(usize::from), ..options })
    }
}

/// Where and how a run is executed.
#[derive(Debug, Clone, clap::Args)]
pub struct MachineArguments {
    /// The device
    #[command(flatten)]
    pub device: DeviceArguments,
    /// Number of devices of this kind that train together, each with a part of every batch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub devices: u16,
    /// Number of threads that load images for each device; by default that of the recipe
    #[arg(long, value_parser = worker_count())]
    pub workers: Option<u16>,
    /// Train with the other processes that mpirun started (needs a build with the feature mpi)
    #[arg(long)]
    pub mpi: bool,
    /// Show Burn's dashboard (needs a build with the feature tui)
    #[arg(long)]
    pub dashboard: bool,
    /// Wait for the process of this number to end first
    #[arg(long, value_name = "PID")]
    pub after: Option<u32>,
}

/// Returns a parser for the numbers that `data.workers` of a recipe may have.
fn worker_count() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(0..=1024)
}

/// Returns the folder for files that the program can create again.
pub fn cache() -> PathBuf {
    dirs::cache_dir().unwrap_or_else(std::env::temp_dir).join("quant-train")
}

/// Returns the options of a run on a device.
fn options(device: Device, name: &str, stop: Stop, group: Arc<dyn Group>) -> RunOptions {
    RunOptions {
        program: "quant".to_owned(),
        device_name: name.to_owned(),
        terminal: group.rank() == 0,
        cache: cache(),
        stop,
        group,
        ..RunOptions::new(device)
    }
}

impl MachineArguments {
    /// Waits for the process that `--after` names, if any, and calls `work` with the options of a
    /// run. For several devices, each has a thread of its own that calls `work`.
    ///
    /// # Errors
    /// If a device is unknown or not part of this build, if two options exclude each other, or if
    /// the state of the process cannot be found out; and the error of `work`. If `work` fails on
    /// several devices, an error that only says that another device is missing is returned only
    /// where there is no other error.
    pub fn execute(
        &self,
        stop: Stop,
        work: impl Fn(RunOptions) -> Result<(), Box<dyn Error>> + Sync,
    ) -> Result<(), Box<dyn Error>> {
        if self.dashboard && !cfg!(feature = "tui") {
            return Err(
                "--dashboard: this build has no dashboard; build with --features tui".into()
            );
        }
        if self.devices == 1 {
            let device = device::select(&self.device.device)?;
            if let Some(process) = self.after {
                wait_for(process, &stop)?;
            }
            return work(self.on(device, stop, self.group()?));
        }
        if self.mpi {
            return Err(
                "--mpi uses one process per device and cannot be combined with --devices".into()
            );
        }
        let devices: Result<Vec<_>, _> = (0..usize::from(self.devices))
            .map(|index| device::select_number(&self.device.device, index))
            .collect();
        let devices = devices?;
        if let Some(process) = self.after {
            wait_for(process, &stop)?;
        }
        // On CUDA, Burn can sum gradients directly between devices.
        let sums_on_devices = self.device.device == "cuda";
        let members = Devices::new(&devices, sums_on_devices, PATIENCE).into_iter().zip(devices);
        let results: Vec<_> = thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = members
                .map(|(group, device)| {
                    let group: Arc<dyn Group> = Arc::new(group);
                    let options = self.on(device, stop.clone(), Arc::clone(&group));
                    let run = move || work(options).map_err(sendable);
                    thread::Builder::new().spawn_scoped(scope, run).map_err(|error| {
                        let reason =
                            format!("the thread of a device could not be started: {error}");
                        group.fail(&reason);
                        Box::<dyn Error + Send + Sync>::from(reason)
                    })
                })
                .collect();
            let failed = |_| Err("the thread of a device panicked".into());
            threads.into_iter().map(|thread| thread?.join().unwrap_or_else(failed)).collect()
        });
        let mut errors: Vec<Box<dyn Error>> = Vec::new();
        for result in results {
            if let Err(error) = result {
                errors.push(error);
            }
        }
        // An error that another device is missing says less than the error of that device.
        errors.sort_by_key(|error| {
            matches!(error.downcast_ref(), Some(TrainError::Lost { .. } | TrainError::Peer { .. }))
        });
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    fn on(&self, device: Device, stop: Stop, group: Arc<dyn Group>) -> RunOptions {
        RunOptions {
            workers: self.workers.map(usize::from),
            dashboard: self.dashboard,
            ..options(device, &self.device.device, stop, group)
        }
    }

    #[cfg(feature = "mpi")]
    fn group(&self) -> Result<Arc<dyn Group>, Box<dyn Error>> {
        if self.mpi { Ok(Arc::new(quant_train::mpi::Mpi::start()?)) } else { Ok(Arc::new(Alone)) }
    }

    #[cfg(not(feature = "mpi"))]
    fn group(&self) -> Result<Arc<dyn Group>, Box<dyn Error>> {
        if self.mpi {
            Err("--mpi: this build has no MPI; build with --features mpi".into())
        } else {
            Ok(Arc::new(Alone))
        }
    }
}

/// Converts an error to one that can be sent to another thread.
fn sendable(error: Box<dyn Error>) -> Box<dyn Error + Send + Sync> {
    match error.downcast::<TrainError>() {
        Ok(error) => error,
        Err(error) => error.to_string().into(),
    }
}

/// Waits until the process of this number has ended.
///
/// # Errors
/// If the state of the process cannot be found out, or if the program is asked to stop.
fn wait_for(process: u32, stop: &Stop) -> Result<(), Box<dyn Error>> {
    let is_running = || -> Result<bool, Box<dyn Error>> {
        let number = process.to_string();
        if Path::new("/proc/self").exists() {
            return Ok(Path::new("/proc").join(&number).exists());
        }
        let mut ps = Command::new("ps");
        ps.args(["-p", &number]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(ps.status().map_err(|error| format!("--after needs the program ps: {error}"))?.success())
    };
    if !is_running()? {
        output::tell(&format!(
            "--after: there is no process {process} on this machine; if it has ended already, \
             nothing is left to wait for, so the work begins now"
        ));
        return Ok(());
    }
    output::tell(&format!("waiting for process {process} to end"));
    while is_running()? {
        if stop.is_asked() {
            return Err("stopped while waiting for another process".into());
        }
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
