//! The kernels of learned bases. Each sorts the levels of a group in shared memory, where it needs
//! them.

#![expect(missing_docs, reason = "CubeCL makes modules of kernels, without documentation")]

use cubecl::{
    prelude::*,
    std::tensor::layout::linear::{LinearView, LinearViewMut},
};

use super::{MOST_BITS, MOST_LEVELS, TOGETHER};
use crate::{
    block::{column_of_unit, first_vector, next_vector, sum_columns, tile_and_split},
    launch::Groups,
    path::Path,
};

/// How the digits of codes are computed, as `Basis::digit` says.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Digits {
    /// Whether there are three levels.
    pub ternary: bool,
    /// Whether digits may be negative.
    pub signed: bool,
}

/// The basis and the levels of a group in shared memory.
#[derive(CubeType)]
struct Ladder {
    /// The basis.
    basis: Shared<[f32]>,
    /// The levels in ascending order.
    levels: Shared<[f32]>,
    /// The codes of these levels.
    codes: Shared<[u32]>,
}

/// Returns the digit of a code at position `bit`.
#[cube]
fn digit(code: u32, bit: usize, #[comptime] digits: Digits) -> f32 {
    let lowest = if comptime!(digits.signed) { -1.0f32 } else { 0.0f32 };
    if comptime!(digits.ternary) {
        f32::cast_from(code) + lowest
    } else {
        select((code >> bit as u32) & 1 == 1, 1.0f32, lowest)
    }
}

/// Computes the levels of a group and sorts them. Codes of the same level keep their order. The
/// basis of the group is at `first` and, from there on, in steps of `step`.
#[cube]
fn ladder_of(
    basis: &LinearView<'_, f32>,
    first: usize,
    step: usize,
    bits: usize,
    count: usize,
    #[comptime] digits: Digits,
    #[comptime] units: usize,
) -> Ladder {
    let mut own = Shared::<[f32]>::new_slice(MOST_BITS);
    let mut unsorted = Shared::<[f32]>::new_slice(MOST_LEVELS);
    let mut levels = Shared::<[f32]>::new_slice(MOST_LEVELS);
    let mut codes = Shared::<[u32]>::new_slice(MOST_LEVELS);
    let unit = UNIT_POS as usize;
    if unit < bits {
        own[unit] = basis.read(first + unit * step);
    }
    sync_cube();
    let mut code = unit;
    while code < count {
        let mut level = 0.0f32;
        let mut bit = 0usize.runtime();
        while bit < bits {
            level += digit(code as u32, bit, digits) * own[bit];
            bit += 1;
        }
        unsorted[code] = level;
        code += units;
    }
    sync_cube();
    let mut code = unit;
    while code < count {
        let level = unsorted[code];
        let mut rank = 0usize.runtime();
        let mut other = 0usize.runtime();
        while other < count {
            let theirs = unsorted[other];
            let is_before = theirs < level || (theirs == level && other < code);
            rank += select(is_before, 1usize, 0usize);
            other += 1;
        }
        levels[rank] = level;
        codes[rank] = code as u32;
        code += units;
    }
    sync_cube();
    Ladder { basis: own, levels, codes }
}

/// Computes the thresholds and the levels of each group: `ladders` is `[groups, 2·count - 1]`. The
/// threshold below a level is share·lower + (1 - share)·upper, where the share is `below` in the
/// lower half, `middle` in the middle and `above` in the upper half. The values of a basis are
/// `of_bit` apart in memory, and those of groups `of_group`. A cube computes one group.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn ladders_kernel(
    basis: LinearView<'_, f32>,
    mut ladders: LinearViewMut<'_, f32>,
    of_group: usize,
    of_bit: usize,
    groups: usize,
    bits: usize,
    count: usize,
    below: f32,
    middle: f32,
    above: f32,
    #[comptime] digits: Digits,
    #[comptime] units: usize,
) {
    let group = usize::min(CUBE_POS, groups - 1);
    let ladder = ladder_of(&basis, group * of_group, of_bit, bits, count, digits, units);
    if CUBE_POS < groups {
        let first = group * (2 * count - 1);
        let mut index = UNIT_POS as usize;
        while index < count {
            let upper = ladder.levels[index];
            ladders.write(first + count - 1 + index, upper);
            if index > 0 {
                let lower = ladder.levels[index - 1];
                let is_low = 2 * index < count;
                let share = select(is_low, below, select(2 * index == count, middle, above));
                ladders.write(first + index - 1, lower * share + upper * (1.0f32 - share));
            }
            index += units;
        }
    }
}

