//! Models to test with.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod levels;
pub(crate) mod random;
pub(crate) mod resnet;

use quant_infer::model::{Conv, Node, Op, Weight};

/// A small generator of random numbers, so that a model follows from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// From -1 to 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn positive(&mut self) -> f32 {
        self.float().abs() + 0.01
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    pub(crate) fn codes(&mut self, count: usize, levels: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(levels) as u8).collect()
    }
}

pub(crate) fn node(name: &str, op: Op, inputs: &[usize]) -> Node {
    Node { name: name.into(), op, inputs: inputs.to_vec() }
}

/// A square convolution that keeps the size if its stride is 1.
pub(crate) fn conv(channels: [usize; 2], kernel: usize, stride: usize, weight: Weight) -> Conv {
    Conv {
        in_channels: channels[0],
        out_channels: channels[1],
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [kernel / 2; 2],
        dilation: [1; 2],
        groups: 1,
        quantizer: None,
        pads_codes: false,
        weight,
        bias: None,
    }
}
