//! The code of each value, and how codes decode: the interface that deployment builds on.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{
    config::Levels,
    host::values,
    normalize::Restore,
    per_group::{add_per_group, multiply_per_group},
    site::Grouping,
};

/// The codes of a tensor, and how they decode.
///
/// In evaluation `quantizer.codes(x).decode()` equals `quantizer.forward(x)` to the last bit, so
/// that a deployed model computes with the values that were trained.
#[derive(Debug, Clone)]
pub struct Codes<const D: usize> {
    /// The code of every element, from 0 to levels - 1, in ascending order of value.
    pub codes: Tensor<D, Int>,
    /// How the codes decode.
    pub decoding: Decoding<D>,
}

/// How codes decode to values.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one at a time, beside tensors that are far larger")]
pub enum Decoding<const D: usize> {
    /// The values are evenly spaced.
    Affine(Affine),
    /// The values are -1 and +1, times a scale that broadcasts to the shape of the codes.
    Signs(Option<Tensor<D>>),
    /// The values are in a table.
    Table(Table),
}

impl<const D: usize> Codes<D> {
    /// Returns the values of the codes.
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

impl Decoding<4> {
    /// Returns the number of codes.
    pub(crate) fn count(&self, levels: Levels) -> usize {
        match self {
            // Signed APoT has one value fewer than codes, because two codes would stand for 0.
            Decoding::Table(table) => table.values.dims()[1],
            Decoding::Affine(_) | Decoding::Signs(_) => levels.count(),
        }
    }

    /// Returns the value of each of `count` codes for each group, where dimension `axis` is divided
    /// into groups.
    pub(crate) fn all_values(
        self,
        (groups, count): (usize, usize),
        axis: usize,
        device: &Device,
    ) -> Vec<Vec<f32>> {
        // A tensor with one element for each group and code decodes to the table.
        let mut shape = [1; 4];
        (shape[axis], shape[axis + 1]) = (groups, count);
        let every: Vec<i32> = (0..groups * count).map(|index| (index % count) as i32).collect();
        let codes: Tensor<4, Int> = Tensor::from_data(TensorData::new(every, shape), device);
        let table = values(Codes { codes, decoding: self }.decode());
        table.chunks(count).map(<[f32]>::to_vec).collect()
    }
}

impl<const D: usize> Decoding<D> {
    /// Returns the values of the first group in ascending order. Where the scale depends on the
    /// input, they are in units of the scale.
    pub(crate) fn first_values(&self, levels: Levels) -> Vec<f32> {
        let table = match self {
            Decoding::Affine(affine) => affine.table(levels),
            Decoding::Signs(_) => return vec![-1.0, 1.0],
            Decoding::Table(table) => table.values.clone(),
        };
        values(table).into_iter().take(levels.count()).collect()
    }
}

/// Decoding to evenly spaced values. The value of a code is (`multiplier`·(code/`steps`) +
/// `offset`)·`scale`\[g\], times `gamma`\[g\] and plus `shift`\[g\] where these exist, where g is
/// the group of the element. After that a normalisation is undone.
///
/// The operations round in this order, which is also the order in training. The step size is
/// `multiplier`·`scale`/`steps`. Multiplier and offset are integers for all methods except DoReFa
/// weights with a boundary, so that integer arithmetic can compute everything except for the step
/// size.
#[derive(Debug, Clone)]
pub struct Affine {
    /// The number n, one less than the number of levels.
    pub steps: f32,
    /// The factor on code/n.
    pub multiplier: f32,
    /// The number that is added to the product.
    pub offset: f32,
    /// The scale per group, `[groups]`, or one scale for all groups.
    pub scale: Tensor<1>,
    /// The number that is added at the end, per group, `[groups]`.
    pub shift: Option<Tensor<1>>,
    /// The learned factor per group, `[groups]`.
    pub gamma: Option<Tensor<1>>,
    pub(crate) grouping: Grouping,
    pub(crate) restore: Restore,
}

impl Affine {
    /// Returns the values of codes that are given as floats.
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

    /// Returns the values in units of the scale.
    fn units<const D: usize>(&self, codes: Tensor<D>) -> Tensor<D> {
        let parts = codes.div_scalar(self.steps);
        parts.mul_scalar(self.multiplier).add_scalar(self.offset)
    }

    /// Returns the units times the scale.
    pub(crate) fn scaled<const D: usize>(&self, units: Tensor<D>) -> Tensor<D> {
        multiply_per_group(units, &self.scale, self.grouping)
    }

    /// Returns all values, `[groups, levels]`, in ascending order for positive scales. For a
    /// normalised weight they are those before the normalisation is undone.
    pub fn table(&self, levels: Levels) -> Tensor<2> {
        let groups = self.grouping.groups;
        let codes = Tensor::<1, Int>::arange(0..levels.count() as i64, &self.scale.device());
        let codes = codes.float().reshape([1, levels.count()]).repeat_dim(0, groups);
        let column = |factor: &Tensor<1>| {
            if factor.dims()[0] == groups {
                factor.clone().reshape([groups, 1])
            } else {
                factor.clone().reshape([1, 1]).repeat_dim(0, groups)
            }
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

/// Decoding by a table. The value of a code is `values`\[g, code\], after which a normalisation is
/// undone.
#[derive(Debug, Clone)]
pub struct Table {
    /// The values, `[groups, levels]`, in ascending order.
    pub values: Tensor<2>,
    pub(crate) restore: Restore,
    pub(crate) grouping: Grouping,
}

impl Table {
    /// Returns the values of codes, before a normalisation is undone.
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
