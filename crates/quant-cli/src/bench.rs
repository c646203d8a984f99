//! The command that says what a packed network costs on this processor.

use std::{error::Error, fmt::Write, path::Path, time::Duration};

use quant_infer::{
    Image, Network,
    bench::{Width, with_width},
    model::Model,
};
use quant_kernels::simd::InstructionSet;

/// The times of a network: of an image, and of each step.
struct Times {
    image: Duration,
    steps: Vec<Duration>,
}

/// Measures a packed network on one thread, with one image of the network's own size after another,
/// and returns two tables: the shortest time of each layer, and the times of the same network with
/// other widths.
///
/// # Errors
/// If the file cannot be read, and for instruction sets that the processor does not have.
pub fn bench(path: &Path, images: usize, set: Option<&str>) -> Result<String, Box<dyn Error>> {
    let model = Model::load(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let set = choose(set)?;
    let network = Network::with_instruction_set(&model, set)?;
    let times = measure(&network, images)?;
    let mut text = format!(
        "{}: {:.3} ms for an image of {} x {} pixels, on one thread with {}\n\n",
        model.name,
        milliseconds(times.image),
        model.input.size[0],
        model.input.size[1],
        set.name()
    );
    write_layers(&mut text, &network, &times, set)?;
    write_widths(&mut text, &model, images, set)?;
    Ok(text.trim_end().to_owned())
}

fn choose(name: Option<&str>) -> Result<InstructionSet, Box<dyn Error>> {
    let Some(name) = name else { return Ok(InstructionSet::detect()) };
    let found = InstructionSet::available().find(|set| set.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = InstructionSet::available().map(InstructionSet::name).collect();
        let names = names.join(", ");
        format!("this processor has no instruction set {name}; it has {names}").into()
    })
}

/// Returns the shortest times of some images.
fn measure(network: &Network, images: usize) -> Result<Times, Box<dyn Error>> {
    let size = network.input().size;
    let length = network.input().scale.len() * size[0] * size[1];
    let bytes: Vec<u8> = (0..length).map(|index| (index * 7 % 251) as u8).collect();
    let image = Image::interleaved(&bytes, size);
    let mut session = network.session();
    let mut steps: Vec<Duration> = Vec::new();
    let mut shortest = Duration::MAX;
    // The first image allocates the memory.
    for run in 0..=images.max(1) {
        let times = session.profile(&image)?;
        if run == 0 {
            continue;
        }
        shortest = shortest.min(times.iter().map(|(_, time)| *time).sum());
        steps.resize(times.len(), Duration::MAX);
        for (step, (_, time)) in steps.iter_mut().zip(times) {
            *step = time.min(*step);
        }
    }
    Ok(Times { image: shortest, steps })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn write_layers(
    text: &mut String,
    network: &Network,
    times: &Times,
    set: InstructionSet,
) -> Result<(), Box<dyn Error>> {
    let steps = network.steps();
    let name = steps.iter().map(|step| step.name.len()).max().unwrap_or(0).max(5);
    let all: Duration = times.steps.iter().sum();
    let mut peaks = Vec::new();
    let mut convolutions = Duration::ZERO;
    writeln!(
        text,
        "{:name$}  {:16} {:>9} {:>6} {:>12} {:>8}",
        "layer", "kernel", "ms", "share", "products/ns", "of peak"
    )?;
    for (step, time) in steps.iter().zip(&times.steps) {
        let share = 100.0 * time.as_secs_f64() / all.as_secs_f64();
        write!(text, "{:name$}  ", step.name)?;
        let Some(kernel) = step.kernel else {
            writeln!(text, "{:16} {:9.3} {share:5.1}%", "", milliseconds(*time))?;
            continue;
        };
        convolutions += *time;
        let speed = step.products as f64 / time.as_secs_f64() * 1e-9;
        let known = peaks.iter().find(|(known, _)| *known == kernel).map(|(_, peak)| *peak);
        let peak = known.unwrap_or_else(|| {
            let peak = kernel.peak(set);
            peaks.push((kernel, peak));
            peak
        });
        let of_peak = peak.map(|peak| format!("{:.0}%", 100.0 * speed / peak)).unwrap_or_default();
        let kernel = kernel.name();
        writeln!(
            text,
            "{kernel:16} {:9.3} {share:5.1}% {speed:12.1} {of_peak:>8}",
            milliseconds(*time)
        )?;
    }
    let share = 100.0 * convolutions.as_secs_f64() / all.as_secs_f64();
    writeln!(
        text,
        "\nA row has the layers that are computed together, by the name of the first one. \
         {share:.0}% of the\ntime is that of convolutions and what is computed with them. \
         \"Of peak\" compares a row with the\nfastest that its kernel alone was just measured \
         at, for 3 x 3 convolutions of 64 channels.\n"
    )?;
    for (kernel, peak) in peaks {
        if let Some(peak) = peak {
            writeln!(text, "peak of {:17} {peak:8.1} products/ns", kernel.name())?;
        }
    }
    Ok(())
}

fn write_widths(
    text: &mut String,
    model: &Model,
    images: usize,
    set: InstructionSet,
) -> Result<(), Box<dyn Error>> {
    writeln!(
        text,
        "\nThe same layers with weights and activations of another width, which have other \
         scores. The\nconvolution of the image, the last one, and those whose quantizers depend \
         on the image stay as\nthey are.\n\n{:10} {:>9}  kernels",
        "width", "ms"
    )?;
    for width in Width::ALL {
        let network = match Network::with_instruction_set(&with_width(model, width), set) {
            Ok(network) => network,
            Err(error) => {
                writeln!(text, "{:10} {:>9}  {error}", width.name(), "")?;
                continue;
            }
        };
        let time = measure(&network, images)?.image;
        let mut kernels: Vec<&str> = Vec::new();
        for kernel in network.steps().iter().filter_map(|step| step.kernel) {
            if !kernels.contains(&kernel.name()) {
                kernels.push(kernel.name());
            }
        }
        let kernels = kernels.join(", ");
        writeln!(text, "{:10} {:9.3}  {kernels}", width.name(), milliseconds(time))?;
    }
    Ok(())
}
