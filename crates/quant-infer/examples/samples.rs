//! Writes ResNet-20s of several widths, with random weights, into a folder. They have no use but to
//! try programs that read packed networks:
//!
//! ```sh
//! cargo run --release -p quant-infer --example samples -- FOLDER
//! ```

#![expect(clippy::print_stdout, reason = "the program prints what it wrote")]

#[expect(clippy::unwrap_used, reason = "these models are those of the tests")]
#[path = "../tests/models/mod.rs"]
mod models;

use std::{env, error::Error, path::Path};

use quant_infer::bench::{Width, with_width};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).ok_or("usage: FOLDER")?;
    let (network, _) = models::resnet::resnet20(1, 4, 4);
    for width in Width::ALL {
        let path = Path::new(&folder).join(format!("resnet20-{}.qnet", width.name()));
        with_width(&network, width).save(&path)?;
        println!("{}", path.display());
    }
    Ok(())
}
