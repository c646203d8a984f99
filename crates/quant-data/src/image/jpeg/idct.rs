//! The inverse cosine transform of 8x8 blocks: the algorithm of Loeffler, Ligtenberg and Moschytz
//! (1989) in integers, with the precision and rounding of libjpeg's default method ("islow"), so
//! that pixels are identical.

/// Number of fractional bits of the constants.
const CONSTANT: i32 = 13;
/// Number of fractional bits between the two passes.
const BETWEEN: i32 = 2;

/// Sums and differences of cosines of multiples of π/16, times √2. The names give the values.
const F_0_298631336: i32 = 2446;
const F_0_390180644: i32 = 3196;
const F_0_541196100: i32 = 4433;
const F_0_765366865: i32 = 6270;
const F_0_899976223: i32 = 7373;
const F_1_175875602: i32 = 9633;
const F_1_501321110: i32 = 12299;
const F_1_847759065: i32 = 15137;
const F_1_961570560: i32 = 16069;
const F_2_053119869: i32 = 16819;
const F_2_562915447: i32 = 20995;
const F_3_072711026: i32 = 25172;

/// Transforms eight coefficients to eight samples in one dimension, and divides by 2^`shift`. Sums
/// wrap around and results saturate at 16 bits, as in libjpeg-turbo's SIMD code; only damaged data
/// reach these limits.
fn pass(x: [i16; 8], shift: i32) -> [i16; 8] {
    let wide = i32::from;
    // Even part.
    let rotation = (wide(x[2]) + wide(x[6])) * F_0_541196100;
    let low = rotation - wide(x[6]) * F_1_847759065;
    let high = rotation + wide(x[2]) * F_0_765366865;
    let sum = wide(x[0].wrapping_add(x[4])) << CONSTANT;
    let difference = wide(x[0].wrapping_sub(x[4])) << CONSTANT;
    let even = [sum + high, difference + low, difference - low, sum - high];
    // Odd part.
    let z3 = wide(x[7].wrapping_add(x[3]));
    let z4 = wide(x[5].wrapping_add(x[1]));
    let z5 = (z3 + z4) * F_1_175875602;
    let z3 = z5 - z3 * F_1_961570560;
    let z4 = z5 - z4 * F_0_390180644;
    let z1 = (wide(x[7]) + wide(x[1])) * -F_0_899976223;
    let z2 = (wide(x[5]) + wide(x[3])) * -F_2_562915447;
    let odd = [
        (wide(x[1]) * F_1_501321110).wrapping_add(z1).wrapping_add(z4),
        (wide(x[3]) * F_3_072711026).wrapping_add(z2).wrapping_add(z3),
        (wide(x[5]) * F_2_053119869).wrapping_add(z2).wrapping_add(z4),
        (wide(x[7]) * F_0_298631336).wrapping_add(z1).wrapping_add(z3),
    ];
    let scaled = |value: i32| {
        let value = value.wrapping_add(1 << (shift - 1)) >> shift;
        value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
    };
    let mut samples = [0; 8];
    for (index, (even, odd)) in even.into_iter().zip(odd).enumerate() {
        samples[index] = scaled(even.wrapping_add(odd));
        samples[7 - index] = scaled(even.wrapping_sub(odd));
    }
    samples
}

/// Writes the 8x8 samples of a block to `samples`, whose rows are `stride` samples apart.
/// Coefficients and the quantization table are in rows of ascending horizontal frequency.
pub(super) fn inverse(
    block: &[i16; 64],
    quantization: &[u16; 64],
    samples: &mut [u8],
    stride: usize,
) {
    let mut between = [[0_i16; 8]; 8];
    for column in 0..8 {
        let values: [i16; 8] = std::array::from_fn(|row| {
            let index = row * 8 + column;
            block[index].wrapping_mul(quantization[index] as i16)
        });
        for (row, value) in between.iter_mut().zip(pass(values, CONSTANT - BETWEEN)) {
            row[column] = value;
        }
    }
    for (row, values) in between.into_iter().enumerate() {
        let line = &mut samples[row * stride..row * stride + 8];
        for (sample, value) in line.iter_mut().zip(pass(values, CONSTANT + BETWEEN + 3)) {
            *sample = (i32::from(value) + 128).clamp(0, 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_cosine_transform_to_rounding() {
        let mut block = [0; 64];
        for (index, value) in [(0, 70), (1, -31), (8, 22), (10, -17), (27, 9), (63, 5)] {
            block[index] = value;
        }
        let mut samples = [0; 64];
        inverse(&block, &[3; 64], &mut samples, 8);
        let scale = |frequency| if frequency == 0 { 0.5_f64.sqrt() } else { 1.0 };
        for (index, sample) in samples.into_iter().enumerate() {
            let (y, x) = (index / 8, index % 8);
            let wave = |frequency: usize, at: usize| {
                let angle = (2 * at + 1) as f64 * frequency as f64 * std::f64::consts::PI / 16.0;
                scale(frequency) * angle.cos()
            };
            let terms =
                (0..64).map(|k| f64::from(block[k]) * 3.0 * wave(k / 8, y) * wave(k % 8, x));
            let exact = terms.sum::<f64>() / 4.0 + 128.0;
            assert!((f64::from(sample) - exact.clamp(0.0, 255.0)).abs() <= 1.0, "{y}, {x}");
        }
    }
}
