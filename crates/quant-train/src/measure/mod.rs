//! Measurements of a network: its score, and the health of its quantizers.

pub mod evaluate;
pub mod monitor;
