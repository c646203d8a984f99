//! What a quantizer is to be: the configuration, one serde type for all methods.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{
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

/// The formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Learned step size quantization ([`crate::methods::lsq`]).
    Lsq,
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
    /// [`QuantizerError::Levels`] unless `bits` is 1 to 8.
    pub fn from_bits(bits: u32) -> Result<Self, QuantizerError> {
        Self::new(1usize.checked_shl(bits).unwrap_or(usize::MAX))
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
    /// (w - mean)/std per group, both taken as constants, for good.
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
/// Start from [`QuantizerConfig::new`] and change fields with struct update syntax:
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
#[serde(deny_unknown_fields)]
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
    #[serde(default)]
    pub estimator: Estimator,
    /// Scale of the clipping value's gradient.
    #[serde(default)]
    pub gradient_scale: GradientScale,
    /// Initial clipping value (LSQ, PACT), fixed clipping value (DoReFa activation), or the divisor
    /// of the rounding grid (DoReFa weight): B in the formulas, above 0.
    #[serde(default = "one")]
    pub boundary: f64,
    /// Normalisation of a weight before it is quantized.
    #[serde(default)]
    pub normalization: Normalization,
    /// Groups that do not fit fall back as in the reference implementation: to one per output channel
    /// of a convolution's weight, else to one; weights of linear layers have one. For imported
    /// configurations.
    #[serde(default)]
    pub group_fallback: bool,
    /// Scale of XNOR activations.
    #[serde(default)]
    pub sign_scale: SignScale,
    /// Whether FATNN's values are multiplied by a running least squares factor.
    #[serde(default)]
    pub closed_form: bool,
    /// Where LQ-Nets' thresholds lie between two levels: 0 at the upper, 1 at the lower.
    #[serde(default = "half")]
    pub threshold_position: f64,
    /// Whether LQ-Nets' basis is the running mean of all solutions, instead of a moving average.
    #[serde(default)]
    pub running_mean_basis: bool,
    /// Whether the quantized value is multiplied by a learned factor per group, initially 1.
    #[serde(default)]
    pub gamma: bool,
}

fn one() -> f64 {
    1.0
}

fn half() -> f64 {
    0.5
}

impl QuantizerConfig {
    /// The usual form of a method in a role: unsigned activations, signed weights, outputs signed
    /// where the method can, one clipping value per tensor, plain clamp gradient, clipping value 1;
    /// LSQ with its paper's gradient scale.
    pub fn new(method: Method, role: Role, levels: Levels) -> Self {
        Self {
            method,
            role,
            levels,
            range: match (role, method) {
                (Role::Weight, _) => Range::Signed,
                (Role::Output, Method::Lsq | Method::Xnor | Method::LqNets) => Range::Signed,
                (Role::Output, Method::Fatnn) if levels == Levels::TERNARY => Range::Signed,
                _ => Range::Unsigned,
            },
            granularity: Granularity::PerTensor,
            estimator: Estimator::default(),
            gradient_scale: GradientScale {
                rule: match method {
                    Method::Lsq => GradientScaleRule::Lsq,
                    _ => GradientScaleRule::None,
                },
                ..GradientScale::default()
            },
            boundary: 1.0,
            normalization: Normalization::None,
            group_fallback: false,
            sign_scale: SignScale::None,
            closed_form: false,
            threshold_position: 0.5,
            running_mean_basis: false,
            gamma: false,
        }
    }