/// Counts and sums the elements of a few levels from level `from` on, in parts of each group:
/// `partial` is `[groups, splits, count, 2]`. `ladders` begins with the thresholds of a group,
/// `[groups, 2·count - 1]`. The lowest level has also what is no number.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn level_sums_kernel<F: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    ladders: LinearView<'_, f32>,
    mut partial: LinearViewMut<'_, f32>,
    path: Path,
    from: u32,
    count: u32,
    #[comptime] of: Groups,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(F)] _dtype: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let (tile, split) = tile_and_split(&path, false, of);
    // Behind the loop they are read from here, so that no registers hold them during the loop.
    let mut place = Shared::<[u32]>::new_slice(2usize);
    if UNIT_POS == 0 {
        place[0] = tile;
        place[1] = split;
    }
    let (column, split) = (column_of_unit(tile, width), split as usize);
    let is_used = column < path.columns && split < path.splits;
    let mut counts = Array::<f32>::new(TOGETHER);
    let mut sums = Array::<f32>::new(TOGETHER);
    // The thresholds below these levels and above the last.
    let mut thresholds = Array::<f32>::new(comptime!(TOGETHER + 1));
    #[unroll]
    for index in 0..comptime!(TOGETHER + 1) {
        let level = from + index as u32;
        thresholds[index] = 0.0f32;
        if is_used && level > 0 && level < count {
            let first = column * (2 * count as usize - 1);
            thresholds[index] = ladders.read(first + level as usize - 1);
        }
    }
    #[unroll]
    for index in 0..TOGETHER {
        counts[index] = 0.0f32;
        sums[index] = 0.0f32;
    }
    if is_used {
        let rows = comptime!(units / width);
        let (mut at, mut inside) = first_vector(&path, column, split, rows, width, of);
        while at < path.end {
            let values = x.read(at);
            #[unroll]
            for lane in 0..values.vector_size() {
                let value = f32::cast_from(values.extract(lane));
                let mut is_above = from == 0 || value > thresholds[0];
                #[unroll]
                for index in 0..TOGETHER {
                    let is_beyond =
                        from + index as u32 + 1 < count && value > thresholds[index + 1];
                    let is_here = is_above && !is_beyond;
                    counts[index] += select(is_here, 1.0f32, 0.0f32);
                    sums[index] += select(is_here, value, 0.0f32);
                    is_above = is_beyond;
                }
            }
            let next = next_vector(&path, at, inside, of);
            at = next.0;
            inside = next.1;
        }
    }
    sync_cube();
    let (column, split) = (column_of_unit(place[0], width), place[1] as usize);
    let is_used = column < path.columns && split < path.splits;
    #[unroll]
    for index in 0..TOGETHER {
        let of_level = sum_columns(counts[index], &mut shared, units, width);
        let sum = sum_columns(sums[index], &mut shared, units, width);
        if (UNIT_POS as usize) < width && is_used && from + (index as u32) < count {
            let level = (from + index as u32) as usize;
            let at = ((column * path.splits + split) * count as usize + level) * 2;
            partial.write(at, of_level);
            partial.write(at + 1, sum);
        }
    }
}

