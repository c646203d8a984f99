//! Builds residual networks (He et al. 2016).

mod block;
mod skip;
mod spec;
mod stages;
