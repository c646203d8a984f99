//! LQ-Nets (Zhang et al., "LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep Neural
//! Networks", ECCV 2018): levels spanned by a learned basis.
//!
//! A code is a row of digits, 0/1 unsigned or -1/+1 signed, and stands for digits·v (equation 3), with
//! the basis v of one value per bit and group. Three levels have one basis value and the digits
//! -1, 0, 1 (signed) or 0, 1, 2. Between neighbouring levels l < u lies the threshold p·l + (1 - p)·u
//! with p = `threshold_position` (1/2: the middle, equation 5); in the lower half of a signed range
//! (1 - p)·l + p·u, and the middle one is always half way. y is the level of x's interval; a value on
//! a threshold goes down.
//!
//! **Learning the basis** (equation 8, quantization-error minimisation). After each training call, with
//! B the digits each element got, v* = (BᵀB)⁻¹Bᵀx per group and v := 0.9·v + 0.1·v* (or the running mean
//! of all v*, `running_mean_basis`); a call uses the basis from before its update. Activations: a zero
//! on BᵀB's diagonal becomes 1e-5. Weights: v* = (D(BᵀB + 1e-4·I))⁻¹(Bᵀx + 1e-4·v), where D multiplies the
//! diagonal by 1.000001. A system that is singular still gets 1e-4 of its trace on the diagonal; one of
//! inputs that are not finite leaves the basis as it is.
//!
//! **Normalisation.** Weights may be normalised per group first (`mean`: w - mean; `var`: w/(std + 1e-5);
//! `mean-var`: both), activations divided by their image's mean or std (+ 1e-5); it is undone after
//! quantizing.
//!
//! **Gradients.** Activations: g where x is below its group's top level, else 0. Weights: g; no
//! surrogate has this derivative. The basis learns by the rule above alone.
//!
//! **Shapes.** Any; the basis is `[bits, groups]`.
//!
//! **Initial values.** v_i = 2^i·c, c = 0.6745·2/2^(bits-1) for activations and
//! 0.6745·sqrt(2/fan)/2^(bits-1) for weights.
//!
//! **Where the reference differs from the paper.** The activations' initial basis; the regularisation;
//! one update per call instead of the paper's alternation.

use std::sync::{Arc, Mutex, PoisonError};

use burn::{
    module::{Module, RunningState},
    tensor::{Device, Tensor},
};

use super::{Parameters, Quantize, keeping_nan};
use crate::{
    calibrate::GroupSamples,
    codes::{Codes, Decoding, Table},
    config::{QuantizerConfig, Range, Role},
    normalize::{Restore, normalize},
    ops::{count_below, estimated, straight_through},
    site::{Grouping, Site},
    staircase::Staircase,
};

/// Learned basis: see the [module](self).
#[derive(Module, Debug)]
pub struct LqNets {
    /// The basis, `[bits, groups]`.
    pub basis: RunningState<Tensor<2>>,
    /// Updates of the basis so far, `[1]`.
    pub iteration: RunningState<Tensor<1>>,
    #[module(skip)]
    levels: usize,
    #[module(skip)]
    role: Role,
    #[module(skip)]
    signed: bool,
    #[module(skip)]
    position: f64,
    #[module(skip)]
    running_mean: bool,
    #[module(skip)]
    normalization: crate::Normalization,
    #[module(skip)]
    normalized_together: Grouping,
    #[module(skip)]
    grouping: Grouping,
    /// Condition of each group's last system.
    #[module(skip)]
    condition: Arc<Mutex<Vec<f64>>>,
}

/// The levels of one group in ascending order.
#[derive(Debug)]
struct Ladder {
    /// Values.
    levels: Vec<f32>,
    /// Thresholds between neighbours.
    thresholds: Vec<f32>,
    /// Digits of every level.
    digits: Vec<Vec<f64>>,
}

impl LqNets {
    pub(crate) fn new(
        config: &QuantizerConfig,
        site: &Site,
        grouping: Grouping,
        device: &Device,
    ) -> Self {
        let levels = config.levels.count();
        let bits = if levels == 3 { 1 } else { config.levels.bits() as usize };
        let spread = match config.role {
            Role::Weight => (2.0 / site.fan() as f64).sqrt(),
            Role::Activation | Role::Output => 2.0,
        };
        let base = 0.6745 * spread / f64::powi(2.0, bits as i32 - 1);
        let row = |bit: usize| vec![(f64::powi(2.0, bit as i32) * base) as f32; grouping.groups];
        let basis: Vec<f32> = (0..bits).flat_map(row).collect();
        let basis = Tensor::<1>::from_floats(basis.as_slice(), device);
        Self {
            basis: RunningState::new(basis.reshape([bits, grouping.groups])),
            iteration: RunningState::new(Tensor::zeros([1], device)),
            levels,
            role: config.role,
            signed: config.range == Range::Signed,
            position: config.threshold_position,
            running_mean: config.running_mean_basis,
            normalization: config.normalization,
            normalized_together: if config.independent_norm { Grouping::WHOLE } else { grouping },
            grouping,
            condition: Arc::default(),
        }
    }

