//! Numbers on the host, in the type of a kernel's tensors.

use half::{bf16, f16};

use crate::{cpu::Buffer, kernels::Type};

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
