//! Where and how commands work: the device, several devices or processes, after another process.

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

/// The device that a command works on.
#[derive(Debug, Clone, clap::Args)]
pub struct DeviceArguments {
    /// flex (CPU), cuda, rocm, wgpu, vulkan or metal, as far as this build has them
    #[arg(long, default_value = "flex")]
    pub device: String,
}

impl DeviceArguments {
    /// The options of a run that is looked at.
    ///
    /// # Errors
    /// Unknown devices.
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
    /// Threads that load images; by default as the recipe says
    #[arg(long, value_parser = threads())]
    pub workers: Option<u16>,
    /// Wait for the process of this number to end first
    #[arg(long, value_name = "PID")]
    pub after: Option<u32>,
}

impl EvalArguments {
    /// Waits as asked, and makes the options of an evaluation.
    ///
    /// # Errors
    /// Unknown devices and processes.
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
    /// Devices of this kind to train on together, each with a part of every batch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub devices: u16,
    /// Threads that load images, for each device; by default as the recipe says
    #[arg(long, value_parser = threads())]
    pub workers: Option<u16>,
    /// Train with the other processes of mpirun (builds with the feature mpi)
    #[arg(long)]
    pub mpi: bool,
    /// Show Burn's dashboard (builds with the feature tui)
    #[arg(long)]
    pub dashboard: bool,
    /// Wait for the process of this number to end first
    #[arg(long, value_name = "PID")]
    pub after: Option<u32>,
}

/// What `data.workers` of a recipe takes.
fn threads() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(0..=1024)
}

/// Folder for what can be made again.
pub fn cache() -> PathBuf {
    dirs::cache_dir().unwrap_or_else(std::env::temp_dir).join("quant-train")
}

/// The options of a run on a device.
fn options(device: Device, name: &str, stop: Stop, group: Arc<dyn Group>) -> RunOptions {
    RunOptions {
        device_name: name.to_owned(),
        terminal: group.rank() == 0,
        cache: cache(),
        stop,
        group,
        ..RunOptions::new(device)
    }
}

impl MachineArguments {
    /// Waits as asked, and does `work` with the options of a run: on several devices, in a thread
    /// for each.
    ///
    /// # Errors
    /// Unknown devices and processes, and what the work fails with first.
    pub fn execute(
        &self,
        stop: Stop,
        work: impl Fn(RunOptions) -> Result<(), Box<dyn Error>> + Sync,
    ) -> Result<(), Box<dyn Error>> {
        if self.dashboard && !cfg!(feature = "tui") {
            return Err("--dashboard: this build has none; build with --features tui".into());
        }
        if self.devices == 1 {
            let device = device::select(&self.device.device)?;
            if let Some(process) = self.after {
                wait_for(process, &stop)?;
            }
            return work(self.on(device, stop, self.group()?));
        }
        if self.mpi {
            return Err("--mpi has a process for each device: without --devices".into());
        }
        let devices: Result<Vec<_>, _> = (0..usize::from(self.devices))
            .map(|index| device::select_number(&self.device.device, index))
            .collect();
        let devices = devices?;
        if let Some(process) = self.after {
            wait_for(process, &stop)?;
        }
        // What Burn lets devices sum among themselves.
        let together = self.device.device == "cuda";
        let members = Devices::new(&devices, together, PATIENCE).into_iter().zip(devices);
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = members
                .map(|(group, device)| {
                    let options = self.on(device, stop.clone(), Arc::new(group));
                    scope.spawn(|| work(options).map_err(sendable))
                })
                .collect();
            let failed = |_| Err("the thread of a device panicked".into());
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(failed)).collect()
        });
        let mut errors: Vec<Box<dyn Error>> = Vec::new();
        for result in results {
            if let Err(error) = result {
                errors.push(error);
            }
        }
        // That another is missing says less than why it is.
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
        match self.mpi {
            true => Ok(Arc::new(quant_train::mpi::Mpi::start()?)),
            false => Ok(Arc::new(Alone)),
        }
    }

    #[cfg(not(feature = "mpi"))]
    fn group(&self) -> Result<Arc<dyn Group>, Box<dyn Error>> {
        match self.mpi {
            true => Err("--mpi: this build has no MPI; build with --features mpi".into()),
            false => Ok(Arc::new(Alone)),
        }
    }
}

/// An error that can leave its thread.
fn sendable(error: Box<dyn Error>) -> Box<dyn Error + Send + Sync> {
    match error.downcast::<TrainError>() {
        Ok(error) => error,
        Err(error) => error.to_string().into(),
    }
}

/// Returns when the process of this number has ended, or somebody has asked to stop.
fn wait_for(process: u32, stop: &Stop) -> Result<(), Box<dyn Error>> {
    let runs = || -> Result<bool, Box<dyn Error>> {
        let number = process.to_string();
        if Path::new("/proc/self").exists() {
            return Ok(Path::new("/proc").join(&number).exists());
        }
        let mut ps = Command::new("ps");
        ps.args(["-p", &number]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(ps.status().map_err(|error| format!("--after needs the program ps: {error}"))?.success())
    };
    if !runs()? {
        output::tell(&format!("process {process} has ended already"));
        return Ok(());
    }
    output::tell(&format!("waiting for process {process} to end"));
    while runs()? {
        if stop.is_asked() {
            return Err("stopped while waiting".into());
        }
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
