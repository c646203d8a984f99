//! Measures the engine for packed networks, beside the times of other engines that
//! `benches/compare/engines.py` wrote: the latency of one image on one thread, batches on two
//! threads, the most memory, and the first result of a new process.

use std::{
    error::Error,
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use quant_infer::{Image, Network, model::Model};
use quant_infer_benches::{Architecture, WIDTHS, Width, image, measure, network};
use quant_kernels::simd::InstructionSet;
use quant_train::output;
use serde::Deserialize;

use crate::{Row, median};

/// The images of a batch.
const BATCH: usize = 16;

/// The number of images that are measured in a round.
const IMAGES: usize = 30;

/// What `benches/compare/engines.py` writes, as far as it is needed here.
#[derive(Debug, Default, Deserialize)]
struct Engines {
    rows: Vec<EngineRow>,
    #[serde(default)]
    memory: Vec<EngineMemory>,
}

#[derive(Debug, Deserialize)]
struct EngineRow {
    network: String,
    engine: String,
    precision: String,
    isa: String,
    threads: usize,
    batch: usize,
    median_ms: f64,
}

#[derive(Debug, Deserialize)]
struct EngineMemory {
    network: String,
    engine: String,
    precision: String,
    peak_bytes: f64,
}

impl Engines {
    fn read(path: Option<&Path>) -> Result<Self, Box<dyn Error>> {
        let Some(path) = path else { return Ok(Self::default()) };
        let place = |error: &dyn Error| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| place(&error))?;
        Ok(serde_json::from_str(&text).map_err(|error| place(&error))?)
    }

    /// The time of an engine for one image on one thread, in milliseconds.
    fn time(&self, network: &str, engine: &str, precision: &str, isa: &str) -> Option<f64> {
        let is_it = |row: &&EngineRow| {
            (row.threads, row.batch) == (1, 1)
                && [&row.network, &row.engine, &row.precision, &row.isa]
                    .into_iter()
                    .eq([network, engine, precision, isa])
        };
        self.rows.iter().find(is_it).map(|row| row.median_ms)
    }
}

/// The limit by which `engines.py` holds OpenVINO to an instruction set, if there is one.
fn limit(set: InstructionSet) -> Option<&'static str> {
    Some(match set.name() {
        "avx512vpopcntdq" | "avx512vnni" => "avx512_core_vnni",
        "avx512" => "avx512_core",
        "avx2vnni" => "avx2_vnni",
        "avx2" => "avx2",
        _ => return None,
    })
}

/// The widths that are measured of each architecture, with the limits of their time over
/// OpenVINO's in 8 bits: with the best instruction set, and with AVX2; and over the time of ONNX
/// Runtime in floats.
fn widths(architecture: Architecture) -> Vec<(Width, [Option<f64>; 3])> {
    let eight = [Some(1.2), None, None];
    match architecture {
        Architecture::ResNet18 => {
            let limits = [
                [1.1, 1.1, 0.3],
                [1.0, 1.0, 0.27],
                [0.75, 0.75, 0.2],
                [0.55, 0.75, 0.15],
                [0.4, 0.45, 0.11],
            ];
            WIDTHS.into_iter().zip(limits.map(|limits| limits.map(Some))).collect()
        }
        Architecture::ResNet50 => vec![(Width::Bits(8), eight), (Width::Bits(2), [None; 3])],
        _ => vec![(Width::Bits(8), eight), (Width::Bits(4), [None; 3])],
    }
}

fn target(limit: Option<f64>) -> String {
    limit.map_or_else(String::new, |limit| format!("at most {limit}"))
}

