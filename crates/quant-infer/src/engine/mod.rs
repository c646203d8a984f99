//! The executor.

mod coder;
mod conv;
mod even;
mod guess;
mod integers;
#[cfg(feature = "std")]
mod kernel;
mod layout;
mod links;
mod memory;
mod network;
mod one_pass;
mod operations;
mod packing;
mod per_channel;
mod per_threshold;
mod pixels;
mod plan;
mod prepare;
mod produce;
mod run;
mod session;
mod step;
mod store;
mod thresholds;
mod watch;

#[cfg(feature = "std")]
pub use kernel::Kernel;
pub use network::Network;
pub use packing::Packing;
pub use session::Session;
pub use thresholds::ComparedThresholds;