    /// For each group, how far rounding errors were amplified in its last update: the largest over the
    /// smallest pivot of its system. Above 1e6 or so, the data did not determine the basis, and the
    /// regularisation did.
    pub fn condition(&self) -> Vec<f64> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ladder of every group, from the basis.
    fn ladders(&self) -> Vec<Ladder> {
        let basis: Vec<f32> = self.basis.value_sync().into_data().convert::<f32>().iter().collect();
        let groups = self.grouping.groups;
        (0..groups)
            .map(|group| {
                let basis: Vec<f32> = basis.iter().skip(group).step_by(groups).copied().collect();
                self.ladder(&basis)
            })
            .collect()
    }

    fn ladder(&self, basis: &[f32]) -> Ladder {
        let mut rows: Vec<(f32, Vec<f64>)> = (0..self.levels)
            .map(|code| {
                let digits: Vec<f64> = match self.levels {
                    3 => vec![code as f64 - if self.signed { 1.0 } else { 0.0 }],
                    _ => (0..basis.len())
                        .map(|bit| match (code >> bit & 1, self.signed) {
                            (1, _) => 1.0,
                            (_, true) => -1.0,
                            (_, false) => 0.0,
                        })
                        .collect(),
                };
                let terms = digits.iter().zip(basis).map(|(digit, v)| *digit as f32 * v);
                (terms.fold(0.0, |sum, term| sum + term), digits)
            })
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let levels: Vec<f32> = rows.iter().map(|(level, _)| *level).collect();
        let thresholds = (1..self.levels).map(|index| {
            let (lower, upper) = (f64::from(levels[index - 1]), f64::from(levels[index]));
            let share = match (2 * index).cmp(&self.levels) {
                _ if !self.signed => self.position,
                std::cmp::Ordering::Less => 1.0 - self.position,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Greater => self.position,
            };
            (share * lower + (1.0 - share) * upper) as f32
        });
        let thresholds = thresholds.collect();
        Ladder { thresholds, levels, digits: rows.into_iter().map(|(_, digits)| digits).collect() }
    }

    /// Index of every element's level, as a float.
    fn indices(&self, x: Tensor<3>, ladders: &[Ladder]) -> Tensor<3> {
        let thresholds: Vec<f32> =
            ladders.iter().flat_map(|ladder| ladder.thresholds.clone()).collect();
        let device = x.device();
        let thresholds = Tensor::<1>::from_floats(thresholds.as_slice(), &device);
        count_below(x, thresholds.reshape([self.grouping.groups, self.levels - 1]))
    }

    fn table(&self, ladders: &[Ladder], restore: Restore, device: &Device) -> Table {
        let values: Vec<f32> = ladders.iter().flat_map(|ladder| ladder.levels.clone()).collect();
        let values = Tensor::<1>::from_floats(values.as_slice(), device);
        let values = values.reshape([self.grouping.groups, self.levels]);
        Table { values, restore, grouping: self.grouping }
    }

    /// Moves the basis towards the least squares solution for x, and returns the solution.
    fn update(&self, x: Tensor<3>) {
        let ladders = self.ladders();
        let indices = self.indices(x.clone(), &ladders);
        let per_group = |t: Tensor<3>| -> Vec<f32> {
            t.sum_dim(2).sum_dim(0).into_data().convert::<f32>().iter().collect()
        };
        // How many elements each level has, and their sum: all that the equations need.
        let (mut counts, mut sums) = (Vec::new(), Vec::new());
        for level in 0..self.levels {
            let here = indices.clone().equal_elem(level as f32).float();
            counts.push(per_group(here.clone()));
            sums.push(per_group(here * x.clone()));
        }
        let old = self.basis.value_sync();
        let device = old.device();
        let [bits, groups] = old.dims();
        let values: Vec<f32> = old.into_data().convert::<f32>().iter().collect();
        let done: f64 = self.iteration.value_sync().into_scalar();
        let mut new = vec![0f32; bits * groups];
        let mut condition = Vec::new();
        for (group, ladder) in ladders.iter().enumerate() {
            let basis: Vec<f64> =
                (0..bits).map(|bit| f64::from(values[bit * groups + group])).collect();
            let (solution, amplification) = self.solve(ladder, &basis, |level| {
                (f64::from(counts[level][group]), f64::from(sums[level][group]))
            });
            condition.push(amplification);
            // Data that are not finite say nothing: the basis stays.
            let sound = solution.iter().all(|v| v.is_finite());
            for bit in 0..bits {
                let next = match self.running_mean {
                    _ if !sound => basis[bit],
                    true => (basis[bit] * done + solution[bit]) / (done + 1.0),
                    false => 0.9 * basis[bit] + 0.1 * solution[bit],
                };
                new[bit * groups + group] = next as f32;
            }
        }
        let new = Tensor::<1>::from_floats(new.as_slice(), &device).reshape([bits, groups]);
        self.basis.update(new);
        self.iteration.update(Tensor::from_floats([done as f32 + 1.0], &device));
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner) = condition;
    }

    fn solve(
        &self,
        ladder: &Ladder,
        basis: &[f64],
        level: impl Fn(usize) -> (f64, f64),
    ) -> (Vec<f64>, f64) {
        let bits = basis.len();
        let mut matrix = vec![vec![0.0; bits]; bits];
        let mut right = vec![0.0; bits];
        for (index, digits) in ladder.digits.iter().enumerate() {
            let (count, sum) = level(index);
            for i in 0..bits {
                right[i] += digits[i] * sum;
                for j in 0..bits {
                    matrix[i][j] += digits[i] * digits[j] * count;
                }
            }
        }
        for bit in 0..bits {
            let diagonal = &mut matrix[bit][bit];
            match self.role {
                Role::Weight => {
                    *diagonal = (*diagonal + 1e-4) * 1.000_001;
                    right[bit] += 1e-4 * basis[bit];
                }
                Role::Activation | Role::Output if *diagonal == 0.0 => *diagonal = 1e-5,
                Role::Activation | Role::Output => {}
            }
        }
        gauss(matrix.clone(), right.clone()).unwrap_or_else(|| {
            let trace: f64 = (0..bits).map(|bit| matrix[bit][bit]).sum();
            for (bit, row) in matrix.iter_mut().enumerate() {
                row[bit] += 1e-4 * trace.max(1e-5);
            }
            gauss(matrix, right).unwrap_or_else(|| (basis.to_vec(), f64::INFINITY))
        })
    }

    fn normalized<const D: usize>(&self, x: Tensor<D>) -> (Tensor<D>, Restore) {
        normalize(x, self.normalization, self.role, self.normalized_together)
    }
}

