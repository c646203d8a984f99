//! Gradient estimators and gradient scales, and the mask each one stands for.

use serde::{Deserialize, Serialize};

/// Gradient of the clamp before the rounding. The rounding itself passes gradients through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClampEstimator {
    /// 1 strictly inside the range, 0 outside and, as in PyTorch, at its bounds: the clipped
    /// straight-through estimator (Bengio et al. 2013; Hubara et al. 2016).
    #[default]
    Clipped,
    /// The same times sqrt(elements / elements inside the range), over the whole tensor: keeps the
    /// gradient's norm when many elements are clipped. 1 if none is inside.
    ///
    /// The reference implementation counts in the clamped tensor, where every element is inside:
    /// its factor is always 1, and imported configurations become [`Clipped`](Self::Clipped).
    SteScale,
}

/// Scale of the gradient of a clipping value or step size, whose value it leaves alone.
///
/// With fan = elements of one output channel, N = elements that share the clipping value (of an
/// activation, over the whole batch where its size is known) and a = `factor`:
///
/// | rule | scale |
/// |---|---|
/// | `none` | 1 |
/// | `fan-scale` | sqrt(fan)·a |
/// | `scale-fan` | a/sqrt(fan) |
/// | `element-scale` | sqrt(N)·a |
/// | `scale-element` | a/sqrt(N) |
///
/// LSQ (Esser et al. 2020, section 2.2) takes 1/sqrt(N·Qp): `scale-element` with a = 1/sqrt(Qp).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientScale {
    /// Which scale.
    pub rule: GradientScaleRule,
    /// a above, greater than 0.
    pub factor: f64,
    /// Leaves gradients alone where the scale's integer part is 1, as the reference implementation
    /// does. For imported configurations.
    pub skip_integer_one: bool,
}

impl Default for GradientScale {
    fn default() -> Self {
        Self {
            rule: GradientScaleRule::None,
            factor: 0.5,
            skip_integer_one: false,
        }
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
    /// sqrt(N)·a.
    ElementScale,
    /// a/sqrt(N).
    ScaleElement,
}

impl GradientScale {
    /// The scale for a tensor with this fan and this many elements per clipping value.
    pub fn value(&self, fan: usize, elements: usize) -> f64 {
        let (fan, elements) = ((fan as f64).sqrt(), (elements as f64).sqrt());
        let scale = match self.rule {
            GradientScaleRule::None => 1.0,
            GradientScaleRule::FanScale => fan * self.factor,
            GradientScaleRule::ScaleFan => self.factor / fan,
            GradientScaleRule::ElementScale => elements * self.factor,
            GradientScaleRule::ScaleElement => self.factor / elements,
        };
        match self.skip_integer_one && scale.trunc() == 1.0 {
            true => 1.0,
            false => scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(rule: GradientScaleRule) -> f64 {
        let scale = GradientScale {
            rule,
            factor: 0.5,
            skip_integer_one: false,
        };
        scale.value(9, 16)
    }

    #[test]
    fn scales_follow_the_table() {
        assert_eq!(scale(GradientScaleRule::None), 1.0);
        assert_eq!(scale(GradientScaleRule::FanScale), 1.5);
        assert_eq!(scale(GradientScaleRule::ScaleFan), 0.5 / 3.0);
        assert_eq!(scale(GradientScaleRule::ElementScale), 2.0);
        assert_eq!(scale(GradientScaleRule::ScaleElement), 0.125);
    }

    #[test]
    fn the_reference_skips_scales_between_one_and_two() {
        let scale = GradientScale {
            rule: GradientScaleRule::FanScale,
            factor: 0.5,
            skip_integer_one: true,
        };
        assert_eq!(scale.value(9, 1), 1.0);
        assert_eq!(scale.value(16, 1), 2.0);
    }
}
