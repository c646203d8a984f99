//! Gradient estimators and gradient scales, and the mask each one stands for.

use serde::{Deserialize, Serialize};

use crate::{
    config::{Method, QuantizerConfig, Range},
    site::Site,
};

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
    /// [`QuantizerConfig::ewgs_factor`]. Values that would rather move on are pushed, values about to
    /// settle are held. It depends on the incoming gradient: no surrogate has this derivative.
    Ewgs,
    /// (2 - 2|x|)·\[-1 < x < 1\], the derivative of a quadratic approximation (Bi-Real Net, Liu et
    /// al. 2018). Of signs only.
    Triangle,
}

/// Scale of the gradient of a clipping value, whose value it leaves alone.
///
/// With a = `factor`, fan = elements of one output channel, N = elements that share the clipping
/// value, M = those of a whole batch where batch size and positions are known ([`crate::Site`]):
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
/// times as far: hence c². N counts the features of one image.
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
        Self { rule: GradientScaleRule::None, factor: 0.5, skip_integer_one: false }
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

/// Qp, the highest level in units of the step size: n, or signed with one level more below 0 than above
/// where they are even in number.
pub(crate) fn positive_steps(n: f32, range: Range) -> f32 {
    match range {
        Range::Unsigned => n,
        Range::Signed => (n / 2.0).floor(),
    }
}

impl GradientScale {
    /// The scale for a quantizer of this configuration at `site`, where `groups` clipping values
    /// share the elements.
    pub(crate) fn value(&self, config: &QuantizerConfig, site: &Site, groups: usize) -> f64 {
        let fan = (site.fan() as f64).sqrt();
        let elements = (site.batch_elements() as f64 / groups as f64).sqrt();
        let scale = match self.rule {
            GradientScaleRule::None => 1.0,
            GradientScaleRule::FanScale => fan * self.factor,
            GradientScaleRule::ScaleFan => self.factor / fan,
            GradientScaleRule::ElementScale => elements * self.factor,
            GradientScaleRule::ScaleElement => self.factor / elements,
            GradientScaleRule::Lsq => {
                let features = site.features() as f64 / groups as f64;
                let n = config.levels.steps();
                match (config.method, config.range) {
                    (Method::LsqStep | Method::LsqPlus, range) => {
                        1.0 / (features * f64::from(positive_steps(n, range))).sqrt()
                    }
                    (_, range) => {
                        let n = f64::from(n);
                        let steps = if range == Range::Signed { n / 2.0 } else { n };
                        steps * steps / (features * steps).sqrt()
                    }
                }
            }
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
    use crate::config::{Levels, Role};

    /// A weight with fan 9 and 36 elements, 4 levels; an activation with 4 channels of 9 positions in
    /// batches of 2.
    fn scale(rule: GradientScaleRule, role: Role, skip_integer_one: bool) -> f64 {
        let scale = GradientScale { rule, factor: 0.5, skip_integer_one };
        let levels = Levels::from_bits(2).unwrap();
        let site = match role {
            Role::Weight => Site::weight("w", [4, 1, 3, 3]),
            _ => Site { positions: Some(9), batch_size: Some(2), ..Site::activation("a", 4) },
        };
        scale.value(&QuantizerConfig::new(Method::Lsq, role, levels), &site, 1)
    }

    #[test]
    fn scales_follow_the_table() {
        let weight = |rule| scale(rule, Role::Weight, false);
        assert_eq!(weight(GradientScaleRule::None), 1.0);
        assert_eq!(weight(GradientScaleRule::FanScale), 1.5);
        assert_eq!(weight(GradientScaleRule::ScaleFan), 0.5 / 3.0);
        assert_eq!(weight(GradientScaleRule::ElementScale), 3.0);
        assert_eq!(weight(GradientScaleRule::ScaleElement), 0.5 / 6.0);
        let activation = |rule| scale(rule, Role::Activation, false);
        assert_eq!(activation(GradientScaleRule::ElementScale), 0.5 * 72f64.sqrt());
    }

    #[test]
    fn the_papers_scale_moves_the_step_size_as_in_the_paper() {
        // Learning the step q with gradient scale 1/sqrt(N·Qp) changes it by d/sqrt(N·Qp), where d is
        // its gradient; the clipping value c·q has gradient d/c and must change by c·d/sqrt(N·Qp).
        let (n, c) = (36f64, 3f64);
        let expected = c * c / (n * c).sqrt();
        assert!((scale(GradientScaleRule::Lsq, Role::Activation, false) - expected).abs() < 1e-12);
        let c = 1.5;
        let expected = c * c / (n * c).sqrt();
        assert!((scale(GradientScaleRule::Lsq, Role::Weight, false) - expected).abs() < 1e-12);
    }

    #[test]
    fn the_reference_skips_scales_between_one_and_two() {
        assert_eq!(scale(GradientScaleRule::FanScale, Role::Weight, true), 1.0);
        assert_eq!(scale(GradientScaleRule::ElementScale, Role::Weight, true), 3.0);
    }
}
