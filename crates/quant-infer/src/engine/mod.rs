//! The executor.

mod coder;
mod conv;
mod even;
mod guess;
mod layout;
mod links;
mod network;
mod one_pass;
mod packing;
mod per_channel;
mod pixels;
mod plan;
mod prepare;
mod produce;
mod run;
mod session;
mod store;
mod thresholds;
mod watch;

pub use network::Network;
pub use packing::Packing;
pub use session::Session;
pub use thresholds::ComparedThresholds;
