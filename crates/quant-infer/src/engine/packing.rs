//! How the integers of an operand lie in words of 32 bits.

use alloc::{vec, vec::Vec};

use quant_kernels::simd::InstructionSet;

use super::per_threshold::LANES;

/// Number of numbers that are computed before their words are. They are words of all packings.
pub(super) const CHUNK: usize = 256;

/// A way to store integers in words of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Integers of 16 bits, two in a word.
    Pairs,
    /// Bytes, four in a word.
    Bytes,
    /// Bits, 32 in a word.
    Signs,
    /// Bits of the numbers that are not 0, 32 in a word, and of the negative ones in the next word.
    Ternary,
}

impl Packing {
    /// All packings, from the one with the fewest bits.
    pub const ALL: [Self; 4] = [Self::Signs, Self::Ternary, Self::Bytes, Self::Pairs];

    /// Returns the number of channels of a tap of the kernel.
    pub(super) fn channels(self) -> usize {
        match self {
            Self::Pairs => 2,
            Self::Bytes => 4,
            Self::Signs | Self::Ternary => 32,
        }
    }

    /// Returns the number of words of a tap.
    pub(super) fn words(self) -> usize {
        if self == Self::Ternary { 2 } else { 1 }
    }

    /// Returns the number of words of a position.
    pub(super) fn words_of(self, channels: usize) -> usize {
        channels.div_ceil(self.channels()) * self.words()
    }

    /// Returns about how long a tap of one output takes with an instruction set, in picoseconds.
    /// `is_small` says that sums of bytes fit into 16 bits for a while.
    ///
    /// The numbers were measured with the program `products` of quant-kernels; those of NEON follow
    /// from the instructions. Only their ratios matter.
    pub(super) fn cost(self, set: InstructionSet, is_small: bool) -> f32 {
        let [pairs, bytes, small, signs, ternary] = match set.name() {
            "avx512vpopcntdq" => [12.0, 10.5, 18.0, 26.0, 71.0],
            "avx512vnni" => [12.0, 10.5, 18.0, 71.0, 149.0],
            "avx512" => [17.0, 43.0, 18.0, 71.0, 149.0],
            "avx2vnni" => [17.0, 16.5, 25.0, 88.0, 213.0],
            "avx2" => [23.0, 62.0, 25.0, 88.0, 213.0],
            "neoni8mm" | "neondot" => [60.0, 30.0, 90.0, 120.0, 250.0],
            "neon" => [60.0, 110.0, 90.0, 120.0, 250.0],
            _ => [55.0, 330.0, 900.0, 440.0, 950.0],
        };
        match self {
            Self::Pairs => pairs,
            Self::Bytes if is_small && !set.has_dot_products() => f32::min(bytes, small),
            Self::Bytes => bytes,
            Self::Signs => signs,
            Self::Ternary => ternary,
        }
    }

    /// Returns how integers are stored, if they can be. Without integers, it is 0.
    pub(super) fn encoding(self, integers: impl Iterator<Item = i16> + Clone) -> Option<Encoding> {
        let integers = integers.map(i32::from);
        let largest = integers.clone().map(i32::abs).max().unwrap_or(0);
        let of = |offset, step| {
            let numbers = integers.clone().map(|integer| (integer - offset) / step);
            let largest = numbers.max().unwrap_or(0);
            Some(Encoding { packing: self, offset, step, largest })
        };
        match self {
            Self::Pairs => of(0, 1),
            Self::Bytes => {
                let (offset, step) = line(integers.clone());
                of(offset, step).filter(|encoding| encoding.largest <= 255)
            }
            Self::Signs if largest > 0 && integers.clone().all(|x| x.abs() == largest) => {
                of(-largest, 2 * largest)
            }
            Self::Ternary if integers.clone().all(|x| x == 0 || x.abs() == largest) => {
                of(0, largest.max(1))
            }
            _ => None,
        }
    }
}

/// Returns the smallest of some integers, and the greatest common divisor of their differences, or
/// 1 if they are equal.
pub(super) fn line(integers: impl Iterator<Item = i32> + Clone) -> (i32, i32) {
    let lowest = integers.clone().min().unwrap_or(0);
    let divisor = |mut a: i32, mut b: i32| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = integers.fold(0, |step, integer| divisor(step, integer - lowest));
    (lowest, step.max(1))
}

/// How the integers of a term are stored: as (integer - offset)/step, except that -step is stored
/// as 3 in ternary operands, whose offset is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) packing: Packing,
    pub(super) offset: i32,
    pub(super) step: i32,
    /// The largest number that is stored.
    pub(super) largest: i32,
}

impl Default for Encoding {
    fn default() -> Self {
        Self { packing: Packing::Pairs, offset: 0, step: 1, largest: 0 }
    }
}

impl Encoding {
    /// Returns what is stored for an integer.
    pub(super) fn number(self, integer: i16) -> i32 {
        let number = (i32::from(integer) - self.offset) / self.step;
        if self.packing == Packing::Ternary && number < 0 { 3 } else { number }
    }

    /// Returns the words of a position whose channels have these numbers.
    pub(super) fn words(self, numbers: impl Fn(usize) -> i32, channels: usize) -> Vec<u32> {
        let mut words = vec![0; self.packing.words_of(channels)];
        self.write(&mut words, channels, &mut [0; CHUNK], |first, chunk| {
            let each = chunk.iter_mut().enumerate().take(channels - first);
            each.for_each(|(channel, number)| *number = numbers(first + channel));
        });
        words
    }