    /// Checks that the fields go together. [`init`](Self::init) calls it.
    ///
    /// # Errors
    /// [`QuantizerError::Unsupported`] and [`QuantizerError::NotPositive`], with `layer` in the
    /// message.
    pub fn validate(&self, layer: &str) -> Result<(), QuantizerError> {
        let unsupported = |field, value: String, accepted| {
            Err(QuantizerError::Unsupported {
                layer: layer.to_owned(),
                field,
                value,
                method: self.method,
                role: self.role,
                accepted,
            })
        };
        for (field, value) in
            [("boundary", self.boundary), ("gradient_scale.factor", self.gradient_scale.factor)]
        {
            if !(value.is_finite() && value > 0.0) {
                let layer = layer.to_owned();
                return Err(QuantizerError::NotPositive { layer, field, value });
            }
        }
        let weight = self.role == Role::Weight;
        let unsupported_value = |field, value: &dyn std::fmt::Debug, accepted| {
            unsupported(field, format!("{value:?}"), accepted)
        };
        if weight && self.range == Range::Unsigned {
            return unsupported_value("range", &self.range, "weights are signed");
        }
        let takes_gamma = match self.method {
            Method::Lsq | Method::Dorefa => self.role != Role::Activation,
            Method::Xnor => weight,
            Method::Pact | Method::Fatnn | Method::LqNets => false,
        };
        if self.gamma && !takes_gamma {
            let accepted = "LSQ and DoReFa weights and outputs and XNOR weights take a gamma";
            return unsupported_value("gamma", &self.gamma, accepted);
        }
        if !(0.0..=1.0).contains(&self.threshold_position) {
            return unsupported_value("threshold_position", &self.threshold_position, "0 to 1");
        }
        if self.sign_scale != SignScale::None && (weight || self.method != Method::Xnor) {
            return unsupported_value("sign_scale", &self.sign_scale, "only XNOR activations");
        }
        if self.closed_form
            && (self.method != Method::Fatnn || self.granularity != Granularity::PerTensor)
        {
            let accepted = "only FATNN, per tensor";
            return unsupported_value("closed_form", &self.closed_form, accepted);
        }
        let accepted = match self.method {
            Method::LqNets => "none, mean, var or (weights) mean-var",
            _ => "none or (weights) var-mean",
        };
        let normalization = match (self.method, self.normalization) {
            (_, Normalization::None) => true,
            (Method::LqNets, Normalization::Mean | Normalization::Var) => true,
            (Method::LqNets, Normalization::MeanVar) => weight,
            (Method::LqNets, Normalization::VarMean) => false,
            (_, Normalization::VarMean) => weight,
            _ => false,
        };
        if !normalization {
            return unsupported_value("normalization", &self.normalization, accepted);
        }
        let sign = self.method == Method::Xnor;
        let estimator = match self.estimator {
            Estimator::Clipped => true,
            Estimator::SteScale => self.method == Method::Lsq,
            Estimator::Identity | Estimator::Triangle => sign,
        };
        if !estimator {
            let accepted = match self.method {
                Method::Xnor => "clipped, identity or triangle",
                Method::Lsq => "clipped or ste-scale",
                _ => "clipped",
            };
            return unsupported_value("estimator", &self.estimator, accepted);
        }
        let (levels, per_tensor) = (self.levels.count(), Granularity::PerTensor);
        match self.method {
            Method::Lsq => {}
            Method::Pact if weight => {
                return unsupported("method", "pact".into(), "PACT's weights are DoReFa weights");
            }
            Method::Xnor => {
                if levels != 2 {
                    return unsupported_value("levels", &levels, "2");
                }
                if !weight && self.granularity != per_tensor {
                    return unsupported_value("granularity", &self.granularity, "per-tensor");
                }
            }
            Method::Fatnn => {
                let signed = self.range == Range::Signed;
                if signed && levels != 3 {
                    return unsupported_value("levels", &levels, "3 where signed, as weights are");
                }
                if !(2..=4).contains(&levels) {
                    return unsupported_value("levels", &levels, "2, 3 or 4");
                }
            }
            Method::LqNets => {
                if levels != 3 && !levels.is_power_of_two() {
                    return unsupported_value("levels", &levels, "3 or a power of two");
                }
            }
            Method::Dorefa | Method::Pact => {
                if !weight && self.range == Range::Signed {
                    return unsupported_value("range", &self.range, "unsigned");
                }
                let grouped = weight && (self.gamma || self.normalization != Normalization::None);
                if self.granularity != per_tensor && !grouped {
                    return unsupported_value("granularity", &self.granularity, "per-tensor");
                }
            }
        }
        Ok(())
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
