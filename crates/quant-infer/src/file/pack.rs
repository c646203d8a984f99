//! Codes at their true width.

use alloc::vec::Vec;

/// How codes below a number of levels L are packed: words of `bytes` bytes, least significant
/// first, hold `codes` codes each. The word is the sum of code i times Lⁱ.
///
/// Where L is a power of two, these are bits in a row, beginning with the least significant:
/// element i stands at bit i·log2(L). Three levels take 1.6 bits, five codes to a byte. No number
/// of levels up to 128 takes more than 1.06·log2(L) bits, and none more than 1.13·log2(L).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    levels: u64,
    bytes: usize,
    codes: usize,
}

impl Packing {
    /// The packing of codes below `levels`, which is from 1 to 256. One level takes no bytes.
    ///
    /// Of the words of 1 to 8 bytes, it takes those with the fewest bytes per code, and of equal
    /// ones the shortest.
    pub(crate) fn new(levels: usize) -> Option<Self> {
        if !(1..=256).contains(&levels) {
            return None;
        }
        let levels = levels as u64;
        if levels == 1 {
            return Some(Self { levels, bytes: 0, codes: 1 });
        }
        let mut best = Self { levels, bytes: 1, codes: fitting(levels, 1) };
        for bytes in 2..=8 {
            let codes = fitting(levels, bytes);
            if bytes * best.codes < best.bytes * codes {
                best = Self { levels, bytes, codes };
            }
        }
        Some(best)
    }

    /// Bytes of a word.
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// Codes in a word.
    pub fn codes(self) -> usize {
        self.codes
    }

    /// The bytes that this many codes take: whole words. None if they cannot be counted.
    pub(crate) fn size(self, codes: usize) -> Option<usize> {
        codes.div_ceil(self.codes).checked_mul(self.bytes)
    }

    /// Appends the words of the codes. The last word is filled up with code 0.
    pub(crate) fn pack(self, codes: &[u8], out: &mut Vec<u8>) {
        for word in codes.chunks(self.codes) {
            let number = word.iter().rev().fold(0u64, |number, &code| {
                number.wrapping_mul(self.levels).wrapping_add(u64::from(code))
            });
            out.extend_from_slice(&number.to_le_bytes()[..self.bytes]);
        }
    }

    /// The first `count` codes of the words, whose bytes are those of [`Packing::size`]. None if a
    /// word is too large, or if the last one is not filled up with code 0.
    pub(crate) fn unpack(self, words: &[u8], count: usize) -> Option<Vec<u8>> {
        if self.size(count) != Some(words.len()) {
            return None;
        }
        if self.bytes == 0 {
            return Some(alloc::vec![0; count]);
        }
        if self.bytes == 1 {
            return self.unpack_bytes(words, count);
        }
        let mut codes = Vec::with_capacity(count);
        for word in words.chunks_exact(self.bytes) {
            let mut number = little_endian(word);
            let here = self.codes.min(count - codes.len());
            if self.levels.is_power_of_two() {
                let (bits, mask) = (self.levels.trailing_zeros(), self.levels - 1);
                for _ in 0..here {
                    codes.push((number & mask) as u8);
                    number >>= bits;
                }
            } else {
                for _ in 0..here {
                    codes.push((number % self.levels) as u8);
                    number /= self.levels;
                }
            }
            if number != 0 {
                return None;
            }
        }
        Some(codes)
    }
}

impl Packing {
    /// Does the same for words of a byte, by a table of all bytes.
    fn unpack_bytes(self, words: &[u8], count: usize) -> Option<Vec<u8>> {
        let of_byte = |byte: usize| {
            let mut codes = [0; 8];
            let mut number = byte as u64;
            for code in &mut codes[..self.codes] {
                *code = (number % self.levels) as u8;
                number /= self.levels;
            }
            (codes, number == 0)
        };
        let table: [([u8; 8], bool); 256] = core::array::from_fn(of_byte);
        // Eight codes are always written, since a copy of a known size is one instruction. The next
        // word overwrites those that are too many.
        let mut codes = alloc::vec![0; words.len() * self.codes + 8];
        let mut are_small = true;
        for (index, word) in words.iter().enumerate() {
            let (of_word, is_small) = &table[usize::from(*word)];
            codes[index * self.codes..][..8].copy_from_slice(of_word);
            are_small &= is_small;
        }
        codes.truncate(words.len() * self.codes);
        // The last word is filled up with code 0.
        let is_filled = codes[count..].iter().all(|code| *code == 0);
        codes.truncate(count);
        (are_small && is_filled).then_some(codes)
    }
}

/// The largest k with levels^k at most 2^(8·bytes).
fn fitting(levels: u64, bytes: usize) -> usize {
    let limit = 1u128 << (8 * bytes);
    let mut power = u128::from(levels);
    let mut codes = 0;
    while power <= limit {
        codes += 1;
        power *= u128::from(levels);
    }
    codes
}

fn little_endian(word: &[u8]) -> u64 {
    word.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packing(levels: usize) -> Packing {
        Packing::new(levels).unwrap()
    }

    fn packed(levels: usize, codes: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        packing(levels).pack(codes, &mut bytes);
        bytes
    }

    #[test]
    fn powers_of_two_are_bits_from_the_least_significant() {
        assert_eq!(packed(2, &[1, 0, 1, 1, 0, 0, 0, 1, 1]), [0b1000_1101, 1]);
        assert_eq!(packed(4, &[1, 2, 3, 0, 2]), [0b0011_1001, 2]);
        assert_eq!(packed(8, &[1, 2, 3, 4, 5, 6, 7, 0]), [0b1101_0001, 0b0101_1000, 0b0001_1111]);
        assert_eq!(packed(256, &[7, 255]), [7, 255]);
    }

    #[test]
    fn five_ternary_codes_are_a_byte() {
        assert_eq!(packed(3, &[2, 1, 0, 0, 1, 2]), [2 + 3 + 81, 2]);
        assert_eq!((packing(3).bytes(), packing(3).codes()), (1, 5));
    }

    #[test]
    fn no_number_of_levels_takes_much_more_than_its_information() {
        for levels in 2..=256usize {
            let packing = packing(levels);
            let bits = 8.0 * packing.bytes as f64 / packing.codes as f64;
            let limit = if levels <= 128 { 1.06 } else { 1.13 };
            assert!(bits <= limit * (levels as f64).log2(), "{levels} levels take {bits} bits");
            if levels.is_power_of_two() {
                assert_eq!(bits, (levels as f64).log2());
            }
        }
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        for levels in 1..=256usize {
            for count in 0..70 {
                let codes: Vec<u8> = (0..count).map(|i| (i * 31 % levels) as u8).collect();
                let bytes = packed(levels, &codes);
                assert_eq!(packing(levels).unpack(&bytes, count).as_ref(), Some(&codes));
            }
        }
    }

    #[test]
    fn words_beyond_the_last_code_are_refused() {
        assert_eq!(packing(3).unpack(&[242], 5), Some(alloc::vec![2; 5]));
        assert_eq!(packing(3).unpack(&[243], 5), None);
        assert_eq!(packing(4).unpack(&[0b0100], 1), None);
        assert_eq!(packing(4).unpack(&[1, 0], 1), None);
    }

    #[test]
    fn only_1_to_256_levels_are_packed() {
        assert_eq!(Packing::new(0), None);
        assert_eq!(Packing::new(257), None);
    }
}
