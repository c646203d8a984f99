//! The learned basis of LQ-Nets: its levels, and its least-squares fit. The fit counts and sums the
//! elements of each level in one pass, then solves a small system for each group in 64 bits.

use alloc::{vec, vec::Vec};

use super::{CHUNK, lanes::LANES};
use crate::{parallel, simd::vectorize_narrow};

/// The learned basis of LQ-Nets: how levels are computed from it, and how it is fitted to data.
///
/// A level is the sum of the basis values times the digits of a code. The digits are the code's
/// binary digits, with -1 in place of 0 if `signed`. If there are three levels, the basis has one
/// value, and the digits are 0, 1, 2 or, if `signed`, -1, 0, 1. The threshold between neighbouring
/// levels l < u is p·l + (1 - p)·u. If `signed`, it is (1 - p)·l + p·u in the lower half, and the
/// middle threshold is half way.
///
/// The fit is (BᵀB)⁻¹Bᵀx for each group, where B holds the digits of each element's level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Basis {
    /// The length of the basis.
    pub bits: usize,
    /// The number of levels.
    pub levels: usize,
    /// Whether the digits are -1 and 1 instead of 0 and 1.
    pub signed: bool,
    /// The position p of the thresholds.
    pub position: f64,
    /// Whether the system is regularised as for weights: 1e-4 times the old basis is added to Bᵀx,
    /// and the diagonal d becomes (d + 1e-4)·1.000001. If not, a zero on the diagonal becomes 1e-5.
    pub weight: bool,
}

impl Basis {
    /// Returns the digit of a code at position `bit`.
    pub fn digit(self, code: usize, bit: usize) -> f32 {
        match (self.levels, code >> bit & 1, self.signed) {
            (3, _, signed) => code as f32 - if signed { 1.0 } else { 0.0 },
            (_, 1, _) => 1.0,
            (_, _, true) => -1.0,
            (_, _, false) => 0.0,
        }
    }

    /// Returns the weight of the lower level in the threshold below level `index`.
    pub fn share(self, index: usize) -> f64 {
        match (2 * index).cmp(&self.levels) {
            _ if !self.signed => self.position,
            core::cmp::Ordering::Less => 1.0 - self.position,
            core::cmp::Ordering::Equal => 0.5,
            core::cmp::Ordering::Greater => self.position,
        }
    }
}

/// The levels of one group in ascending order.
struct LevelTable {
    levels: Vec<f32>,
    thresholds: Vec<f32>,
    /// The digits of every level.
    digits: Vec<Vec<f64>>,
}

impl LevelTable {
    fn new(values: &[f32], basis: Basis) -> Self {
        let mut rows: Vec<(f32, Vec<f64>)> = (0..basis.levels)
            .map(|code| {
                let digits: Vec<f32> =
                    (0..values.len()).map(|bit| basis.digit(code, bit)).collect();
                let terms = digits.iter().zip(values).map(|(digit, value)| digit * value);
                let level = terms.fold(0.0, |sum, term| sum + term);
                (level, digits.into_iter().map(f64::from).collect())
            })
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let levels: Vec<f32> = rows.iter().map(|(level, _)| *level).collect();
        let threshold = |index: usize| {
            let (lower, upper) = (f64::from(levels[index - 1]), f64::from(levels[index]));
            let share = basis.share(index);
            (share * lower + (1.0 - share) * upper) as f32
        };
        let thresholds = (1..basis.levels).map(threshold).collect();
        Self { thresholds, levels, digits: rows.into_iter().map(|(_, digits)| digits).collect() }
    }
}

/// Returns the thresholds and then the levels of every group.
pub fn basis_levels(values: &[f32], basis: Basis) -> Vec<f32> {
    let tables = values.chunks_exact(basis.bits).map(|values| LevelTable::new(values, basis));
    tables.flat_map(|table| table.thresholds.into_iter().chain(table.levels)).collect()
}

/// Fits the basis of every group. Returns, for each group, the new basis and the amplification of
/// rounding errors, `[groups, bits + 1]`.
pub fn fit_basis(x: &[f32], values: &[f32], basis: Basis, view: [usize; 3]) -> Vec<f32> {
    let Basis { bits, levels, .. } = basis;
    let tables: Vec<LevelTable> =
        values.chunks_exact(bits).map(|values| LevelTable::new(values, basis)).collect();
    let thresholds: Vec<f32> =
        tables.iter().flat_map(|table| table.thresholds.iter().copied()).collect();
    let sums = sums_above(x, &thresholds, levels - 1, view);
    let groups = tables.iter().zip(values.chunks_exact(bits)).zip(sums.chunks_exact(levels));
    groups
        .flat_map(|((table, values), above)| {
            // The elements of a level are those above the threshold below it, without those above
            // the next threshold.
            let of_level = |level: usize| {
                let beyond = above.get(level + 1).copied().unwrap_or_default();
                (above[level].0 - beyond.0, above[level].1 - beyond.1)
            };
            let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
            let (solution, condition) = solve(table, &values, basis.weight, of_level);
            solution.into_iter().chain([condition]).map(|value| value as f32)
        })
        .collect()
}

