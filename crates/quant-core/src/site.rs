//! The place of a quantizer: the shape that it quantizes, and how this is divided into groups.

use crate::{
    config::{Granularity, QuantizerConfig},
    error::QuantizerError,
    method::Role,
};

/// The tensor that a quantizer is given, as far as the quantizer depends on it.
///
/// ```
/// use burn::tensor::Device;
/// use quant_core::{Granularity, Levels, Method, QuantizerConfig, Role, Site};
///
/// let config = QuantizerConfig {
///     granularity: Granularity::PerChannel,
///     ..QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(2)?)
/// };
/// // The output channels of a convolution are dimension 0 of its weight, and those of a linear
/// // layer, `[in, out]`, dimension 1.
/// let conv = Site::weight("conv1", [64, 3, 7, 7]);
/// let linear = Site { channel_axis: 1, ..Site::weight("fc", [512, 10]) };
/// assert_eq!(config.init(&conv, &Device::flex())?.groups(), 64);
/// assert_eq!(config.init(&linear, &Device::flex())?.groups(), 10);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The name of the layer, for messages.
    pub name: String,
    /// The shape: `[out, in, ...]` for a weight, `[1, channels, ...]` for an activation or output.
    pub shape: Vec<usize>,
    /// The dimension of the channels, which are divided into groups.
    pub channel_axis: usize,
}

impl Site {
    /// Returns the site of a weight whose output channels are dimension 0, such as
    /// `[out, in, k, k]` or `[out, in]`.
    pub fn weight(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into(), channel_axis: 0 }
    }

    /// Returns the site of an activation or output `[batch, channels, ...]`.
    pub fn activation(name: impl Into<String>, channels: usize) -> Self {
        Self { name: name.into(), shape: vec![1, channels, 1, 1], channel_axis: 1 }
    }

    /// Returns the fan of a quantizer with this role: the number of elements of a weight that
    /// belong to the same index of the channel axis, or the number of channels of an activation or
    /// output.
    ///
    /// In a convolution, this is the number of weights that one output is a sum over, also where
    /// the convolution has groups: its weight `[out, in/g, k, k]` has the fan in/g·k². A weight of
    /// a linear layer, `[in, out]`, has the fan in. A transposed convolution has a weight
    /// `[in, out/g, k, k]` and the fan in·k². An index of its channel axis stands for g output
    /// channels, one in each group, which share the parameters of the quantizer.
    pub fn fan(&self, role: Role) -> usize {
        let channels = self.shape.get(self.channel_axis).copied().unwrap_or(1);
        match role {
            Role::Weight => self.shape.iter().product::<usize>() / channels.max(1),
            Role::Activation | Role::Output => channels,
        }
    }

    /// Returns the number of groups that the granularity of a configuration makes here, and a
    /// fallback where this is not the number that was asked for.
    pub(crate) fn groups(
        &self,
        config: &QuantizerConfig,
    ) -> Result<(usize, Option<GroupFallback>), QuantizerError> {
        let (granularity, role) = (config.granularity, config.role);
        let expected = "expected at least two dimensions, none of them of size 0";
        if self.shape.len() < 2 || self.shape.contains(&0) || self.channel_axis >= self.shape.len()
        {
            return Err(QuantizerError::Shape {
                layer: self.name.clone(),
                shape: self.shape.clone(),
                expected,
            });
        }
        let channels = self.shape[self.channel_axis];
        let elements = match role {
            Role::Weight if self.channel_axis == 0 => channels * self.shape[1],
            _ => channels,
        };
        let fallback = match (role, self.shape.len()) {
            (Role::Weight, 4) => channels,
            _ => 1,
        };
        let fits = |part: usize| part != 0 && elements.is_multiple_of(part);
        if config.qtool.group_fallback {
            let (groups, asked) = match granularity {
                Granularity::PerTensor => (1, None),
                Granularity::PerChannel => (fallback, None),
                Granularity::Groups(groups) if fits(groups) => (groups, None),
                Granularity::GroupsOf(size) if fits(size) => (elements / size, None),
                Granularity::Groups(part) | Granularity::GroupsOf(part) => (fallback, Some(part)),
            };
            let layer = || self.name.clone();
            let fell = asked.map(|asked| GroupFallback { layer: layer(), asked, elements, groups });
            return Ok((groups, fell));
        }
        let divides = |part: usize| {
            if fits(part) {
                Ok(part)
            } else {
                Err(QuantizerError::Groups {
                    layer: self.name.clone(),
                    groups: part,
                    elements,
                    shape: self.shape.clone(),
                })
            }
        };
        let groups = match granularity {
            Granularity::PerTensor => 1,
            Granularity::PerChannel => channels,
            Granularity::Groups(groups) => divides(groups)?,
            Granularity::GroupsOf(size) => elements / divides(size)?,
        };
        Ok((groups, None))
    }
}

/// A granularity that does not divide the channels, and the number of groups that replaced it. The
/// reference implementation replaces it silently ([`crate::qtool::Compatibility`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFallback {
    /// Name of the layer.
    pub layer: String,
    /// The number of groups, or of elements in a group, that was asked for.
    pub asked: usize,
    /// The number that it would have to divide.
    pub elements: usize,
    /// The number of groups that is used instead.
    pub groups: usize,
}

impl std::fmt::Display for GroupFallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { layer, asked, elements, groups } = self;
        write!(
            f,
            "{layer}: {asked} does not divide {elements}, so {groups} groups are used instead"
        )
    }
}

/// How a tensor is divided into groups. In the row-major view `[outer, groups, inner]`, every
/// element `[o, g, i]` belongs to group g.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grouping {
    pub(crate) groups: usize,
    pub(crate) channel_axis: usize,
}

impl Grouping {
    /// The whole tensor as one group.
    pub(crate) const WHOLE: Grouping = Grouping { groups: 1, channel_axis: 0 };

    pub(crate) fn view(&self, shape: &[usize]) -> [usize; 3] {
        let elements = shape.iter().product::<usize>();
        let outer = match self.groups {
            1 => 1,
            _ => shape[..self.channel_axis].iter().product(),
        };
        [outer, self.groups, elements / (outer * self.groups).max(1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fan(shape: &[usize], channel_axis: usize) -> usize {
        Site { channel_axis, ..Site::weight("w", shape) }.fan(Role::Weight)
    }

    #[test]
    fn the_fan_of_a_weight_counts_all_axes_but_that_of_the_channels() {
        assert_eq!(fan(&[8, 3, 5, 5], 0), 3 * 25);
        assert_eq!(fan(&[8, 1, 5, 5], 0), 25, "a depthwise convolution");
        assert_eq!(fan(&[100, 7], 1), 100, "a linear layer");
        assert_eq!(fan(&[6, 4, 2, 2], 1), 6 * 4, "a transposed convolution, in any groups");
        assert_eq!(fan(&[8, 3, 5, 5, 5], 0), 3 * 125);
    }

    #[test]
    fn the_fan_of_an_activation_is_its_number_of_channels() {
        let last = Site { shape: vec![1, 9, 4], channel_axis: 2, name: "a".into() };
        assert_eq!(last.fan(Role::Activation), 4);
        assert_eq!(Site::activation("a", 4).fan(Role::Output), 4);
    }
}
