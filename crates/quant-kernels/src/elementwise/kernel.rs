//! The loop over tiles of numbers, which stay in registers from the first operation to the last.

use super::operation::{BLOCK, Integers, Operation, Size, Stored, Table};
use crate::simd::{Job, Simd};

/// The operations on all numbers. `apply` is the only place that creates it, after it has checked
/// all lengths.
pub(super) struct Apply<'j, 'a> {
    pub(super) operations: &'j mut [Operation<'a>],
    pub(super) size: Size,
}

impl Job for Apply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        // SAFETY: `apply`, the only place that creates this job, has checked that every slice has
        // an element for each number, and every table those of all channels. The numbers fill
        // whole blocks, and whole words where bits are stored.
        unsafe {
            match S::LANES {
                // Tiles of more vectors, if each has the channels of one position.
                16 if self.size.channels.is_multiple_of(128) => self.tiles::<S, 8, 2, 1>(simd),
                16 => self.tiles::<S, 4, 2, 1>(simd),
                8 => self.tiles::<S, 4, 2, 2>(simd),
                _ => self.tiles::<S, 8, 4, 4>(simd),
            }
        }
    }
}

/// Where a tile begins.
#[derive(Clone, Copy)]
struct At {
    /// The first number.
    number: usize,
    /// The same from the start of the period.
    in_period: usize,
    /// The position and channel of the first number.
    position: usize,
    channel: usize,
    channels: usize,
}

impl At {
    /// Returns the position and channel of a lane.
    #[inline(always)]
    fn lane(self, lane: usize) -> (usize, usize) {
        let (mut position, mut channel) = (self.position, self.channel + lane);
        while channel >= self.channels {
            channel -= self.channels;
            position += 1;
        }
        (position, channel)
    }

    /// Returns a pointer to the numbers of a vector's channels in a table, the first of several.
    ///
    /// # Safety
    /// The table must have the numbers of all channels.
    #[inline(always)]
    unsafe fn of<T>(self, table: &Table<'_, T>, lane: usize) -> *const T {
        let first = table.blocks.as_ptr().cast::<T>();
        if table.is_uniform() {
            // SAFETY: there is a block, which holds whole vectors. The channels fill whole blocks.
            return unsafe { first.add((self.channel + lane) % BLOCK) };
        }
        let (_, channel) = self.lane(lane);
        // SAFETY: the caller guarantees the block of this channel.
        unsafe { first.add(channel / BLOCK * table.count * BLOCK + channel % BLOCK) }
    }
}

impl Apply<'_, '_> {
    /// Applies the operations to tiles of so many vectors; the last ones of a period are smaller.
    ///
    /// # Safety
    /// Slices and tables must be long enough, and the small tile must divide a block.
    #[inline(always)]
    unsafe fn tiles<S: Simd, const LARGE: usize, const MIDDLE: usize, const SMALL: usize>(
        &mut self,
        simd: S,
    ) {
        let Size { count, channels, period } = self.size;
        let mut at = At { number: 0, in_period: 0, position: 0, channel: 0, channels };
        while at.number < count {
            let left = (count - at.number).min(period - at.in_period);
            // SAFETY: the caller guarantees the slices, and the tile is not larger than what is
            // left.
            let done = unsafe {
                if left >= LARGE * S::LANES {
                    tile::<S, LARGE>(simd, self.operations, at)
                } else if left >= MIDDLE * S::LANES {
                    tile::<S, MIDDLE>(simd, self.operations, at)
                } else {
                    tile::<S, SMALL>(simd, self.operations, at)
                }
            };
            at.number += done;
            at.in_period += done;
            if at.in_period == period {
                at.in_period = 0;
            }
            (at.position, at.channel) = at.lane(done);
        }
    }
}

