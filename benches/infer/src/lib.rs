//! Packed networks with random weights, and the time that the engine takes for them.

mod builder;
mod measure;
#[path = "../../../crates/quant-nn/src/build/mobilenet_v1_blocks.rs"]
mod mobilenet_v1_blocks;
mod networks;

pub use measure::{Times, image, measure, median};
pub use networks::{Architecture, WIDTHS, network};
pub use quant_infer::bench::Width;