/// The number and the sum of some elements, several times.
type Sums = Vec<(f64, f64)>;

/// Returns, for each group, the number and the sum of all elements, then of those above the first
/// threshold, above the second, and so on.
fn sums_above(x: &[f32], thresholds: &[f32], steps: usize, view: [usize; 3]) -> Sums {
    let [outer, groups, inner] = view;
    let length = if groups == 1 { outer * inner } else { inner }.max(1);
    let levels = steps + 1;
    let partial = parallel::map(x.chunks(CHUNK).collect(), |index, chunk: &[f32]| {
        let (start, mut at, mut sums) = (index * CHUNK, 0, Vec::new());
        while at < chunk.len() {
            let row = (start + at) / length;
            let end = ((row + 1) * length - start).min(chunk.len());
            let group = row % groups;
            let thresholds = &thresholds[group * steps..][..steps];
            let run = &chunk[at..end];
            sums.push((
                group,
                vectorize_narrow(
                    #[inline(always)]
                    || above_each(run, thresholds),
                ),
            ));
            at = end;
        }
        sums
    });
    let mut sums = vec![(0.0, 0.0); groups * levels];
    for (group, run) in partial.into_iter().flatten() {
        for (sum, part) in sums[group * levels..][..levels].iter_mut().zip(run) {
            *sum = (sum.0 + part.0, sum.1 + part.1);
        }
    }
    sums
}

/// Returns the number and the sum of all elements, then of those above each threshold.
#[inline(always)]
fn above_each(x: &[f32], thresholds: &[f32]) -> Sums {
    match *thresholds {
        [a] => above_each_of(x, [a]),
        [a, b] => above_each_of(x, [a, b]),
        [a, b, c] => above_each_of(x, [a, b, c]),
        [a, b, c, d, e, f, g] => above_each_of(x, [a, b, c, d, e, f, g]),
        _ => {
            let each = thresholds.iter().map(|threshold| above_each_of(x, [*threshold])[1]);
            above_each_of(x, []).into_iter().chain(each).collect()
        }
    }
}

/// Does the same as [`above_each`] for a few thresholds, whose sums fit into registers.
#[inline(always)]
fn above_each_of<const N: usize>(x: &[f32], thresholds: [f32; N]) -> Sums {
    let (mut total, mut counts, mut sums) = ([0f32; LANES], [[0f32; LANES]; N], [[0f32; LANES]; N]);
    let (chunks, rest) = x.as_chunks::<LANES>();
    for lanes in chunks {
        for lane in 0..LANES {
            total[lane] += lanes[lane];
        }
        for index in 0..N {
            for lane in 0..LANES {
                let above = lanes[lane] > thresholds[index];
                counts[index][lane] += if above { 1.0 } else { 0.0 };
                sums[index][lane] += if above { lanes[lane] } else { 0.0 };
            }
        }
    }
    let sum_of = |lanes: &[f32; LANES]| lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    let sum_rest = |f: &dyn Fn(f32) -> f64| rest.iter().map(|x| f(*x)).sum::<f64>();
    let all = (x.len() as f64, sum_of(&total) + sum_rest(&|x| f64::from(x)));
    let above =
        thresholds.iter().zip(counts.iter().zip(&sums)).map(|(threshold, (counts, sums))| {
            let count = sum_of(counts) + sum_rest(&|x| if x > *threshold { 1.0 } else { 0.0 });
            let sum = sum_of(sums) + sum_rest(&|x| if x > *threshold { f64::from(x) } else { 0.0 });
            (count, sum)
        });
    core::iter::once(all).chain(above).collect()
}

/// Returns the basis with the least squared error for a group, and the amplification of rounding
/// errors. `of_level` returns the number and the sum of the elements at a level.
fn solve(
    table: &LevelTable,
    basis: &[f64],
    weight: bool,
    of_level: impl Fn(usize) -> (f64, f64),
) -> (Vec<f64>, f64) {
    let bits = basis.len();
    let mut matrix = vec![vec![0.0; bits]; bits];
    let mut right = vec![0.0; bits];
    for (level, digits) in table.digits.iter().enumerate() {
        let (count, sum) = of_level(level);
        for i in 0..bits {
            right[i] += digits[i] * sum;
            for j in 0..bits {
                matrix[i][j] += digits[i] * digits[j] * count;
            }
        }
    }
    for bit in 0..bits {
        let diagonal = &mut matrix[bit][bit];
        if weight {
            *diagonal = (*diagonal + 1e-4) * 1.000_001;
            right[bit] += 1e-4 * basis[bit];
        } else if *diagonal == 0.0 {
            *diagonal = 1e-5;
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

/// Solves a system by Gaussian elimination with partial pivoting. Returns the solution, and the
/// ratio of the largest to the smallest pivot; `None` for a singular matrix.
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
