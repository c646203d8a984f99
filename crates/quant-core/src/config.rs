//! The configuration of a quantizer: one type for all methods.

use serde::{Deserialize, Serialize};

use crate::{
    error::QuantizerError,
    gradient::{Estimator, GradientScale},
    method::{Method, Role},
    qtool::compatibility::Compatibility,
};

/// The number of values that a quantizer can take: 2 to 256.
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
    /// Two levels, for the two signs.
    pub const BINARY: Levels = Levels(2);

    /// Returns `count` levels.
    ///
    /// # Errors
    /// [`QuantizerError::Levels`] where `count` is outside 2 to 256.
    pub fn new(count: usize) -> Result<Self, QuantizerError> {
        match u16::try_from(count) {
            Ok(levels @ 2..=256) => Ok(Self(levels)),
            _ => Err(QuantizerError::Levels { levels: count }),
        }
    }

    /// Returns 2^`bits` levels.
    ///
    /// # Errors
    /// [`QuantizerError::Bits`] unless `bits` is 1 to 8.
    pub fn from_bits(bits: u32) -> Result<Self, QuantizerError> {
        match bits {
            1..=8 => Ok(Self(1 << bits)),
            _ => Err(QuantizerError::Bits { bits }),
        }
    }

    /// Returns the number of levels.
    pub fn count(self) -> usize {
        usize::from(self.0)
    }

    /// Returns the number of steps between the lowest and the highest level: `count - 1`, written n
    /// in the formulas.
    pub fn steps(self) -> f32 {
        f32::from(self.0 - 1)
    }

    /// Returns the number of bits that one code takes: ceil(log2 count).
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

/// Where the levels lie: at 0 and above, or symmetric about 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Range {
    /// Levels in [0, clipping value].
    Unsigned,
    /// Levels in [-clipping value, clipping value].
    Signed,
}

/// Which elements share one clipping value.
///
/// ```
/// use burn::tensor::Device;
/// use quant_core::{Granularity, Levels, Method, QuantizerConfig, Role, Site};
///
/// let site = Site::weight("conv", [8, 4, 3, 3]);
/// for (granularity, groups) in [
///     (Granularity::PerTensor, 1),
///     (Granularity::PerChannel, 8),
///     (Granularity::Groups(2), 2),
///     (Granularity::GroupsOf(4), 8 * 4 / 4),
/// ] {
///     let config = QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(2)?);
///     let config = QuantizerConfig { granularity, ..config };
///     assert_eq!(config.init(&site, &Device::flex())?.groups(), groups);
/// }
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// All elements of the tensor.
    PerTensor,
    /// The elements of one output channel of a weight, or of one channel of an activation or
    /// output.
    PerChannel,
    /// The channels are divided into this many groups of consecutive channels; the elements of a
    /// group share a value. The number has to divide the number of channels or, for a weight, the
    /// product of its output and input channels.
    Groups(usize),
    /// Groups of this size: a group has this many kernels (input-output channel pairs) of a weight,
    /// or channels of an activation.
    GroupsOf(usize),
}

/// The normalisation of a weight before it is quantized. LQ-Nets also normalises activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// No normalisation.
    #[default]
    None,
    /// (w - mean)/std per group, with mean and std as constants. It is not undone after quantizing,
    /// except that [`QuantizerConfig::restore_normalization`] multiplies by std again.
    VarMean,
    /// Weights: the mean of the group is subtracted. Activations: they are divided by the mean of
    /// their image. It is undone after quantizing (LQ-Nets).
    Mean,
    /// Weights are divided by the standard deviation of their group, activations by that of their
    /// image. It is undone after quantizing (LQ-Nets).
    Var,
    /// For weights, both `Mean` and `Var` per group. It is undone after quantizing (LQ-Nets).
    MeanVar,
}

/// Everything that describes a quantizer, except the tensor that it quantizes.
///
/// Start from [`QuantizerConfig::new`] and change fields with struct update syntax. Fields that a
/// file leaves out have the values of [`QuantizerConfig::new`].
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
    /// The tensor of a layer that is quantized.
    pub role: Role,
    /// The number of values that the quantizer can take.
    pub levels: Levels,
    /// Whether the levels are unsigned or signed. Those of weights are always signed.
    pub range: Range,
    /// Which elements share a clipping value.
    pub granularity: Granularity,
    /// The gradient estimator of the clamp or sign.
    pub estimator: Estimator,
    /// The scale of the clipping value's gradient.
    pub gradient_scale: GradientScale,
    /// The factor d of the estimator `ewgs`, 0 or more.
    pub ewgs_factor: f64,
    /// B in the formulas, above 0: the initial clipping value (LSQ, LSQ+ and APoT, whose step sizes
    /// are fractions of it; PACT; N2UQ's top threshold), the fixed clipping value (DoReFa
    /// activations), or the divisor of the rounding grid (DoReFa weights).
    pub boundary: f64,
    /// The normalisation of a weight before it is quantized.
    pub normalization: Normalization,
    /// Whether the normalisation covers the whole weight, whatever the granularity.
    pub independent_norm: bool,
    /// Whether a weight normalised by `var-mean` is multiplied by its standard deviation again
    /// after quantizing. The mean stays subtracted, so that the levels stay symmetric.
    pub restore_normalization: bool,
    /// Whether the quantized value is multiplied by a learned factor per group, initially 1.
    pub gamma: bool,
    /// Behaviour of QTool that configurations imported from it rely on.
    pub qtool: Compatibility,
}
