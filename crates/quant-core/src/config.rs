//! What a quantizer is to be: the configuration, one serde type for all methods.

use std::fmt::{self, Display, Formatter};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{
    capability::name,
    error::QuantizerError,
    gradient::{Estimator, GradientScale, GradientScaleRule},
    quantizer::Quantizer,
    site::Site,
};

/// What is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The input of a layer.
    Activation,
    /// The weight of a layer.
    Weight,
    /// The output of a layer.
    Output,
}

impl Display for Role {
    /// As it is written in recipes.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self))
    }
}

impl Display for Method {
    /// As it is written in recipes.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self))
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 3] = [Role::Activation, Role::Weight, Role::Output];
}

/// The formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Learned step size quantization by its clipping value ([`crate::methods::lsq`]).
    Lsq,
    /// The same as in its paper, by its step size ([`crate::methods::lsq_step`]).
    LsqStep,
    /// LSQ+ with a learned offset ([`crate::methods::lsq_plus`]).
    LsqPlus,
    /// DoReFa-Net ([`crate::methods::dorefa`]).
    Dorefa,
    /// Parameterized clipping activation ([`crate::methods::pact`]).
    Pact,
    /// Signs ([`crate::methods::xnor`]).
    Xnor,
    /// FATNN's learned thresholds ([`crate::methods::fatnn`]).
    Fatnn,
    /// LQ-Nets' learned basis ([`crate::methods::lq_nets`]).
    LqNets,
    /// Trained ternary quantization ([`crate::methods::ttq`]).
    Ttq,
    /// Additive powers of two ([`crate::methods::apot`]).
    Apot,
    /// N2UQ's learned thresholds with evenly spaced outputs ([`crate::methods::n2uq`]).
    N2uq,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 11] = [
        Method::Lsq,
        Method::LsqStep,
        Method::LsqPlus,
        Method::Dorefa,
        Method::Pact,
        Method::Xnor,
        Method::Fatnn,
        Method::LqNets,
        Method::Ttq,
        Method::Apot,
        Method::N2uq,
    ];
}

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

/// What an XNOR activation's signs are multiplied by: means of |x| within each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignScale {
    /// Nothing.
    #[default]
    None,
    /// The mean over channels, at each position.
    OverChannels,
    /// The mean over positions, of each channel.
    OverResolution,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Given")]
pub struct QuantizerConfig {
    /// The formula.
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
    /// Groups that do not fit fall back as in the reference implementation: to one per output channel
    /// of a convolution's weight, else to one; weights of linear layers have one. For imported
    /// configurations; [`crate::Quantizer::group_fallback`] tells where it happened.
    pub group_fallback: bool,
    /// Scale of XNOR activations.
    pub sign_scale: SignScale,
    /// Whether XNOR activations learn where their sign changes, per group, initially at 0 (ReActNet's
    /// RSign).
    pub shift: bool,
    /// Initial slope of FATNN's pieces: of weights; over the boundary, of activations. Above 0.
    pub initial_slope: f64,
    /// Whether FATNN's values are multiplied by a least squares factor.
    pub closed_form: bool,
    /// Whether FATNN keeps a clipping value that nothing uses, as the reference implementation does, so
    /// that states match. For imported configurations.
    pub unused_clipping_value: bool,
    /// Where LQ-Nets' thresholds lie between two levels: 0 at the upper, 1 at the lower.
    pub threshold_position: f64,
    /// Whether LQ-Nets' basis is the running mean of all solutions, instead of a moving average.
    pub running_mean_basis: bool,
    /// TTQ's thresholds, in units of a group's largest magnitude: 0 to below 1.
    pub ternary_threshold: f64,
    /// Whether the quantized value is multiplied by a learned factor per group, initially 1.
    pub gamma: bool,
}

/// A configuration as it is written: what is left out is as [`QuantizerConfig::new`] has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    method: Method,
    role: Role,
    levels: Levels,
    range: Option<Range>,
    granularity: Option<Granularity>,
    estimator: Option<Estimator>,
    gradient_scale: Option<GradientScale>,
    ewgs_factor: Option<f64>,
    boundary: Option<f64>,
    normalization: Option<Normalization>,
    independent_norm: Option<bool>,
    restore_normalization: Option<bool>,
    group_fallback: Option<bool>,
    sign_scale: Option<SignScale>,
    shift: Option<bool>,
    initial_slope: Option<f64>,
    closed_form: Option<bool>,
    unused_clipping_value: Option<bool>,
    threshold_position: Option<f64>,
    running_mean_basis: Option<bool>,
    ternary_threshold: Option<f64>,
    gamma: Option<bool>,
}