/// Solves the least squares system of each group: `fitted` is `[groups, bits + 1]`, the next basis
/// and behind it the ratio of the largest to the smallest pivot, or `infinity` if the system has no
/// solution. The basis lies in memory as [`ladders_kernel`] says. A cube computes one group.
#[cube(launch, address_type = "dynamic", create_dummy_kernel)]
pub fn solve_kernel(
    partial: LinearView<'_, f32>,
    basis: LinearView<'_, f32>,
    mut fitted: LinearViewMut<'_, f32>,
    of_group: usize,
    of_bit: usize,
    groups: usize,
    splits: usize,
    bits: usize,
    count: usize,
    infinity: f32,
    #[comptime] weight: bool,
    #[comptime] digits: Digits,
    #[comptime] units: usize,
) {
    let unit = UNIT_POS as usize;
    let group = usize::min(CUBE_POS, groups - 1);
    let ladder = ladder_of(&basis, group * of_group, of_bit, bits, count, digits, units);
    let mut shared = Shared::<[f32]>::new_slice(units);
    let mut totals = Shared::<[f32]>::new_slice(comptime!(2 * MOST_LEVELS));
    let mut entry = 0usize.runtime();
    while entry < 2 * count {
        let mut value = 0.0f32;
        let mut split = unit;
        while split < splits {
            value += partial.read((group * splits + split) * 2 * count + entry);
            split += units;
        }
        let sum = sum_columns(value, &mut shared, units, 1usize);
        if unit == 0 {
            totals[entry] = sum;
        }
        entry += 1;
    }
    sync_cube();
    // A row of the system is a row of the matrix and, behind it, the right side.
    let row = bits + 1;
    let mut system = Shared::<[f32]>::new_slice(comptime!(MOST_BITS * (MOST_BITS + 1)));
    let mut damped = Shared::<[f32]>::new_slice(comptime!(MOST_BITS * (MOST_BITS + 1)));
    let mut index = unit;
    while index < bits * row {
        let (bit, other) = (index / row, index % row);
        let mut sum = 0.0f32;
        let mut level = 0usize.runtime();
        while level < count {
            let code = ladder.codes[level];
            let one = digit(code, bit, digits);
            let term = select(
                other == bits,
                totals[2 * level + 1],
                digit(code, other, digits) * totals[2 * level],
            );
            sum += one * term;
            level += 1;
        }
        if comptime!(weight) {
            if other == bits {
                sum += ladder.basis[bit] * 1e-4f32;
            } else if other == bit {
                sum = (sum + 1e-4f32) * 1.000001f32;
            }
        } else if other == bit && sum == 0.0f32 {
            sum = 1e-5f32;
        }
        system[index] = sum;
        damped[index] = sum;
        index += units;
    }
    sync_cube();
    if unit == 0 && CUBE_POS < groups {
        let mut trace = 0.0f32;
        let mut bit = 0usize.runtime();
        while bit < bits {
            trace += system[bit * row + bit];
            bit += 1;
        }
        let damping = f32::max(trace, 1e-5f32) * 1e-4f32;
        let mut bit = 0usize.runtime();
        while bit < bits {
            damped[bit * row + bit] += damping;
            bit += 1;
        }
        let (condition, is_regular) = solve(&mut system, bits);
        let (condition_of_damped, is_enough) = solve(&mut damped, bits);
        let mut bit = 0usize.runtime();
        while bit < bits {
            let at = bit * row + bits;
            let otherwise = select(is_enough, damped[at], ladder.basis[bit]);
            fitted.write(group * row + bit, select(is_regular, system[at], otherwise));
            bit += 1;
        }
        let otherwise = select(is_enough, condition_of_damped, infinity);
        fitted.write(group * row + bits, select(is_regular, condition, otherwise));
    }
}

/// Solves a symmetric positive system of `bits` rows by elimination without pivoting. The solution
/// is in its last column then. Returns the ratio of the largest to the smallest pivot, and whether
/// the system is regular to the precision of 32 bits. One unit calls it.
#[cube]
fn solve(system: &mut Shared<[f32]>, bits: usize) -> (f32, bool) {
    let row = bits + 1;
    let mut scale = 0.0f32;
    let mut bit = 0usize.runtime();
    while bit < bits {
        scale = f32::max(scale, f32::abs(system[bit * row + bit]));
        bit += 1;
    }
    let mut largest = 0.0f32;
    let mut smallest = f32::abs(system[0]);
    let mut step = 0usize.runtime();
    while step < bits {
        let pivot = system[step * row + step];
        let size = f32::abs(pivot);
        largest = f32::max(largest, size);
        // A pivot that is no number makes the system singular too.
        smallest = select(size >= smallest, smallest, size);
        let mut below = step + 1;
        while below < bits {
            let factor = system[below * row + step] / pivot;
            let mut column = step;
            while column < row {
                let above = system[step * row + column];
                system[below * row + column] -= factor * above;
                column += 1;
            }
            below += 1;
        }
        step += 1;
    }
    let mut left = bits;
    while left > 0 {
        let step = left - 1;
        let mut value = system[step * row + bits];
        let mut known = left;
        while known < bits {
            value -= system[step * row + known] * system[known * row + bits];
            known += 1;
        }
        system[step * row + bits] = value / system[step * row + step];
        left -= 1;
    }
    (largest / smallest, smallest > scale * 1e-6f32)
}
