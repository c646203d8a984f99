//! Convolutions: the weights in the order of a kernel, and what becomes of its sums.

mod choice;
mod combine;
mod constant;
mod float;
mod fold;
mod integer;
mod taps;
mod tiles;
mod unrolled;
mod weights;

pub(super) use choice::choose;
pub(super) use combine::StripSums;
pub(super) use constant::Constants;
pub(super) use float::FloatConv;
pub(super) use fold::{Folded, fold};
pub(super) use integer::{Group, IntegerConv, largest_sums};
pub(super) use taps::{OperandSize, Places};
