//! Updates of weights: the optimizers and their parameter groups, learning rates, the loss scale,
//! and the moving average.

pub(crate) mod adam;
pub(crate) mod average;
pub(crate) mod clip;
mod foreach;
pub mod optimizer;
pub mod precision;
pub mod schedule;
mod sgd;