    /// Writes the words of a position. `fill` writes the numbers of the channels from a first one
    /// on; those of channels that do not exist are not used.
    ///
    /// Numbers and words are computed one after the other, so that each combination of both is not
    /// compiled on its own. `numbers` is the memory between them.
    #[inline(always)]
    pub(super) fn write(
        self,
        words: &mut [u32],
        channels: usize,
        numbers: &mut [i32; CHUNK],
        fill: impl Fn(usize, &mut [i32; CHUNK]),
    ) {
        let of_chunk = self.packing.words_of(CHUNK);
        let (mut first, mut words) = (0, words);
        loop {
            let count = (channels - first).min(CHUNK);
            let is_last = first + count == channels;
            let (these, others) = words.split_at_mut(if is_last { words.len() } else { of_chunk });
            fill(first, numbers);
            self.pack(numbers, count, these);
            if is_last {
                return;
            }
            (first, words) = (first + count, others);
        }
    }

    /// Writes the words of the first `count` numbers.
    #[inline(always)]
    fn pack(self, numbers: &[i32; CHUNK], count: usize, words: &mut [u32]) {
        match self.packing {
            Packing::Pairs => {
                let out: &mut [i16] = bytemuck::cast_slice_mut(words);
                out[..count].iter_mut().zip(numbers).for_each(|(out, x)| *out = *x as i16);
            }
            Packing::Bytes => {
                let out: &mut [u8] = bytemuck::cast_slice_mut(words);
                out[..count].iter_mut().zip(numbers).for_each(|(out, x)| *out = *x as u8);
                // The sums of all bytes that a position reads are used too.
                out[count..].fill(0);
            }
            Packing::Signs | Packing::Ternary => {
                let (numbers, _) = numbers.as_chunks();
                // A mask takes less time than zeros in memory.
                let mask = |index: usize| match count - 32 * index {
                    left @ 0..32 => (1 << left) - 1,
                    _ => u32::MAX,
                };
                let numbers = numbers[..count.div_ceil(32)].iter().enumerate();
                if self.packing == Packing::Signs {
                    for (word, (index, x)) in words.iter_mut().zip(numbers) {
                        *word = bits::<0>(x) & mask(index);
                    }
                } else {
                    let (words, _) = words.as_chunks_mut();
                    for (words, (index, x)) in words.iter_mut().zip(numbers) {
                        *words = [bits::<0>(x) & mask(index), bits::<1>(x) & mask(index)];
                    }
                }
            }
        }
    }

    /// Returns what is stored for a channel of a position.
    pub(super) fn read(self, words: &[u32], channel: usize) -> i32 {
        match self.packing {
            Packing::Pairs => i32::from(bytemuck::cast_slice::<u32, i16>(words)[channel]),
            Packing::Bytes => i32::from(bytemuck::cast_slice::<u32, u8>(words)[channel]),
            Packing::Signs | Packing::Ternary => {
                let planes = self.packing.words();
                let words = &words[channel / 32 * planes..][..planes];
                let bit = |plane: usize| (words[plane] >> (channel % 32) & 1) << plane;
                (0..planes).map(bit).sum::<u32>() as i32
            }
        }
    }
}

/// Returns a bit of each of 32 numbers.
#[inline(always)]
fn bits<const BIT: u32>(numbers: &[i32; 32]) -> u32 {
    let mut bits = [0; LANES];
    for lane in 0..LANES {
        let of = |number: i32| number as u32 >> BIT & 1;
        bits[lane] = of(numbers[lane]) << lane | of(numbers[lane + LANES]) << (lane + LANES);
    }
    bits.iter().fold(0, |word, bits| word | bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_lie_in_the_order_of_the_channels() {
        for set in 0..32 {
            let number = |channel| if channel == set { 2 } else { 1 };
            let numbers = core::array::from_fn(number);
            assert_eq!(bits::<1>(&numbers), 1 << set);
            assert_eq!(bits::<0>(&numbers), !(1 << set));
        }
    }

    #[test]
    fn numbers_are_read_as_they_were_written() {
        let cases: [(Packing, &[i16]); 6] = [
            (Packing::Pairs, &[-300, 0, 7, 255]),
            (Packing::Bytes, &[-255, -253, 1, 255]),
            (Packing::Bytes, &[5]),
            (Packing::Signs, &[-3, 3]),
            (Packing::Ternary, &[-2, 0, 2]),
            (Packing::Ternary, &[0]),
        ];
        for (packing, integers) in cases {
            let encoding = packing.encoding(integers.iter().copied()).unwrap();
            let channels = 71;
            let of = |channel: usize| integers[channel * 5 % 7 % integers.len()];
            let words = encoding.words(|channel| encoding.number(of(channel)), channels);
            for channel in 0..channels {
                let number = encoding.read(&words, channel);
                assert_eq!(number, encoding.number(of(channel)), "{packing:?}");
                if packing != Packing::Ternary {
                    let integer = encoding.offset + encoding.step * number;
                    assert_eq!(integer, i32::from(of(channel)), "{packing:?}");
                }
            }
        }
    }

    #[test]
    fn integers_that_do_not_fit_are_refused() {
        let fits = |packing: Packing, integers: &[i16]| {
            packing.encoding(integers.iter().copied()).is_some()
        };
        assert!(!fits(Packing::Bytes, &[-255, 0, 254]));
        assert!(!fits(Packing::Signs, &[-1, 0, 1]));
        assert!(!fits(Packing::Signs, &[0]));
        assert!(!fits(Packing::Ternary, &[-1, 0, 2]));
    }
}
