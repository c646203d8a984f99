//! Numbers on the host, in the type of a kernel's tensors.

use half::{bf16, f16};

use crate::{
    cpu::Buffer,
    variant::{Type, Variant},
};

/// Numbers of one type.
#[derive(Clone)]
pub struct Numbers {
    of: Type,
    wide: Vec<f32>,
    narrow: Vec<u16>,
}

impl Numbers {
    /// Returns the numbers, rounded to the type.
    pub fn new(values: &[f32], of: Type) -> Self {
        let bits = |value: &f32| match of {
            Type::F16 => f16::from_f32(*value).to_bits(),
            Type::F32 | Type::BF16 => bf16::from_f32(*value).to_bits(),
        };
        match of {
            Type::F32 => Self { of, wide: values.to_vec(), narrow: Vec::new() },
            Type::F16 | Type::BF16 => {
                Self { of, wide: Vec::new(), narrow: values.iter().map(bits).collect() }
            }
        }
    }

    /// Returns this many numbers that a kernel should write over.
    pub fn unwritten(count: usize, of: Type) -> Self {
        Self::new(&vec![-77.0; count], of)
    }

    pub fn values(&self) -> Vec<f32> {
        let value = |bits: &u16| match self.of {
            Type::F16 => f16::from_bits(*bits).to_f32(),
            Type::F32 | Type::BF16 => bf16::from_bits(*bits).to_f32(),
        };
        match self.of {
            Type::F32 => self.wide.clone(),
            Type::F16 | Type::BF16 => self.narrow.iter().map(value).collect(),
        }
    }

    pub fn buffer(&mut self) -> Buffer<'_> {
        match self.of {
            Type::F32 => Buffer::F32(&mut self.wide),
            Type::F16 | Type::BF16 => Buffer::Bits16(&mut self.narrow),
        }
    }
}

/// Numbers in memory, and the integers by which a kernel finds them there.
pub struct Placed {
    pub numbers: Numbers,
    /// The integers of the width of addresses.
    pub lengths: Vec<u64>,
    /// The integers of 32 bits.
    pub shifts: Vec<u32>,
}

impl Placed {
    /// Places numbers in the order that the variant says: one after another, or strided.
    pub fn new(values: &[f32], of: Type, v: Variant) -> Self {
        if v.strided {
            return Self::strided(values, of);
        }
        let lengths = vec![(values.len() / v.vector) as u64];
        Self { numbers: Numbers::new(values, of), lengths, shifts: Vec::new() }
    }

    /// Places numbers as a tensor of three axes, of which the second is the innermost in memory.
    /// There is a gap after each element of the first axis.
    fn strided(values: &[f32], of: Type) -> Self {
        let [first, second, third] = factors(values.len());
        let outermost = second * third + 5;
        let mut memory = vec![f32::INFINITY; first * outermost];
        for (at, value) in values.iter().enumerate() {
            let (a, b, c) = (at / (second * third), at / third % second, at % third);
            memory[a * outermost + b + c * second] = *value;
        }
        let (mut lengths, mut shifts) = (Vec::new(), Vec::new());
        for size in [first, second, third] {
            let (multiplier, shift) = division(size as u64);
            lengths.extend([size as u64, multiplier]);
            shifts.push(shift);
        }
        lengths.extend([outermost, 1, second, values.len()].map(|x| x as u64));
        Self { numbers: Numbers::new(&memory, of), lengths, shifts }
    }
}

/// Returns three factors of a number: its two smallest above 1, and what is left.
fn factors(number: usize) -> [usize; 3] {
    let smallest = |of: usize| (2..=of).find(|factor| of.is_multiple_of(*factor)).unwrap_or(1);
    let first = smallest(number);
    let second = smallest(number / first);
    [first, second, number / first / second]
}

/// Returns the numbers m and s by which CubeCL divides by d without a division:
/// n / d = (⌊m·n / 2^64⌋ + n) >> s, with s = ⌈log2 d⌉ and m = ⌊2^64·(2^s - d) / d⌋ + 1 (Granlund
/// and Montgomery, "Division by invariant integers using multiplication", 1994).
fn division(divisor: u64) -> (u64, u32) {
    let shift = divisor.next_power_of_two().trailing_zeros();
    let wide = u128::from(divisor);
    let multiplier = (1u128 << 64) * ((1u128 << shift) - wide) / wide + 1;
    (multiplier as u64, shift)
}

/// Returns reproducible values in -2..2.
pub fn drawn(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 22) as f32 - 2.0
    };
    std::iter::repeat_with(next).take(count).collect()
}
