//! Estimates the coefficients that a progressive file does not hold from the averages (DC values)
//! of the surrounding 5x5 blocks. This is section K.8 of the standard, with the weights of
//! libjpeg-turbo 2.1 and later (`jdcoefct.c`), so that a file whose later scans are missing gives
//! the same pixels.

use super::frame::{Component, Frame};

/// The index of a coefficient in its block, and the weights of the 25 averages, in 256ths.
type Estimate = (usize, [i64; 25]);

/// Estimates for a block that already has some AC values.
#[rustfmt::skip]
const SOME: [Estimate; 5] = [
    (1, [0, 0, 0, 0, 0,  0, 0, 0, 0, 0,  -7, 50, 0, -50, 7,  0, 0, 0, 0, 0,  0, 0, 0, 0, 0]),
    (8, [0, 0, -7, 0, 0,  0, 0, 50, 0, 0,  0, 0, 0, 0, 0,  0, 0, -50, 0, 0,  0, 0, 7, 0, 0]),
    (16, [0, 0, -1, 0, 0,  0, 0, 13, 0, 0,  0, 0, -24, 0, 0,  0, 0, 13, 0, 0,  0, 0, -1, 0, 0]),
    (9, [0, -1, 0, 1, 0,  -1, 10, 0, -10, 1,  0, 0, 0, 0, 0,  1, -10, 0, 10, -1,  0, 1, 0, -1, 0]),
    (2, [0, 0, 0, 0, 0,  0, 0, 0, 0, 0,  -1, 13, -24, 13, -1,  0, 0, 0, 0, 0,  0, 0, 0, 0, 0]),
];

/// Estimates for a block that has only its average. The average is smoothed too.
#[rustfmt::skip]
const AVERAGES: [Estimate; 10] = [
    (1, [-1, -1, 0, 1, 1,  -3, 13, 0, -13, 3,  -3, 38, 0, -38, 3,  -3, 13, 0, -13, 3,
         -1, -1, 0, 1, 1]),
    (8, [-1, -3, -3, -3, -1,  -1, 13, 38, 13, -1,  0, 0, 0, 0, 0,  1, -13, -38, -13, 1,
         1, 3, 3, 3, 1]),
    (16, [0, 0, 1, 0, 0,  0, 2, 7, 2, 0,  0, -5, -14, -5, 0,  0, 2, 7, 2, 0,  0, 0, 1, 0, 0]),
    (9, [-1, 0, 0, 0, 1,  0, 9, 0, -9, 0,  0, 0, 0, 0, 0,  0, -9, 0, 9, 0,  1, 0, 0, 0, -1]),
    (2, [0, 0, 0, 0, 0,  0, 2, -5, 2, 0,  1, 7, -14, 7, 1,  0, 2, -5, 2, 0,  0, 0, 0, 0, 0]),
    (3, [0, 0, 0, 0, 0,  0, 1, 0, -1, 0,  0, 2, 0, -2, 0,  0, 1, 0, -1, 0,  0, 0, 0, 0, 0]),
    (10, [0, 0, 0, 0, 0,  0, 1, -3, 1, 0,  0, 0, 0, 0, 0,  0, -1, 3, -1, 0,  0, 0, 0, 0, 0]),
    (17, [0, 0, 0, 0, 0,  0, 1, 0, -1, 0,  0, -3, 0, 3, 0,  0, 1, 0, -1, 0,  0, 0, 0, 0, 0]),
    (24, [0, 0, 0, 0, 0,  0, 1, 2, 1, 0,  0, 0, 0, 0, 0,  0, -1, -2, -1, 0,  0, 0, 0, 0, 0]),
    (0, [-2, -6, -8, -6, -2,  -6, 6, 42, 6, -6,  -8, 42, 152, 42, -8,  -6, 6, 42, 6, -6,
         -2, -6, -8, -6, -2]),
];

/// Number of coefficients, in zigzag order, whose precision decides whether to estimate.
const WATCHED: usize = 10;

/// Returns whether coefficients of `frame` can be estimated, and whether any are missing.
pub(super) fn applies(frame: &Frame) -> bool {
    let known = |component: &Component| {
        let Some(quantization) = &component.quantization else { return false };
        component.precision[0] >= 0 && AVERAGES.iter().all(|(place, _)| quantization[*place] != 0)
    };
    let lacking = |component: &Component| component.precision[1..WATCHED].iter().any(|x| *x != 0);
    frame.progressive && frame.components.iter().all(known) && frame.components.iter().any(lacking)
}

/// Returns the block of `component` at this column and row of blocks, with estimates for missing
/// coefficients.
pub(super) fn block(frame: &Frame, component: &Component, column: usize, row: usize) -> [i16; 64] {
    let mut block = *component.block(column, row);
    let Some(quantization) = &component.quantization else { return block };
    // Below the row where the last scan ended early, the precision before that scan applies.
    let broken_off = row / component.vertical > frame.last_good_row;
    let precision = if broken_off { &component.precision_before } else { &component.precision };
    let averages = averages(frame, component, column, row);
    let first = i64::from(quantization[0]);
    let only_averages = precision[1..WATCHED].iter().all(|precision| *precision == -1);
    let estimates: &[Estimate] = if only_averages { &AVERAGES } else { &SOME };
    for (index, (place, weights)) in estimates.iter().enumerate() {
        // The average itself is always replaced. It is last in the list and has precision index 0.
        let precision = if *place == 0 { -1 } else { precision[index + 1] };
        if *place != 0 && (precision == 0 || block[*place] != 0) {
            continue;
        }
        let sum: i64 = weights.iter().zip(averages).map(|(weight, x)| weight * i64::from(x)).sum();
        let step = i64::from(quantization[*place]);
        let mut size = ((step << 7) + (first * sum).abs()) / (step << 8);
        if precision > 0 {
            // A larger value would have appeared in the bits that are known.
            size = size.min((1 << precision) - 1);
        }
        block[*place] = (size * sum.signum()) as i16;
    }
    block
}

/// Returns the averages of the surrounding 5x5 blocks; blocks at the border are repeated.
fn averages(frame: &Frame, component: &Component, column: usize, row: usize) -> [i16; 25] {
    let last_column = component.blocks_wide - 1;
    let last_row = last_row(frame, component, row);
    std::array::from_fn(|index| {
        let column = (column + index % 5).saturating_sub(2).min(last_column);
        let row = (row + index / 5).saturating_sub(2).min(last_row);
        component.block(column, row)[0]
    })
}

/// Returns the last row of blocks that an estimate in `row` uses. In the last row of MCUs, libjpeg
/// also uses the rows of blocks that only complete an MCU.
fn last_row(frame: &Frame, component: &Component, row: usize) -> usize {
    let in_last_mcus = row / component.vertical + 1 == frame.mcus_high();
    if in_last_mcus { component.blocks_high - 1 } else { component.rows_stored - 1 }
}
