//! Gradient estimators and rules of gradient scales, and the mask each one stands for.

use serde::{Deserialize, Serialize};

/// What stands in for the derivative of a clamp, or of a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// 1 strictly inside the range, 0 outside and, as in PyTorch, at its bounds: the clipped
    /// straight-through estimator (Bengio et al. 2013; Hubara et al. 2016). A sign's range is -1..1.
    #[default]
    Clipped,
    /// The same times sqrt(elements / elements inside the range), over the whole tensor: keeps the
    /// gradient's norm when many elements are clipped. 1 if none is inside. Of clamps only.
    ///
    /// The reference implementation counts in the clamped tensor, where every element is inside:
    /// its factor is always 1, and imported configurations become [`Clipped`](Self::Clipped).
    SteScale,
    /// 1 everywhere: the straight-through estimator. Of signs only.
    Identity,
    /// Element-wise gradient scaling (Lee et al., "Network Quantization with Element-wise Gradient
    /// Scaling", CVPR 2021) of the rounding inside a clipped range: with the clipped value u
    /// in 0..1, its level q and the incoming gradient g, g·(1 + d·sign(g)·(u - q)); d is
    /// [`crate::QuantizerConfig::ewgs_factor`]. Values that would rather move on are pushed, values about to
    /// settle are held. It depends on the incoming gradient: no surrogate has this derivative.
    Ewgs,
    /// (2 - 2|x|)·\[-1 < x < 1\], the derivative of a quadratic approximation (Bi-Real Net, Liu et
    /// al. 2018). Of signs only.
    Triangle,
}

/// Scale of the gradient of a clipping value, whose value it leaves alone.
///
/// With a = `factor`, fan = elements of one output channel, N = elements of a weight or of one image
/// that share the clipping value, M = those of the whole batch:
///
/// | rule | scale |
/// |---|---|
/// | `none` | 1 |
/// | `fan-scale` | sqrt(fan)·a |
/// | `scale-fan` | a/sqrt(fan) |
/// | `element-scale` | sqrt(M)·a |
/// | `scale-element` | a/sqrt(M) |
/// | `lsq` | c²/sqrt(N·c); of step sizes 1/sqrt(N·Qp) |
///
/// `lsq` is the scale 1/sqrt(N·Qp) of the paper (Esser et al. 2020, section 2.2). Methods that learn the
/// step size (`lsq-step`, `lsq-plus`) use it as it is. Of those that learn a clipping value, c = Qp steps
/// make it (n unsigned, n/2 signed), so that its gradient is 1/c of the step size's and has to move it c
/// times as far: hence c².
///
/// Images and their elements are counted in the tensor that the quantizer is given, whose first
/// dimension is the batch, unless [`Compatibility`](crate::qtool::Compatibility) says how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientScale {
    /// Which scale.
    pub rule: GradientScaleRule,
    /// a above, greater than 0.
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
    /// 1.
    #[default]
    None,
    /// sqrt(fan)·a.
    FanScale,
    /// a/sqrt(fan).
    ScaleFan,
    /// sqrt(M)·a.
    ElementScale,
    /// a/sqrt(M).
    ScaleElement,
    /// c²/sqrt(N·c), or 1/sqrt(N·Qp): the LSQ paper's.
    Lsq,
}
