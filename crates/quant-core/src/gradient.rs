//! Gradient estimators, and the rules that scale the gradients of parameters.

use serde::{Deserialize, Serialize};

/// The function that is used in place of the derivative of a clamp or of a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// The clipped straight-through estimator (Bengio et al. 2013; Hubara et al. 2016): 1 strictly
    /// inside the range, 0 outside it and, as in PyTorch, at its bounds. The range of a sign is
    /// -1..1.
    #[default]
    Clipped,
    /// The clipped estimator times sqrt(elements / elements inside the range), over the whole
    /// tensor. It keeps the norm of the gradient when many elements are clipped. The factor is 1 if
    /// no element is inside. It is for clamps only.
    ///
    /// The reference implementation counts the elements after clamping, when all are inside, so its
    /// factor is always 1. Imported configurations therefore become [`Clipped`](Self::Clipped).
    SteScale,
    /// The straight-through estimator: 1 everywhere. It is for signs only.
    Identity,
    /// Element-wise gradient scaling (Lee et al., "Network Quantization with Element-wise Gradient
    /// Scaling", CVPR 2021) of the rounding inside a clipped range: g·(1 + d·sign(g)·(u - q)), with
    /// the clipped value u in 0..1, its level q, the incoming gradient g and the factor d, which is
    /// [`crate::QuantizerConfig::ewgs_factor`]. In gradient descent it enlarges the steps of values
    /// that move towards their level, and reduces the steps of values that move away from it.
    /// Because it depends on the incoming gradient, no surrogate has this derivative.
    Ewgs,
    /// The derivative of a quadratic approximation: (2 - 2|x|)·\[-1 < x < 1\] (Bi-Real Net, Liu et
    /// al. 2018). It is for signs only.
    Triangle,
}

/// The scale of the gradient of a clipping value. It does not change the clipping value itself.
///
/// With a = `factor`, fan = the elements of one output channel, N = the elements of a weight or of
/// one image that share the clipping value, and M = those of the whole batch:
///
/// | rule | scale |
/// |---|---|
/// | `none` | 1 |
/// | `fan-scale` | sqrt(fan)·a |
/// | `scale-fan` | a/sqrt(fan) |
/// | `element-scale` | sqrt(M)·a |
/// | `scale-element` | a/sqrt(M) |
/// | `lsq` | c²/sqrt(N·c); for step sizes 1/sqrt(N·Qp) |
///
/// `lsq` is the scale 1/sqrt(N·Qp) of the paper (Esser et al. 2020, section 2.2). Methods that
/// learn the step size (`lsq-step`, `lsq-plus`) use it unchanged. For methods that learn a clipping
/// value, the clipping value is c = Qp steps (n unsigned, n/2 signed). The gradient of c is 1/c of
/// the step size's gradient, and c has to move c times as far. Each gives a factor c, together c².
///
/// Images and their elements are counted in the tensor that the quantizer is given, whose first
/// dimension is the batch, unless [`Compatibility`](crate::qtool::Compatibility) says how many
/// there are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientScale {
    /// The rule, one row of the table above.
    pub rule: GradientScaleRule,
    /// The number a of the table above, greater than 0.
    pub factor: f64,
}

impl Default for GradientScale {
    fn default() -> Self {
        Self { rule: GradientScaleRule::None, factor: 0.5 }
    }
}

/// The rules of [`GradientScale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientScaleRule {
    /// The scale is 1.
    #[default]
    None,
    /// The scale is sqrt(fan)·a.
    FanScale,
    /// The scale is a/sqrt(fan).
    ScaleFan,
    /// The scale is sqrt(M)·a.
    ElementScale,
    /// The scale is a/sqrt(M).
    ScaleElement,
    /// The scale of the LSQ paper: c²/sqrt(N·c), or 1/sqrt(N·Qp) for step sizes.
    Lsq,
}
