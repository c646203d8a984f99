//! [`Rule::Table`](super::super::Rule::Table): thresholds and values.

use super::{
    formula::Arithmetic,
    number::{between, only},
};
use crate::{
    quantize::lanes::{Lanes, add, map},
    simd::stored,
};

/// The arithmetic of [`Rule::Table`](super::super::Rule::Table) with `N` thresholds, or with any
/// number of them if `N` is 0.
#[derive(Clone, Copy)]
pub(super) struct Table<const N: usize> {
    pub(super) thresholds: usize,
}

/// The parameters of a group for [`Table`].
#[derive(Clone, Copy)]
pub(super) struct TableGroup<'a, const N: usize> {
    scale: f32,
    lowest: f32,
    highest: f32,
    first: f32,
    /// The first `N` thresholds, and the values above them.
    few: ([f32; N], [f32; N]),
    /// All thresholds, and all values.
    all: (&'a [f32], &'a [f32]),
}

impl<const N: usize> TableGroup<'_, N> {
    #[inline(always)]
    fn value(&self, v: f32) -> f32 {
        if N == 0 {
            let below = self.all.0.partition_point(|threshold| v > *threshold);
            return self.all.1[below];
        }
        let mut y = self.first;
        for index in 0..N {
            y = if v > self.few.0[index] { self.few.1[index] } else { y };
        }
        y
    }
}

impl<const N: usize> Arithmetic<1> for Table<N> {
    type Group<'a> = TableGroup<'a, N>;

    #[inline(always)]
    fn group(self, parameters: &[f32]) -> TableGroup<'_, N> {
        let (thresholds, values) = parameters[3..].split_at(self.thresholds);
        let mut few = ([0.0; N], [0.0; N]);
        few.0.copy_from_slice(&thresholds[..N]);
        few.1.copy_from_slice(&values[1..=N]);
        let [scale, lowest, highest] = [parameters[0], parameters[1], parameters[2]];
        TableGroup { scale, lowest, highest, first: values[0], few, all: (thresholds, values) }
    }

    #[inline(always)]
    fn quantize(self, group: TableGroup<'_, N>, x: Lanes) -> Lanes {
        map(|lane| {
            let v = x[lane] / group.scale;
            let y = group.value(v) * group.scale;
            if v.is_nan() { f32::NAN } else { y }
        })
    }

    #[inline(always)]
    fn backward(
        self,
        group: TableGroup<'_, N>,
        x: Lanes,
        g: Lanes,
        [term]: &mut [Lanes; 1],
    ) -> Lanes {
        let v = map(|lane| x[lane] / group.scale);
        let inside = |lane: usize| between(v[lane], group.lowest, group.highest);
        let passed = map(|lane| stored(only(inside(lane), g[lane])));
        let within = map(|lane| only(inside(lane), v[lane]));
        add(term, map(|lane| g[lane] * group.value(v[lane]) - passed[lane] * within[lane]));
        passed
    }
}
