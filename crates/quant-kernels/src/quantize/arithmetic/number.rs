//! The functions of one number that the formulas share.

/// The number 1.5·2^23. Adding it to a float below 2^22 and subtracting it again rounds half to
/// even.
const ROUNDING: f32 = 12_582_912.0;

/// Returns the nearest integer of a number of magnitude below 2^22, and of two the even one.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    (x + ROUNDING) - ROUNDING
}

/// Returns whether a clamp passes the gradient, which it does strictly between its bounds.
#[inline(always)]
pub(super) fn between(v: f32, lowest: f32, highest: f32) -> bool {
    (v > lowest) & (v < highest)
}

/// Returns x if it is passed, else 0.
#[inline(always)]
pub(super) fn only(passed: bool, x: f32) -> f32 {
    if passed { x } else { 0.0 }
}

/// Returns the sign of x, which is 1 or -1, or 0 for zeros.
#[inline(always)]
pub(super) fn sign_of(x: f32) -> f32 {
    only(x > 0.0, 1.0) - only(x < 0.0, 1.0)
}
