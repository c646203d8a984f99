//! A rule's formula and its gradient, as the loops call them.

use crate::quantize::lanes::Lanes;

/// The arithmetic of a rule; its first `T` parameters have gradients.
pub(in crate::quantize) trait Arithmetic<const T: usize>:
    Copy + Send + Sync
{
    /// The constants that are computed from the parameters of a group.
    type Group<'a>: Copy;

    fn group(self, parameters: &[f32]) -> Self::Group<'_>;

    fn quantize(self, group: Self::Group<'_>, x: Lanes) -> Lanes;

    /// Returns the gradient of x, and adds the gradients of the parameters to `terms`.
    fn backward(self, group: Self::Group<'_>, x: Lanes, g: Lanes, terms: &mut [Lanes; T]) -> Lanes;
}

/// A loop that is compiled for the arithmetic of every rule.
pub(in crate::quantize) trait WithArithmetic {
    type Output;

    fn run<const T: usize>(self, arithmetic: impl Arithmetic<T>) -> Self::Output;
}
