//! Classifies a picture with a packed network, as `quant pack` writes it and as every run leaves it
//! in `packed.qnet`. The program contains no training framework.
//!
//! ```sh
//! cargo run --release -p embed_packed -- runs/shapes-lsq-w2a2-001/packed.qnet picture.jpg
//! ```

#![expect(clippy::print_stdout, reason = "the classes are what the program prints")]

use std::{env, error::Error};

use image::imageops::FilterType;
use quant_infer::{Image, Network};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = env::args().skip(1).collect();
    let [network, picture] = &paths[..] else { return Err("usage: NETWORK.qnet PICTURE".into()) };
    let network = Network::load(network)?;
    let [height, width] = network.input().size;
    let picture = image::open(picture)?;
    // The part in the centre that has the shape of the network's images, in their size.
    let picture = picture.resize_to_fill(width as u32, height as u32, FilterType::Triangle);
    let scores = network.run(&Image::interleaved(&picture.to_rgb8(), [height, width]))?;
    for (class, score) in network.top_k(&scores, 3) {
        println!("{class} {score:.3}");
    }
    Ok(())
}
