//! Prints the scores of an image as bits, as numbers and with their classes. The image is a file of
//! bytes `[height, width, channels]` of the network's size:
//!
//! ```sh
//! cargo run --release -p quant-infer --example scores -- packed.qnet image.bytes
//! ```

#![expect(clippy::print_stdout, reason = "the scores are what the program prints")]

use std::{env, error::Error, fs};

use quant_infer::{Image, Network};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = env::args().skip(1).collect();
    let [network, image] = &paths[..] else { return Err("usage: NETWORK.qnet IMAGE".into()) };
    let network = Network::load(network)?;
    let pixels = fs::read(image)?;
    let scores = network.run(&Image::interleaved(&pixels, network.input().size))?;
    for (class, score) in scores.iter().enumerate() {
        let name = network.classes().get(class).map_or("", |name| name);
        println!("{:08x} {score} {name}", score.to_bits());
    }
    Ok(())
}
