//! Times.

use std::time::{Duration, Instant};

use quant_infer::{Error, Image, Network};

/// The times of a network.
#[derive(Debug, Clone)]
pub struct Times {
    /// The median of the images' times.
    pub median: Duration,
    /// The shortest time of an image.
    pub shortest: Duration,
    /// The name of each step's first layer, with the shortest time of the step.
    pub steps: Vec<(String, Duration)>,
}

/// Returns the bytes of a picture, `[side, side, 3]`.
pub fn image(side: usize) -> Vec<u8> {
    (0..3 * side * side).map(|index| (index * 7 % 251) as u8).collect()
}

/// Measures a network on one thread, with one image after another.
///
/// # Errors
/// If the network does not take images of its own size.
pub fn measure(network: &Network, images: usize) -> Result<Times, Error> {
    let side = network.input().size[0];
    let bytes = image(side);
    let image = Image::interleaved(&bytes, [side; 2]);
    let mut session = network.session();
    session.run(&image)?;
    let mut steps: Vec<(String, Duration)> = Vec::new();
    let mut all = Vec::new();
    for _ in 0..images.max(1) {
        let start = Instant::now();
        session.run(&image)?;
        all.push(start.elapsed());
    }
    for _ in 0..images.div_ceil(2) {
        let times = session.profile(&image)?;
        steps.resize(times.len(), (String::new(), Duration::MAX));
        for (step, (name, time)) in steps.iter_mut().zip(times) {
            *step = (name.to_owned(), step.1.min(time));
        }
    }
    all.sort_unstable();
    Ok(Times { median: median(&all), shortest: all[0], steps })
}

/// Returns the median of sorted times.
pub fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
