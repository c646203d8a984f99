//! What a quantizer is to be: the configuration, one serde type for all methods.

use serde::{Deserialize, Serialize};

use crate::{
    error::QuantizerError,
    gradient::{Estimator, GradientScale},
    method::{Method, Role},
    qtool::Compatibility,
};

/// Number of values a quantizer can take: 2 to 256.
///
/// ```
/// use quant_core::Levels;
/// assert_eq!(Levels::from_bits(2)?.count(), 4);
/// assert_eq!(Levels::TERNARY.count(), 3);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub struct Levels(u16);

impl Levels {
    /// Three levels: -1, 0, 1.
    pub const TERNARY: Levels = Levels(3);
    /// Two: a sign.
    pub const BINARY: Levels = Levels(2);

    /// `count` levels.
    ///
    /// # Errors
    /// [`QuantizerError::Levels`] outside 2 to 256.
    pub fn new(count: usize) -> Result<Self, QuantizerError> {
        match u16::try_from(count) {
            Ok(levels @ 2..=256) => Ok(Self(levels)),
            _ => Err(QuantizerError::Levels { levels: count }),
        }
    }

    /// 2^`bits` levels.
    ///
    /// # Errors
    /// [`QuantizerError::Bits`] unless `bits` is 1 to 8.
    pub fn from_bits(bits: u32) -> Result<Self, QuantizerError> {
        match bits {
            1..=8 => Ok(Self(1 << bits)),
            _ => Err(QuantizerError::Bits { bits }),
        }
    }

    /// How many.
    pub fn count(self) -> usize {
        usize::from(self.0)
    }

    /// Steps between the lowest and the highest level: `count - 1`, written n in the formulas.
    pub fn steps(self) -> f32 {
        f32::from(self.0 - 1)
    }

    /// Bits needed to store one code: ceil(log2 count).
    pub fn bits(self) -> u32 {
        u16::BITS - (self.0 - 1).leading_zeros()
    }
}

impl TryFrom<usize> for Levels {
    type Error = QuantizerError;

    fn try_from(count: usize) -> Result<Self, QuantizerError> {
        Self::new(count)
    }
}

impl From<Levels> for usize {
    fn from(levels: Levels) -> usize {
        levels.count()
    }
}

/// Where the levels lie: from 0 up, or symmetric about 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Range {
    /// [0, clipping value].
    Unsigned,
    /// [-clipping value, clipping value].
    Signed,
}

/// How many elements share one clipping value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// All.
    PerTensor,
    /// Those of one output channel (weight), or of one channel (activation, output).
    PerChannel,
    /// This many groups of consecutive channels. They must divide the channels; of a weight, the
    /// product of output and input channels.
    Groups(usize),
    /// Groups of this many kernels (input-output channel pairs) of a weight, or channels of an
    /// activation.
    GroupsOf(usize),
}

/// Normalisation of a weight before it is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// None.
    #[default]
    None,
    /// (w - mean)/std per group, both taken as constants, for good or until
    /// [`QuantizerConfig::restore_normalization`].
    VarMean,
    /// Weights: w - mean per group; activations: divided by their image's mean. Undone after
    /// quantizing (LQ-Nets).
    Mean,
    /// Weights: divided by their group's deviation; activations by their image's. Undone after
    /// quantizing (LQ-Nets).
    Var,
    /// Weights: mean and deviation per group. Undone after quantizing (LQ-Nets).
    MeanVar,
}

/// Everything that describes a quantizer but the tensor it stands at.
///
/// Start from [`QuantizerConfig::new`] and change fields with struct update syntax. Read from a file,
/// fields that are left out have the values that it gives them.
///
/// ```
/// use quant_core::{Granularity, Levels, Method, QuantizerConfig, Role};
///
/// let config = QuantizerConfig {
///     granularity: Granularity::PerChannel,
///     ..QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(2)?)
/// };
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizerConfig {
    /// The formula, with the options that belong to it.
    pub method: Method,
    /// What is quantized.
    pub role: Role,
    /// Number of values.
    pub levels: Levels,
    /// Unsigned or signed. Weights are always signed.
    pub range: Range,
    /// Elements that share a clipping value.
    pub granularity: Granularity,
    /// Gradient at the clamp.
    pub estimator: Estimator,
    /// Scale of the clipping value's gradient.
    pub gradient_scale: GradientScale,
    /// Factor d of the estimator `ewgs`, 0 or more.
    pub ewgs_factor: f64,
    /// Initial clipping value (LSQ, LSQ+ and APoT, of which step sizes are fractions; PACT; N2UQ's top
    /// threshold), fixed clipping value (DoReFa activation), or the divisor of the rounding grid (DoReFa
    /// weight): B in the formulas, above 0.
    pub boundary: f64,
    /// Normalisation of a weight before it is quantized.
    pub normalization: Normalization,
    /// Whether the normalisation is over the whole weight, whatever the granularity.
    pub independent_norm: bool,
    /// Whether a `var-mean` normalised weight is multiplied by its standard deviation again after
    /// quantizing. The mean stays subtracted, so that the levels stay symmetric.
    pub restore_normalization: bool,
    /// Whether the quantized value is multiplied by a learned factor per group, initially 1.
    pub gamma: bool,
    /// Habits of another program, for configurations that come from there.
    pub qtool: Compatibility,
}
