//! Packed networks with random weights, and the time that the engine takes for them.

mod builder;
mod measure;
mod networks;

pub use measure::{Times, image, measure, median};
pub use networks::{Architecture, WIDTHS, network};
pub use quant_infer::bench::Width;
