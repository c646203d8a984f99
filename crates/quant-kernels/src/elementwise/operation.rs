//! The operations on numbers, and the form of what they read and write.

/// Number of channels whose numbers lie together in a [`Table`]. It is a multiple of the number of
/// lanes of every instruction set.
pub const BLOCK: usize = 16;

/// Numbers of channels, several for each: `[blocks, count, BLOCK]`, with the channels of a block
/// next to each other.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a, T> {
    /// The numbers. There is one block if all channels have the same ones, which fill it.
    pub blocks: &'a [[T; BLOCK]],
    /// The count of numbers of a channel.
    pub count: usize,
}

impl<T> Table<'_, T> {
    /// Returns whether all channels have the same numbers.
    #[inline(always)]
    pub(super) fn is_uniform(&self) -> bool {
        self.blocks.len() == self.count
    }
}

/// The integer that is stored for a number.
#[derive(Debug, Clone, Copy)]
pub enum Integers<'a> {
    /// The lowest integer, plus a step for each threshold that the number reaches: x ≥ threshold.
    Thresholds {
        /// The thresholds of each channel.
        thresholds: Table<'a, f32>,
        /// The step of each threshold, as many as there are thresholds.
        steps: Table<'a, i32>,
        /// One integer for each channel.
        lowest: Table<'a, i32>,
    },
    /// first + difference·(R(clamp((x/divisor + shift)·factor, lowest, highest)) - lowest), where R
    /// rounds to the nearest integer, and half to even. The bounds are integers of magnitude below
    /// 2²².
    Formula {
        /// One divisor for each channel.
        divisors: Table<'a, f32>,
        /// What is added to the quotient.
        shift: f32,
        /// What the sum is multiplied by.
        factor: f32,
        /// The lower bound, which an x that is NaN becomes too.
        lowest: f32,
        /// The upper bound.
        highest: f32,
        /// The integer of the lower bound.
        first: i32,
        /// The difference between the integers of two neighbours.
        difference: i32,
    },
}

/// How integers are stored.
#[derive(Debug)]
pub enum Stored<'a> {
    /// The lowest byte of each.
    Bytes(&'a mut [u8]),
    /// The lowest 16 bits of each.
    Shorts(&'a mut [i16]),
    /// The lowest bit of each, 32 in a word, from the lowest bit of the word on.
    Bits(&'a mut [u32]),
    /// The lowest bits of 32 integers in a word, and their second bits in the next word.
    TwoBits(&'a mut [u32]),
}

/// The numbers of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many there are: `[positions, channels]`.
    pub count: usize,
    /// The number of channels, a multiple of [`BLOCK`].
    pub channels: usize,
    /// The number of elements after which those of channels begin again. They are repeated for
    /// several positions, so that loops are long: it is a multiple of the number of channels.
    pub period: usize,
}

/// An operation on numbers. Slices have at least one element for each of them, except those of
/// channels, which have the elements of a [period](Size::period).
#[derive(Debug)]
pub enum Operation<'a> {
    /// Adds the float of an integer times the scale of its channel.
    AddScaled {
        /// The integers.
        sums: &'a [i32],
        /// The scales of channels.
        scales: &'a [f32],
    },
    /// Adds a row of numbers to each position, one for each channel.
    AddRows {
        /// The numbers of all rows.
        rows: &'a [f32],
        /// The index of each position's row, a multiple of [`BLOCK`].
        starts: &'a [u32],
    },
    /// The number becomes that of a slice.
    Read(&'a [f32]),
    /// x + a.
    Add(&'a [f32]),
    /// x + a, for the numbers a of channels.
    AddChannels(&'a [f32]),
    /// x·scale + shift.
    Affine {
        /// The factors of channels.
        scale: &'a [f32],
        /// The summands of channels.
        shift: &'a [f32],
    },
    /// x + a.
    AddScalar(f32),
    /// x·a.
    MultiplyScalar(f32),
    /// x where x > 0, else 0.
    Relu,
    /// x where 0 < x < 6, else the nearest of both; 0 for NaN.
    Relu6,
    /// x where x > 0, else x·slope.
    LeakyRelu(f32),
    /// y + after, where y is d = x - before where d > 0, and else d·slope.
    RPRelu {
        /// What is subtracted first, for each channel, as all others.
        before: &'a [f32],
        /// The slopes below 0.
        slope: &'a [f32],
        /// What is added last.
        after: &'a [f32],
    },
    /// Writes the numbers.
    Write(&'a mut [f32]),
    /// Writes integers of the numbers.
    Store(Integers<'a>, Stored<'a>),
    /// Writes integers of sums: the lowest one, plus a step for each threshold that the sum is
    /// above. The numbers stay.
    StoreSums {
        /// The sums.
        sums: &'a [i32],
        /// The thresholds of each channel.
        thresholds: Table<'a, i32>,
        /// The step of each threshold, as many as there are thresholds.
        steps: Table<'a, i32>,
        /// One integer for each channel.
        lowest: Table<'a, i32>,
        /// Where the integers are written.
        to: Stored<'a>,
    },
}