/// Applies the operations to some vectors, and returns the number of numbers.
///
/// # Safety
/// Every slice must have so many elements from the tile's first number on.
#[inline(always)]
unsafe fn tile<S: Simd, const V: usize>(
    simd: S,
    operations: &mut [Operation<'_>],
    at: At,
) -> usize {
    let mut numbers = [simd.splat(-0.0); V];
    // SAFETY: the caller guarantees the elements.
    unsafe {
        let floats = |slice: &[f32], vector: usize| {
            simd.load(slice.as_ptr().add(at.number + vector * S::LANES))
        };
        let of_channels = |slice: &[f32], vector: usize| {
            simd.load(slice.as_ptr().add(at.in_period + vector * S::LANES))
        };
        for operation in operations.iter_mut() {
            match operation {
                Operation::AddScaled { sums, scales } => {
                    for (vector, x) in numbers.iter_mut().enumerate() {
                        let sums = sums.as_ptr().add(at.number + vector * S::LANES);
                        let sums = simd.floats_of(simd.load_integers(sums));
                        let scaled = simd.multiply_floats(sums, of_channels(scales, vector));
                        *x = simd.add_floats(*x, scaled);
                    }
                }
                Operation::AddRows { rows, starts } => {
                    if at.channel + V * S::LANES <= at.channels {
                        let start = *starts.get_unchecked(at.position) as usize + at.channel;
                        for (vector, x) in numbers.iter_mut().enumerate() {
                            let row = rows.as_ptr().add(start + vector * S::LANES);
                            *x = simd.add_floats(*x, simd.load(row));
                        }
                        continue;
                    }
                    for (vector, x) in numbers.iter_mut().enumerate() {
                        let (position, channel) = at.lane(vector * S::LANES);
                        let start = *starts.get_unchecked(position) as usize;
                        *x = simd.add_floats(*x, simd.load(rows.as_ptr().add(start + channel)));
                    }
                }
                Operation::Read(from) => {
                    for (vector, x) in numbers.iter_mut().enumerate() {
                        *x = floats(from, vector);
                    }
                }
                Operation::Add(other) => {
                    for (vector, x) in numbers.iter_mut().enumerate() {
                        *x = simd.add_floats(*x, floats(other, vector));
                    }
                }
                Operation::AddChannels(other) => {
                    for (vector, x) in numbers.iter_mut().enumerate() {
                        *x = simd.add_floats(*x, of_channels(other, vector));
                    }
                }
                Operation::Affine { scale, shift } => {
                    for (vector, x) in numbers.iter_mut().enumerate() {
                        let product = simd.multiply_floats(*x, of_channels(scale, vector));
                        *x = simd.add_floats(product, of_channels(shift, vector));
                    }
                }
                Operation::AddScalar(number) => {
                    let number = simd.splat(*number);
                    for x in &mut numbers {
                        *x = simd.add_floats(*x, number);
                    }
                }
                Operation::MultiplyScalar(number) => {
                    let number = simd.splat(*number);
                    for x in &mut numbers {
                        *x = simd.multiply_floats(*x, number);
                    }
                }
                Operation::Relu => {
                    let zero = simd.splat(0.0);
                    for x in &mut numbers {
                        *x = simd.larger(*x, zero);
                    }
                }
                Operation::Relu6 => {
                    let (zero, six) = (simd.splat(0.0), simd.splat(6.0));
                    for x in &mut numbers {
                        *x = simd.smaller(simd.larger(*x, zero), six);
                    }
                }
                Operation::LeakyRelu(slope) => {
                    let slope = simd.splat(*slope);
                    for x in &mut numbers {
                        *x = simd.if_positive(*x, *x, simd.multiply_floats(*x, slope));
                    }
                }
                Operation::RPRelu { before, slope, after } => {
                    for (vector, x) in numbers.iter_mut().enumerate() {
                        let moved = simd.subtract_floats(*x, of_channels(before, vector));
                        let below = simd.multiply_floats(moved, of_channels(slope, vector));
                        let bent = simd.if_positive(moved, moved, below);
                        *x = simd.add_floats(bent, of_channels(after, vector));
                    }
                }
                Operation::Write(to) => {
                    for (vector, x) in numbers.iter().enumerate() {
                        simd.store(*x, to.as_mut_ptr().add(at.number + vector * S::LANES));
                    }
                }
                Operation::Store(integers, to) => {
                    store(simd, &codes(simd, integers, &numbers, at), to, at);
                }
                Operation::StoreSums { sums, thresholds, steps, lowest, to } => {
                    let mut integers = [simd.splat_integer(0); V];
                    for (vector, integer) in integers.iter_mut().enumerate() {
                        let lane = vector * S::LANES;
                        let sum = simd.load_integers(sums.as_ptr().add(at.number + lane));
                        let (threshold, step) = (at.of(thresholds, lane), at.of(steps, lane));
                        *integer = simd.load_integers(at.of(lowest, lane));
                        for index in 0..thresholds.count {
                            let threshold = simd.load_integers(threshold.add(index * BLOCK));
                            let step = simd.load_integers(step.add(index * BLOCK));
                            *integer = simd.add_if_above(*integer, step, sum, threshold);
                        }
                    }
                    store(simd, &integers, to, at);
                }
            }
        }
    }
    V * S::LANES
}

/// Returns the integers of numbers.
///
/// # Safety
/// Tables must have the numbers of all channels.
#[inline(always)]
unsafe fn codes<S: Simd, const V: usize>(
    simd: S,
    integers: &Integers<'_>,
    numbers: &[S::Floats; V],
    at: At,
) -> [S::Integers; V] {
    let mut result = [simd.splat_integer(0); V];
    // SAFETY: the caller guarantees the tables.
    unsafe {
        match integers {
            Integers::Thresholds { thresholds, steps, lowest } => {
                for (vector, result) in result.iter_mut().enumerate() {
                    *result = simd.load_integers(at.of(lowest, vector * S::LANES));
                }
                for index in 0..thresholds.count {
                    for (vector, (result, x)) in result.iter_mut().zip(numbers).enumerate() {
                        let lane = vector * S::LANES;
                        let threshold = simd.load(at.of(thresholds, lane).add(index * BLOCK));
                        let step = simd.load_integers(at.of(steps, lane).add(index * BLOCK));
                        *result = simd.add_if_reached(*result, step, *x, threshold);
                    }
                }
            }
            Integers::Formula { divisors, shift, factor, lowest, highest, first, difference } => {
                /// A float whose last bit counts 1, so that a sum with it is rounded to an integer.
                const ROUND: f32 = 1.5 * (1 << 23) as f32;
                let [shift, factor, lower, upper] =
                    [*shift, *factor, *lowest, *highest].map(|number| simd.splat(number));
                let round = simd.splat(ROUND);
                // The lower bound is an integer of magnitude below 2²².
                let least = ROUND.to_bits() as i32 + *lowest as i32;
                let base = first.wrapping_sub(least.wrapping_mul(*difference));
                let base = simd.splat_integer(base);
                for (vector, (result, x)) in result.iter_mut().zip(numbers).enumerate() {
                    let divisor = simd.load(at.of(divisors, vector * S::LANES));
                    let x = simd.add_floats(simd.divide_floats(*x, divisor), shift);
                    let x = simd.larger(simd.multiply_floats(x, factor), lower);
                    *result = simd.bits_of(simd.add_floats(simd.smaller(x, upper), round));
                }
                if *difference != 1 {
                    let difference = simd.splat_integer(*difference);
                    for result in &mut result {
                        *result = simd.multiply_integers(*result, difference);
                    }
                }
                for result in &mut result {
                    *result = simd.add_integers(*result, base);
                }
            }
        }
    }
    result
}

/// Stores integers of a tile.
///
/// # Safety
/// The slice must have the elements of the tile.
#[inline(always)]
unsafe fn store<S: Simd, const V: usize>(
    simd: S,
    integers: &[S::Integers; V],
    to: &mut Stored<'_>,
    at: At,
) {
    // SAFETY: the caller guarantees the elements. A tile with less than a word's bits only exists
    // where no bits are stored, and then no word is written.
    unsafe {
        match to {
            Stored::Bytes(to) => {
                for (vector, integers) in integers.iter().enumerate() {
                    let to = to.as_mut_ptr().add(at.number + vector * S::LANES);
                    simd.store_bytes(*integers, to);
                }
            }
            Stored::Shorts(to) => {
                for (vector, integers) in integers.iter().enumerate() {
                    let to = to.as_mut_ptr().add(at.number + vector * S::LANES);
                    simd.store_shorts(*integers, to);
                }
            }
            Stored::Bits(to) => {
                let to = to.as_mut_ptr().add(at.number / 32);
                for (word, integers) in integers.chunks_exact(32 / S::LANES).enumerate() {
                    let mut bits = 0;
                    for (vector, integers) in integers.iter().enumerate() {
                        bits |= simd.low_bits(*integers) << (vector * S::LANES);
                    }
                    to.add(word).write(bits);
                }
            }
            Stored::TwoBits(to) => {
                let to = to.as_mut_ptr().add(at.number / 16);
                for (word, integers) in integers.chunks_exact(32 / S::LANES).enumerate() {
                    let (mut low, mut second) = (0, 0);
                    for (vector, integers) in integers.iter().enumerate() {
                        low |= simd.low_bits(*integers) << (vector * S::LANES);
                        second |= simd.second_bits(*integers) << (vector * S::LANES);
                    }
                    to.add(2 * word).write(low);
                    to.add(2 * word + 1).write(second);
                }
            }
        }
    }
}
