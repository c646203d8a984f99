//! Which code each value got, and how a code decodes: the contract deployment rests on.

use burn::tensor::{Int, Tensor};

use crate::site::Grouping;

/// The codes of a tensor, and what they stand for.
///
/// In evaluation `quantizer.codes(x).decode()` equals `quantizer.forward(x)` to the last bit: what
/// is trained is what is served.
#[derive(Debug, Clone)]
pub struct Codes<const D: usize> {
    /// Code of every element, 0 to levels - 1, in ascending order of value.
    pub codes: Tensor<D, Int>,
    /// What the codes stand for.
    pub decoding: Decoding,
}

impl<const D: usize> Codes<D> {
    /// The values.
    pub fn decode(self) -> Tensor<D> {
        self.decoding.values(self.codes.float())
    }
}

/// A code's value: (`multiplier`·(code/`steps`) + `offset`)·`scale`\[g\], times `gamma`\[g\] where
/// there is one, g being the element's group.
///
/// Rounded in this order, which is the one the quantizers train with. The step size is
/// `multiplier`·`scale`/`steps`; multiplier and offset are integers for all methods but DoReFa
/// weights with a boundary, so that integer arithmetic can carry everything up to the step size.
#[derive(Debug, Clone)]
pub struct Decoding {
    /// n, one less than the number of levels.
    pub steps: f32,
    /// Factor on code/n.
    pub multiplier: f32,
    /// What is added.
    pub offset: f32,
    /// Scale per group, `[groups]`.
    pub scale: Tensor<1>,
    /// Learned factor per group, `[groups]`.
    pub gamma: Option<Tensor<1>>,
    pub(crate) grouping: Grouping,
}

impl Decoding {
    /// The values of codes that are given as floats.
    pub(crate) fn values<const D: usize>(&self, codes: Tensor<D>) -> Tensor<D> {
        let values = per_group(self.units(codes), &self.scale, self.grouping);
        match &self.gamma {
            None => values,
            Some(gamma) => per_group(values, gamma, self.grouping),
        }
    }

    /// Values in units of the scale.
    fn units<const D: usize>(&self, codes: Tensor<D>) -> Tensor<D> {
        let parts = codes.div_scalar(self.steps);
        parts.mul_scalar(self.multiplier).add_scalar(self.offset)
    }

    /// All values, `[groups, levels]`, ascending for positive scales.
    pub fn table(&self, levels: crate::Levels) -> Tensor<2> {
        let groups = self.grouping.groups;
        let codes = Tensor::<1, Int>::arange(0..levels.count() as i64, &self.scale.device());
        let codes = codes.float().reshape([1, levels.count()]).repeat_dim(0, groups);
        let column = |factor: &Tensor<1>| match factor.dims()[0] == groups {
            true => factor.clone().reshape([groups, 1]),
            false => factor.clone().reshape([1, 1]).repeat_dim(0, groups),
        };
        let values = self.units(codes) * column(&self.scale);
        match &self.gamma {
            None => values,
            Some(gamma) => values * column(gamma),
        }
    }
}

/// Multiplies each group by its factor; a single factor serves all groups.
pub(crate) fn per_group<const D: usize>(
    x: Tensor<D>,
    factor: &Tensor<1>,
    grouping: Grouping,
) -> Tensor<D> {
    let shape = x.shape();
    let view = match factor.dims()[0] {
        1 => [1, 1, shape.num_elements()],
        _ => grouping.view(&shape),
    };
    (x.reshape(view) * factor.clone().reshape([1, view[1], 1])).reshape(shape)
}
