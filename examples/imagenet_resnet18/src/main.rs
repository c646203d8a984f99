//! Trains a ResNet-18 on images in ImageNet's folder layout, first in full precision, then with
//! 2-bit weights and activations. Without arguments, it trains on a small set of images that it
//! renders itself.

use std::{error::Error, path::PathBuf, process::ExitCode};

use quant_cli::train::{self, TrainProgram};
use quant_data::dataset::shapes::ShapesConfig;

fn main() -> ExitCode {
    train::main(&TrainProgram {
        data: Some(rendered),
        ..TrainProgram::new(
            "imagenet_resnet18",
            "Trains a low-bit ResNet on train/<class>/*.jpg and val/<class>/*.jpg",
            ("shapes.toml", include_str!("../recipes/shapes.toml")),
        )
    })
}

/// Renders the set of images in the cache folder, and returns its folder.
fn rendered() -> Result<PathBuf, Box<dyn Error>> {
    let cache = dirs::cache_dir().unwrap_or_else(std::env::temp_dir);
    Ok(ShapesConfig::default().render(&cache.join("quant-train"))?)
}