pub(crate) fn measure_all(
    rounds: usize,
    engines: Option<&Path>,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let engines = Engines::read(engines)?;
    let best = InstructionSet::detect();
    let avx2 = InstructionSet::available().find(|set| set.name() == "avx2");
    let mut rows = Vec::new();
    for architecture in Architecture::ALL {
        let name = architecture.name();
        for (width, limits) in widths(architecture) {
            let model = network(architecture, width);
            let networks = [Some(best), avx2.filter(|avx2| *avx2 != best)].map(|set| {
                set.map(|set| Network::with_instruction_set(&model, set).map(|net| (set, net)))
            });
            // Both instruction sets take turns, so that other programs slow both down.
            let networks =
                networks.into_iter().flatten().collect::<Result<Vec<_>, quant_infer::Error>>()?;
            let mut times = vec![Vec::new(); networks.len()];
            for _ in 0..rounds.max(1) {
                for ((_, network), times) in networks.iter().zip(&mut times) {
                    times.push(milliseconds(measure(network, IMAGES)?.median));
                }
            }
            let row_name = format!("{name}-{}", width.name());
            for (index, ((set, _), times)) in networks.iter().zip(times).enumerate() {
                let time = median(times);
                let suffix = if index == 0 { "" } else { "-avx2" };
                let name_of_row = format!("{row_name}{suffix}");
                let isa = limit(*set);
                let int8 = isa.and_then(|isa| engines.time(name, "openvino", "int8", isa));
                rows.push(match int8 {
                    Some(int8) => {
                        let target = target(limits[index]);
                        Row::new(&name_of_row, time / int8, "x OpenVINO's int8", &target)
                    }
                    None => Row::new(&name_of_row, time, "ms", ""),
                });
                if int8.is_some() {
                    rows.push(Row::new(&format!("{name_of_row}, time"), time, "ms", ""));
                }
                let real = engines.time(name, "onnxruntime", "f32", "all");
                if let Some(real) = real.filter(|_| index == 0) {
                    let name = format!("{name_of_row} over floats");
                    let unit = "x ONNX Runtime's f32";
                    rows.push(Row::new(&name, time / real, unit, &target(limits[2])));
                }
            }
        }
    }
    rows.extend(batches(rounds)?);
    rows.extend(processes(rounds, &engines)?);
    Ok(rows)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Images per second of two threads over those of one.
fn batches(rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let model = network(Architecture::ResNet18, Width::Bits(2));
    let network = Network::new(&model)?;
    let side = Architecture::ResNet18.side();
    let bytes = image(side);
    let images = [Image::interleaved(&bytes, [side; 2]); BATCH];
    let time = |threads| -> Result<f64, quant_infer::Error> {
        let start = Instant::now();
        network.run_batch(&images, threads)?;
        Ok(start.elapsed().as_secs_f64())
    };
    time(2)?;
    let mut ratios = Vec::new();
    for _ in 0..rounds.max(1) {
        ratios.push(time(1)? / time(2)?);
    }
    let name = format!("resnet18-w2a2, {BATCH} images on two threads");
    Ok(vec![Row::new(&name, median(ratios), "x one thread's speed", "at least 1.8")])
}

/// The most memory of a process that runs one image, and the time to its result.
fn processes(rounds: usize, engines: &Engines) -> Result<Vec<Row>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("network.qnet");
    let model = network(Architecture::ResNet18, Width::Bits(2));
    model.save(&path)?;
    let (mut ratios, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        let out = Command::new(std::env::current_exe()?).arg("infer-once").arg(&path).output()?;
        let all = start.elapsed();
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).into_owned().into());
        }
        let peak = String::from_utf8_lossy(&out.stdout).trim().parse::<f64>();
        let one = measure(&Network::new(&model)?, IMAGES)?.median;
        ratios.push(all.as_secs_f64() / one.as_secs_f64());
        peaks.extend(peak.ok().filter(|peak| *peak > 0.0));
    }
    let name = "resnet18-w2a2, first result of a new process";
    let mut rows = vec![Row::new(name, median(ratios), "x an image's time", "at most 3")];
    if !peaks.is_empty() {
        let (name, peak) = ("resnet18-w2a2, most memory", median(peaks));
        rows.push(Row::new(name, peak / 1e6, "MB", ""));
        let is_real = |row: &&EngineMemory| {
            [&row.network, &row.engine, &row.precision].into_iter().eq([
                "resnet18",
                "onnxruntime",
                "f32",
            ])
        };
        if let Some(real) = engines.memory.iter().find(is_real) {
            let (ratio, unit) = (peak / real.peak_bytes, "x ONNX Runtime's f32");
            rows.push(Row::new(&format!("{name}, over floats"), ratio, unit, "at most 0.25"));
        }
    }
    Ok(rows)
}

/// Runs one image of a packed network, and prints the most memory that the process had, in bytes,
/// or 0 where the system does not say it.
pub(crate) fn once(path: &Path) -> ExitCode {
    let run = || -> Result<(), Box<dyn Error>> {
        let network = Network::new(&Model::load(path)?)?;
        let side = network.input().size[0];
        network.run(&Image::interleaved(&image(side), [side; 2]))?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        output::print(&(kilobytes.unwrap_or(0) * 1024).to_string())?;
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::tell(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
