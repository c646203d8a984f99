//! The number that multiplies the gradient of a clipping value or step size.

use crate::{
    config::{QuantizerConfig, Range},
    gradient::{GradientScale, GradientScaleRule},
    method::Role,
    site::Site,
};

/// Returns Qp, the highest level in units of the step size: n for unsigned levels, and n/2 rounded
/// down for signed ones. An even number of signed levels has one level more below 0 than above.
pub(crate) fn positive_steps(n: f32, range: Range) -> f32 {
    match range {
        Range::Unsigned => n,
        Range::Signed => (n / 2.0).floor(),
    }
}

/// The gradient scale of one quantizer, which is a number for each tensor that it is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ScaleByTensor {
    scale: GradientScale,
    skip_integer_one: bool,
    /// For the rule `lsq`: the numerator (c², or 1 for step sizes) and Qp.
    lsq: (f64, f64),
    fan: f64,
    /// The number of elements of a weight; `None` for activations and outputs.
    elements: Option<f64>,
    /// The number of channels of an activation. It is used only if the configuration gives the
    /// number of positions.
    channels: f64,
    positions: Option<usize>,
    images: Option<usize>,
    groups: f64,
}

impl ScaleByTensor {
    /// Returns the scale for a quantizer of this configuration at `site`, where `groups` clipping
    /// values share the elements.
    pub(crate) fn new(config: &QuantizerConfig, site: &Site, groups: usize) -> Self {
        let n = config.levels.steps();
        let steps = f64::from(if config.range == Range::Signed { n / 2.0 } else { n });
        Self::with_rule(config, site, groups, (steps.powi(2), steps))
    }

    /// Returns the scale for a quantizer that learns a step size.
    pub(crate) fn of_step_size(config: &QuantizerConfig, site: &Site, groups: usize) -> Self {
        let positive = positive_steps(config.levels.steps(), config.range);
        Self::with_rule(config, site, groups, (1.0, f64::from(positive)))
    }

    fn with_rule(config: &QuantizerConfig, site: &Site, groups: usize, lsq: (f64, f64)) -> Self {
        let elements = site.shape.iter().product::<usize>() as f64;
        Self {
            scale: config.gradient_scale,
            skip_integer_one: config.qtool.skip_integer_one,
            lsq,
            fan: site.fan(config.role) as f64,
            elements: (config.role == Role::Weight).then_some(elements),
            channels: elements,
            positions: config.qtool.positions,
            images: config.qtool.images,
            groups: groups as f64,
        }
    }

    /// Returns the scale for a tensor of this shape.
    pub(crate) fn of(&self, shape: &[usize]) -> f32 {
        let factor = self.scale.factor;
        let scale = match self.scale.rule {
            GradientScaleRule::None => 1.0,
            GradientScaleRule::FanScale => self.fan.sqrt() * factor,
            GradientScaleRule::ScaleFan => factor / self.fan.sqrt(),
            GradientScaleRule::ElementScale => self.batch_elements(shape).sqrt() * factor,
            GradientScaleRule::ScaleElement => factor / self.batch_elements(shape).sqrt(),
            GradientScaleRule::Lsq => {
                let (numerator, positive) = self.lsq;
                numerator / (self.image_elements(shape) * positive).sqrt()
            }
        };
        if self.skip_integer_one && scale.trunc() == 1.0 { 1.0 } else { scale as f32 }
    }

    /// Returns N.
    fn image_elements(&self, shape: &[usize]) -> f64 {
        let elements = match (self.elements, self.positions) {
            (Some(elements), _) => elements,
            (None, Some(positions)) => self.channels * positions as f64,
            // A tensor of one dimension is one image.
            (None, None) => match shape {
                [_, image @ ..] if !image.is_empty() => image.iter().product::<usize>() as f64,
                _ => shape.iter().product::<usize>() as f64,
            },
        };
        elements / self.groups
    }

    /// Returns M.
    fn batch_elements(&self, shape: &[usize]) -> f64 {
        let images = match (self.elements, self.images) {
            (Some(_), _) => 1,
            (None, Some(images)) => images,
            (None, None) if shape.len() < 2 => 1,
            (None, None) => shape[0],
        };
        self.image_elements(shape) * images as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Levels, method::Method, qtool::Compatibility};

