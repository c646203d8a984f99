//! What can go wrong when a network is lowered.

/// A network that cannot be lowered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LowerError {
    /// The codes of a quantizer do not rise with its input, so that thresholds cannot describe
    /// them.
    #[error(
        "{layer}: its quantizer gives the number {x} the code {found}, where thresholds give \
         {expected}; only a quantizer whose codes never fall while its input rises can be packed"
    )]
    NotMonotone {
        /// The path of the quantizer.
        layer: String,
        /// A number that shows it.
        x: f32,
        /// The code that the quantizer gives it.
        found: u8,
        /// The code that the thresholds give it.
        expected: u8,
    },
    /// The values of a quantizer are not ordered, or not finite.
    #[error(
        "{layer}: its quantizer has the values {values:?}; only finite values in ascending or \
         descending order can be packed"
    )]
    Values {
        /// The path of the quantizer.
        layer: String,
        /// The values of one of its groups.
        values: Vec<f32>,
    },
    /// A layer does not have what a lowered one must have.
    #[error("{layer}: {reason}")]
    Layer {
        /// The path of the layer.
        layer: String,
        /// What is wrong with it, and what would work.
        reason: String,
    },
    /// The lowered network is not valid: a sum exceeds 32 bits, a number is not finite, or sizes do
    /// not fit together.
    #[error(transparent)]
    Model(#[from] quant_infer::Error),
}