impl From<Given> for QuantizerConfig {
    fn from(given: Given) -> Self {
        let usual = Self::new(given.method, given.role, given.levels);
        Self {
            range: given.range.unwrap_or(usual.range),
            granularity: given.granularity.unwrap_or(usual.granularity),
            estimator: given.estimator.unwrap_or(usual.estimator),
            gradient_scale: given.gradient_scale.unwrap_or(usual.gradient_scale),
            ewgs_factor: given.ewgs_factor.unwrap_or(usual.ewgs_factor),
            boundary: given.boundary.unwrap_or(usual.boundary),
            normalization: given.normalization.unwrap_or(usual.normalization),
            independent_norm: given.independent_norm.unwrap_or(usual.independent_norm),
            restore_normalization: given
                .restore_normalization
                .unwrap_or(usual.restore_normalization),
            group_fallback: given.group_fallback.unwrap_or(usual.group_fallback),
            sign_scale: given.sign_scale.unwrap_or(usual.sign_scale),
            shift: given.shift.unwrap_or(usual.shift),
            initial_slope: given.initial_slope.unwrap_or(usual.initial_slope),
            closed_form: given.closed_form.unwrap_or(usual.closed_form),
            unused_clipping_value: given
                .unused_clipping_value
                .unwrap_or(usual.unused_clipping_value),
            threshold_position: given.threshold_position.unwrap_or(usual.threshold_position),
            running_mean_basis: given.running_mean_basis.unwrap_or(usual.running_mean_basis),
            ternary_threshold: given.ternary_threshold.unwrap_or(usual.ternary_threshold),
            gamma: given.gamma.unwrap_or(usual.gamma),
            method: given.method,
            role: given.role,
            levels: given.levels,
        }
    }
}

impl QuantizerConfig {
    /// The usual form of a method in a role: unsigned activations, signed weights, outputs signed
    /// where the method can, one clipping value per tensor, plain clamp gradient, clipping value 1;
    /// LSQ's family with its paper's gradient scale, APoT's weights with their normalisation.
    pub fn new(method: Method, role: Role, levels: Levels) -> Self {
        use Method::{Apot, Fatnn, LqNets, Lsq, LsqPlus, LsqStep, Xnor};
        Self {
            method,
            role,
            levels,
            range: match (role, method) {
                (Role::Weight, _) => Range::Signed,
                (Role::Output, Lsq | LsqStep | Xnor | LqNets | Apot) => Range::Signed,
                (Role::Output, Fatnn) if levels == Levels::TERNARY => Range::Signed,
                _ => Range::Unsigned,
            },
            granularity: Granularity::PerTensor,
            estimator: Estimator::default(),
            gradient_scale: GradientScale {
                rule: match method {
                    Lsq | LsqStep | LsqPlus => GradientScaleRule::Lsq,
                    _ => GradientScaleRule::None,
                },
                ..GradientScale::default()
            },
            ewgs_factor: 1e-3,
            boundary: 1.0,
            normalization: match (method, role) {
                (Apot, Role::Weight) => Normalization::VarMean,
                _ => Normalization::None,
            },
            independent_norm: false,
            restore_normalization: false,
            group_fallback: false,
            sign_scale: SignScale::None,
            shift: false,
            initial_slope: 0.5,
            closed_form: false,
            unused_clipping_value: false,
            threshold_position: 0.5,
            running_mean_basis: false,
            ternary_threshold: 0.05,
            gamma: false,
        }
    }

    /// Makes the quantizer of this configuration at `site`.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate), and [`QuantizerError::Groups`] where the granularity
    /// does not fit the site's shape.
    pub fn init(&self, site: &Site, device: &Device) -> Result<Quantizer, QuantizerError> {
        self.validate(&site.name)?;
        Quantizer::new(self, site, device)
    }
}
