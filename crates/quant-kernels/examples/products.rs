//! Measures the products that each arithmetic computes per nanosecond, with each instruction set,
//! for the 3 x 3 convolutions of ResNet-18, on one thread:
//! `cargo run --release -p quant-kernels --example products`.

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::time::Instant;

use quant_kernels::{
    channels_last::{Arithmetic, Run, Weights},
    simd::InstructionSet,
};

/// A 3 x 3 convolution between images of the same size.
struct Shape {
    channels: usize,
    size: usize,
}

impl Shape {
    /// Returns the products per nanosecond.
    fn measure<A: Arithmetic>(&self, per_word: usize, weights: &Weights<A>) -> f64 {
        let words = self.channels / per_word * A::Tap::default().as_ref().len();
        let width = self.size + 2;
        let step = A::Tap::default().as_ref().len() as u32;
        let row = |y: usize| Run {
            start: (y * width * words) as u32,
            length: 3 * words as u32 / step,
            step,
        };
        let starts: Vec<u32> = (0..self.size * self.size)
            .map(|at| ((at / self.size * width + at % self.size) * words) as u32)
            .collect();
        let input = vec![A::Word::default(); width * width * words];
        let strip = 240.min(starts.len());
        let mut sums = vec![A::Sum::default(); strip * weights.sums()];
        let products = 9 * self.channels * self.channels * starts.len();
        let mut best = f64::INFINITY;
        for _ in 0..15 {
            let start = Instant::now();
            for starts in starts.chunks(strip) {
                let runs = [row(0), row(1), row(2)];
                weights.multiply(&input, &runs, starts, (None, None), &mut sums, weights.sums());
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        products as f64 / best * 1e-9
    }
}

fn main() {
    let shapes = [(64, 56), (128, 28), (256, 14), (512, 7)];
    for set in InstructionSet::available() {
        println!("{}", set.name());
        for (channels, size) in shapes {
            let shape = Shape { channels, size };
            let taps = |per_word: usize| 9 * channels / per_word;
            let bytes = |_| |tap: usize| [1, -2, 3, tap as i8 & 3];
            let small = Weights::small_bytes(set, (channels, taps(4)), 3, bytes);
            println!(
                "  {channels:3} channels, {size} x {size}: floats {:6.1}, pairs {:6.1}, \
                 bytes {:6.1}, small bytes {:6.1}, signs {:6.1}, ternary {:6.1} products/ns",
                shape.measure(1, &Weights::floats(set, channels, taps(1), |_| |_| 1.0)),
                shape.measure(2, &Weights::pairs(set, channels, taps(2), |_| |_| [1, 2])),
                shape.measure(4, &Weights::bytes(set, channels, taps(4), bytes)),
                small.map_or(0.0, |small| shape.measure(4, &small)),
                shape.measure(32, &Weights::signs(set, channels, taps(32), |_| |_| 7)),
                shape.measure(32, &Weights::ternary(set, channels, taps(32), |_| |_| [7, 2])),
            );
        }
    }
}