    /// Returns the scale for a quantizer of 4 levels: of a weight with fan 9 and 36 elements, or of
    /// an activation with 4 channels of 9 positions in batches of 2.
    fn scale(rule: GradientScaleRule, role: Role, skip_integer_one: bool) -> f64 {
        let site = match role {
            Role::Weight => Site::weight("w", [4, 1, 3, 3]),
            _ => Site::activation("a", 4),
        };
        let shape = if role == Role::Weight { [4, 1, 3, 3] } else { [2, 4, 3, 3] };
        let qtool = Compatibility { skip_integer_one, ..Compatibility::default() };
        f64::from(scale_at(&site, rule, role, qtool).of(&shape))
    }

    fn scale_at(
        site: &Site,
        rule: GradientScaleRule,
        role: Role,
        qtool: Compatibility,
    ) -> ScaleByTensor {
        let gradient_scale = GradientScale { rule, factor: 0.5 };
        let levels = Levels::from_bits(2).unwrap();
        let config =
            QuantizerConfig { gradient_scale, ..QuantizerConfig::new(Method::Lsq, role, levels) };
        let config = QuantizerConfig { qtool, ..config };
        ScaleByTensor::new(&config, site, 1)
    }

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-6 * expected, "{actual}, expected {expected}");
    }

    #[test]
    fn scales_follow_the_table() {
        let weight = |rule| scale(rule, Role::Weight, false);
        assert_eq!(weight(GradientScaleRule::None), 1.0);
        assert_eq!(weight(GradientScaleRule::FanScale), 1.5);
        close(weight(GradientScaleRule::ScaleFan), 0.5 / 3.0);
        assert_eq!(weight(GradientScaleRule::ElementScale), 3.0);
        close(weight(GradientScaleRule::ScaleElement), 0.5 / 6.0);
        let activation = |rule| scale(rule, Role::Activation, false);
        close(activation(GradientScaleRule::ElementScale), 0.5 * 72f64.sqrt());
    }

    /// The weight of a linear layer from 100 to 4 elements, `[in, out]`, has the fan 100.
    #[test]
    fn the_fan_is_that_of_the_output_channels() {
        let site = Site { channel_axis: 1, ..Site::weight("w", [100, 4]) };
        let of = |rule| scale_at(&site, rule, Role::Weight, Compatibility::default());
        assert_eq!(of(GradientScaleRule::FanScale).of(&[100, 4]), 5.0);
    }

    #[test]
    fn what_the_configuration_says_is_not_counted() {
        let site = Site::activation("a", 4);
        let images = Some(8);
        for given in [Some(64), None] {
            let qtool = Compatibility { positions: given, images, ..Compatibility::default() };
            let scale = scale_at(&site, GradientScaleRule::ElementScale, Role::Activation, qtool);
            let positions = given.unwrap_or(25);
            let expected = 0.5 * ((4 * positions * 8) as f64).sqrt();
            close(f64::from(scale.of(&[2, 4, 5, 5])), expected);
        }
    }

    #[test]
    fn the_shape_of_a_weight_is_its_sites() {
        let site = Site::weight("w", [4, 1, 3, 3]);
        let scale = scale_at(&site, GradientScaleRule::Lsq, Role::Weight, Compatibility::default());
        assert_eq!(scale.of(&[36]), scale.of(&[4, 1, 3, 3]));
    }

    #[test]
    fn the_papers_scale_moves_the_step_size_as_in_the_paper() {
        // Let d be the gradient of the step q. Learning q with the gradient scale 1/sqrt(N·Qp)
        // changes it by d/sqrt(N·Qp). The clipping value c·q has the gradient d/c and must change
        // by c·d/sqrt(N·Qp).
        let (n, c) = (36f64, 3f64);
        close(scale(GradientScaleRule::Lsq, Role::Activation, false), c * c / (n * c).sqrt());
        let c = 1.5;
        close(scale(GradientScaleRule::Lsq, Role::Weight, false), c * c / (n * c).sqrt());
    }

    #[test]
    fn the_reference_skips_scales_between_one_and_two() {
        assert_eq!(scale(GradientScaleRule::FanScale, Role::Weight, true), 1.0);
        assert_eq!(scale(GradientScaleRule::ElementScale, Role::Weight, true), 3.0);
    }
}