/// Gaussian elimination with partial pivoting: the solution, and the largest over the smallest pivot;
/// `None` for a singular matrix.
fn gauss(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<(Vec<f64>, f64)> {
    let size = right.len();
    let scale = matrix.iter().flatten().fold(0.0, |max: f64, x| max.max(x.abs()));
    for column in 0..size {
        let pivot = (column..size)
            .max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        if matrix[pivot][column].abs() <= 1e-12 * scale {
            return None;
        }
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        let (done, rest) = matrix.split_at_mut(column + 1);
        let pivot_row = &done[column];
        for (offset, row) in rest.iter_mut().enumerate() {
            let factor = row[column] / pivot_row[column];
            for (x, p) in row.iter_mut().zip(pivot_row).skip(column) {
                *x -= factor * p;
            }
            right[column + 1 + offset] -= factor * right[column];
        }
    }
    let pivots = || (0..size).map(|index| matrix[index][index].abs());
    let condition = pivots().fold(0.0, f64::max) / pivots().fold(f64::INFINITY, f64::min);
    for column in (0..size).rev() {
        let known: f64 = (column + 1..size).map(|k| matrix[column][k] * right[k]).sum();
        right[column] = (right[column] - known) / matrix[column][column];
    }
    Some((right, condition))
}

impl Quantize for LqNets {
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = x.shape();
        let (x, restore) = self.normalized(x);
        let ladders = self.ladders();
        let view = self.grouping.view(&shape);
        let x = x.reshape(view);
        let fixed = x.clone().detach();
        let table = self.table(&ladders, Restore::None, &x.device());
        let codes = self.indices(fixed.clone(), &ladders).int();
        let value = table.values::<D>(codes.reshape(shape.clone())).reshape(view);
        let value = keeping_nan(value, fixed.clone());
        let y = match self.role {
            Role::Weight => straight_through(value, x),
            Role::Activation | Role::Output => {
                let top: Vec<f32> =
                    ladders.iter().map(|ladder| ladder.levels[self.levels - 1]).collect();
                let top = Tensor::<1>::from_floats(top.as_slice(), &fixed.device());
                let below = fixed.lower(top.reshape([1, view[1], 1])).float();
                estimated(value, x, below)
            }
        };
        restore.apply(y.reshape(shape))
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let shape = x.shape();
        let (x, restore) = self.normalized(x.detach());
        let ladders = self.ladders();
        let codes = self.indices(x.clone().reshape(self.grouping.view(&shape)), &ladders).int();
        let table = self.table(&ladders, restore, &x.device());
        Codes { codes: codes.reshape(shape), decoding: Decoding::Table(table) }
    }

    fn observe_training<const D: usize>(&self, x: &Tensor<D>) {
        let (x, _) = self.normalized(x.clone().detach());
        let view = self.grouping.view(&x.shape());
        self.update(x.reshape(view).inner());
    }
}

impl Parameters for LqNets {
    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let ladders = self.ladders().into_iter();
        ladders.map(|ladder| Staircase::new(ladder.levels, ladder.thresholds)).collect()
    }

    fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        vec![("basis", self.basis.value_sync().flatten(0, 1))]
    }

    fn set_running(&self, name: &str, values: &[f32]) -> bool {
        let old = self.basis.value_sync();
        if name != "basis" || values.len() != old.shape().num_elements() {
            return false;
        }
        self.basis.update(Tensor::<1>::from_floats(values, &old.device()).reshape(old.shape()));
        true
    }
}
