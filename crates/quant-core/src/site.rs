//! Where a quantizer stands: the shape it quantizes, and how groups are cut from it.

use crate::{
    config::{Granularity, QuantizerConfig},
    error::QuantizerError,
    method::Role,
};

/// The tensor that a quantizer will see, as far as its configuration depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Name of the layer, for messages.
    pub name: String,
    /// Shape: of a weight `[out, in, ...]`; of an activation or output `[1, channels, ...]`.
    pub shape: Vec<usize>,
    /// Dimension that holds the channels groups are cut from.
    pub channel_axis: usize,
}

impl Site {
    /// A weight with its output channels in dimension 0, such as `[out, in, k, k]` or `[out, in]`.
    pub fn weight(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into(), channel_axis: 0 }
    }

    /// An activation or output `[batch, channels, ...]`.
    pub fn activation(name: impl Into<String>, channels: usize) -> Self {
        Self { name: name.into(), shape: vec![1, channels, 1, 1], channel_axis: 1 }
    }

    /// Elements per output channel: the product of all dimensions but the first.
    pub fn fan(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Number of groups that a configuration's granularity makes here, and whether that is another than
    /// asked for.
    pub(crate) fn groups(
        &self,
        config: &QuantizerConfig,
    ) -> Result<(usize, Option<GroupFallback>), QuantizerError> {
        let (granularity, role) = (config.granularity, config.role);
        let expected = "at least two dimensions, none of them empty";
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
        let divides = |part: usize| match fits(part) {
            true => Ok(part),
            false => Err(QuantizerError::Groups {
                layer: self.name.clone(),
                groups: part,
                elements,
                shape: self.shape.clone(),
            }),
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

/// Groups that did not divide what they were to group, and were replaced as the reference
/// implementation does, silently there ([`crate::qtool::Compatibility`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFallback {
    /// Name of the layer.
    pub layer: String,
    /// The number of groups, or of elements in a group, asked for.
    pub asked: usize,
    /// What it would have to divide.
    pub elements: usize,
    /// The number of groups instead.
    pub groups: usize,
}

impl std::fmt::Display for GroupFallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { layer, asked, elements, groups } = self;
        write!(f, "{layer}: {asked} does not divide {elements}: {groups} groups instead")
    }
}

/// How a tensor falls into groups: viewed as `[outer, groups, inner]`, row-major, every element
/// `[o, g, i]` belongs to group g.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grouping {
    pub(crate) groups: usize,
    pub(crate) channel_axis: usize,
}

impl Grouping {
    /// One group.
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
