//! Which code each value got, and how a code decodes: the contract deployment rests on.

use burn::tensor::{Int, Tensor};

use crate::{
    config::Levels,
    host::values,
    normalize::Restore,
    per_group::{add_per_group, multiply_per_group},
    site::Grouping,
};

/// The codes of a tensor, and what they stand for.
///
/// In evaluation `quantizer.codes(x).decode()` equals `quantizer.forward(x)` to the last bit: what
/// is trained is what is served.
#[derive(Debug, Clone)]
pub struct Codes<const D: usize> {
    /// Code of every element, 0 to levels - 1, in ascending order of value.
    pub codes: Tensor<D, Int>,
    /// What the codes stand for.
    pub decoding: Decoding<D>,
}

/// What codes stand for.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one at a time, beside tensors that are far larger")]
pub enum Decoding<const D: usize> {
    /// Evenly spaced values.
    Affine(Affine),
    /// -1 and +1, times a scale that broadcasts to the codes' shape.
    Signs(Option<Tensor<D>>),
    /// A table of values.
    Table(Table),
}

impl<const D: usize> Codes<D> {
    /// The values.
    pub fn decode(self) -> Tensor<D> {
        match self.decoding {
            Decoding::Affine(affine) => affine.values(self.codes.float()),
            Decoding::Signs(scale) => {
                let signs = self.codes.float().mul_scalar(2.0).sub_scalar(1.0);
                match scale {
                    None => signs,
                    Some(scale) => signs * scale,
                }
            }
            Decoding::Table(table) => {
                let values = table.values(self.codes);
                table.restore.apply(values)
            }
        }
    }
}

impl<const D: usize> Decoding<D> {
    /// The values of the first group, ascending; in units of the scale where that depends on the
    /// input.
    pub(crate) fn first_values(&self, levels: Levels) -> Vec<f32> {
        let table = match self {
            Decoding::Affine(affine) => affine.table(levels),
            Decoding::Signs(_) => return vec![-1.0, 1.0],
            Decoding::Table(table) => table.values.clone(),
        };
        values(table).into_iter().take(levels.count()).collect()
    }
}

/// A code's value: (`multiplier`·(code/`steps`) + `offset`)·`scale`\[g\], times `gamma`\[g\] and plus
/// `shift`\[g\] where there is one, g being the element's group; then a normalisation is undone.
///
/// Rounded in this order, which is the one the quantizers train with. The step size is
/// `multiplier`·`scale`/`steps`; multiplier and offset are integers for all methods but DoReFa
/// weights with a boundary, so that integer arithmetic can carry everything up to the step size.
#[derive(Debug, Clone)]
pub struct Affine {
    /// n, one less than the number of levels.
    pub steps: f32,
    /// Factor on code/n.
    pub multiplier: f32,
    /// What is added.
    pub offset: f32,
    /// Scale per group, `[groups]`, or one for all.
    pub scale: Tensor<1>,
    /// What is added in the end, per group, `[groups]`.
    pub shift: Option<Tensor<1>>,
    /// Learned factor per group, `[groups]`.
    pub gamma: Option<Tensor<1>>,
    pub(crate) grouping: Grouping,
    pub(crate) restore: Restore,
}

impl Affine {
    /// The values of codes that are given as floats.
    pub(crate) fn values<const D: usize>(&self, codes: Tensor<D>) -> Tensor<D> {
        let values = self.scaled(self.units(codes));
        let values = match &self.gamma {
            None => values,
            Some(gamma) => multiply_per_group(values, gamma, self.grouping),
        };
        let values = match &self.shift {
            None => values,
            Some(shift) => add_per_group(values, shift, self.grouping),
        };
        self.restore.apply(values)
    }

    /// Values in units of the scale.
    fn units<const D: usize>(&self, codes: Tensor<D>) -> Tensor<D> {
        let parts = codes.div_scalar(self.steps);
        parts.mul_scalar(self.multiplier).add_scalar(self.offset)
    }

    /// Units times the scale.
    pub(crate) fn scaled<const D: usize>(&self, units: Tensor<D>) -> Tensor<D> {
        multiply_per_group(units, &self.scale, self.grouping)
    }

    /// All values, `[groups, levels]`, ascending for positive scales; of normalised weights.
    pub fn table(&self, levels: Levels) -> Tensor<2> {
        let groups = self.grouping.groups;
        let codes = Tensor::<1, Int>::arange(0..levels.count() as i64, &self.scale.device());
        let codes = codes.float().reshape([1, levels.count()]).repeat_dim(0, groups);
        let column = |factor: &Tensor<1>| match factor.dims()[0] == groups {
            true => factor.clone().reshape([groups, 1]),
            false => factor.clone().reshape([1, 1]).repeat_dim(0, groups),
        };
        let values = self.units(codes) * column(&self.scale);
        let values = match &self.gamma {
            None => values,
            Some(gamma) => values * column(gamma),
        };
        match &self.shift {
            None => values,
            Some(shift) => values + column(shift),
        }
    }
}

/// A code's value: `values`\[g, code\], after which a normalisation is undone.
#[derive(Debug, Clone)]
pub struct Table {
    /// The values, `[groups, levels]`, ascending.
    pub values: Tensor<2>,
    pub(crate) restore: Restore,
    pub(crate) grouping: Grouping,
}

impl Table {
    /// The values of codes, still normalised.
    pub(crate) fn values<const D: usize>(&self, codes: Tensor<D, Int>) -> Tensor<D> {
        let shape = codes.shape();
        let [outer, groups, inner] = self.grouping.view(&shape);
        let levels = self.values.dims()[1];
        let first = Tensor::<1, Int>::arange(0..groups as i64, &codes.device());
        let first = first.mul_scalar(levels as i64).reshape([1, groups, 1]);
        let indices = (codes.reshape([outer, groups, inner]) + first).flatten::<1>(0, 2);
        self.values.clone().flatten::<1>(0, 1).select(0, indices).reshape(shape)
    }
}
