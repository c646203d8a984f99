//! Batch normalisation in training (Ioffe and Szegedy 2015), over contiguous floats: as many passes as statistics need.

use quant_simd::vectorized;
use rayon::prelude::*;

/// Sums are kept in this many lanes, which the compiler turns into vectors.
const LANES: usize = 16;

/// Sizes of a normalised tensor, `[batch, channels, pixels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Norm {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Pixels of a channel.
    pub pixels: usize,
}

/// Result of [`Norm::forward`].
#[derive(Debug, Clone, PartialEq)]
pub struct Normalized {
    /// γ·(x - mean)/√(variance + ε) + β.
    pub output: Vec<f32>,
    /// Mean of every channel.
    pub mean: Vec<f32>,
    /// Biased variance of every channel.
    pub variance: Vec<f32>,
}

/// Gradients of [`Norm::forward`].
#[derive(Debug, Clone, PartialEq)]
pub struct NormGradients {
    /// By x, mean and variance depending on it.
    pub input: Vec<f32>,
    /// By γ.
    pub weight: Vec<f32>,
    /// By β.
    pub bias: Vec<f32>,
}

impl Norm {
    fn elements(&self) -> usize {
        self.batch * self.channels * self.pixels
    }

    /// The rows of each channel, one for every image.
    fn rows_mut<'a>(&self, values: &'a mut [f32]) -> Vec<Vec<&'a mut [f32]>> {
        let mut channels: Vec<Vec<_>> =
            (0..self.channels).map(|_| Vec::with_capacity(self.batch)).collect();
        for (index, row) in values.chunks_exact_mut(self.pixels).enumerate() {
            channels[index % self.channels].push(row);
        }
        channels
    }

    fn row<'a>(&self, values: &'a [f32], channel: usize, image: usize) -> &'a [f32] {
        let start = (image * self.channels + channel) * self.pixels;
        &values[start..start + self.pixels]
    }

    /// Normalises x by the mean and biased variance of each channel, then scales by γ = `weight` and shifts by
    /// β = `bias`.
    ///
    /// # Panics
    /// If lengths are not those of the sizes, or a size is 0.
    pub fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) -> Normalized {
        self.check(x, [weight, bias]);
        let mut output = vec![0.0; x.len()];
        let count = (self.batch * self.pixels) as f64;
        let statistics: Vec<(f32, f32)> = self
            .rows_mut(&mut output)
            .into_par_iter()
            .enumerate()
            .map(|(channel, rows)| {
                let of_rows = |f: &(dyn Fn(&[f32]) -> f64 + Sync)| -> f64 {
                    (0..self.batch).map(|image| f(self.row(x, channel, image))).sum()
                };
                let mean = (of_rows(&|row| sum(row, |x| x)) / count) as f32;
                let square = |x: f32| (x - mean) * (x - mean);
                let variance = (of_rows(&|row| sum(row, square)) / count) as f32;
                let scale = weight[channel] / (variance + epsilon).sqrt();
                let shift = bias[channel];
                for (image, out) in rows.into_iter().enumerate() {
                    let row = self.row(x, channel, image);
                    vectorized(
                        #[inline(always)]
                        || {
                            for (out, x) in out.iter_mut().zip(row) {
                                *out = (x - mean) * scale + shift;
                            }
                        },
                    );
                }
                (mean, variance)
            })
            .collect();
        let (mean, variance) = statistics.into_iter().unzip();
        Normalized { output, mean, variance }
    }

    /// With x̂ = (x - mean)/√(variance + ε) and g the gradient of the output: by β Σg, by γ Σg·x̂, and by x
    /// γ/√(variance + ε)·(g - Σg/m - x̂·Σg·x̂/m) for m elements of a channel.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward(
        &self,
        (x, gradient): (&[f32], &[f32]),
        weight: &[f32],
        (mean, variance): (&[f32], &[f32]),
        epsilon: f32,
    ) -> NormGradients {
        self.check(x, [weight, mean]);
        self.check(gradient, [weight, variance]);
        let mut input = vec![0.0; x.len()];
        let count = (self.batch * self.pixels) as f64;
        let sums: Vec<(f32, f32)> = self
            .rows_mut(&mut input)
            .into_par_iter()
            .enumerate()
            .map(|(channel, rows)| {
                let (mean, inverse) = (mean[channel], 1.0 / (variance[channel] + epsilon).sqrt());
                let (mut bias, mut weighted) = (0.0, 0.0);
                for image in 0..self.batch {
                    let (x, g) = (self.row(x, channel, image), self.row(gradient, channel, image));
                    let (own, product) = sums(x, g, mean);
                    bias += own;
                    weighted += product;
                }
                let weighted = weighted * f64::from(inverse);
                let scale = weight[channel] * inverse;
                let (g_mean, x_mean) = ((bias / count) as f32, (weighted / count) as f32 * inverse);
                for (image, out) in rows.into_iter().enumerate() {
                    let (x, g) = (self.row(x, channel, image), self.row(gradient, channel, image));
                    vectorized(
                        #[inline(always)]
                        || {
                            for ((out, x), g) in out.iter_mut().zip(x).zip(g) {
                                *out = scale * ((g - g_mean) - (x - mean) * x_mean);
                            }
                        },
                    );
                }
                (weighted as f32, bias as f32)
            })
            .collect();
        let (weight, bias) = sums.into_iter().unzip();
        NormGradients { input, weight, bias }
    }

    fn check(&self, values: &[f32], of_channels: [&[f32]; 2]) {
        assert!(self.elements() > 0, "sizes are not zero");
        assert_eq!(values.len(), self.elements(), "values");
        for values in of_channels {
            assert_eq!(values.len(), self.channels, "values of channels");
        }
    }
}

/// Σ f(x), in lanes within a row.
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let mut lanes = [0f32; LANES];
            let (whole, rest) = row.as_chunks::<LANES>();
            for values in whole {
                for lane in 0..LANES {
                    lanes[lane] += f(values[lane]);
                }
            }
            let rest: f32 = rest.iter().map(|x| f(*x)).sum();
            lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>() + f64::from(rest)
        },
    )
}

/// Σ g and Σ g·(x - mean).
fn sums(x: &[f32], g: &[f32], mean: f32) -> (f64, f64) {
    vectorized(
        #[inline(always)]
        || {
            let (mut own, mut product) = ([0f32; LANES], [0f32; LANES]);
            let ((x, x_rest), (g, g_rest)) = (x.as_chunks::<LANES>(), g.as_chunks::<LANES>());
            for (x, g) in x.iter().zip(g) {
                for lane in 0..LANES {
                    own[lane] += g[lane];
                    product[lane] += g[lane] * (x[lane] - mean);
                }
            }
            let total =
                |lanes: [f32; LANES]| lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
            let (mut own, mut product) = (total(own), total(product));
            for (x, g) in x_rest.iter().zip(g_rest) {
                own += f64::from(*g);
                product += f64::from(*g * (x - mean));
            }
            (own, product)
        },
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(count: usize, seed: f64) -> Vec<f32> {
        (0..count).map(|i| ((i as f64 * 0.73 + seed).sin() * 2.0 + 0.5) as f32).collect()
    }

    /// L = Σ g·y in 64 bits.
    fn loss(norm: &Norm, x: &[f64], weight: &[f64], bias: &[f64], g: &[f32]) -> f64 {
        let place = |n: usize, c: usize, p: usize| (n * norm.channels + c) * norm.pixels + p;
        let count = (norm.batch * norm.pixels) as f64;
        let mut loss = 0.0;
        for c in 0..norm.channels {
            let places: Vec<usize> = (0..norm.batch)
                .flat_map(|n| (0..norm.pixels).map(move |p| place(n, c, p)))
                .collect();
            let mean = places.iter().map(|i| x[*i]).sum::<f64>() / count;
            let variance = places.iter().map(|i| (x[*i] - mean).powi(2)).sum::<f64>() / count;
            for i in places {
                let y = weight[c] * (x[i] - mean) / (variance + 1e-5).sqrt() + bias[c];
                loss += f64::from(g[i]) * y;
            }
        }
        loss
    }

    proptest! {
        #[test]
        fn gradients_are_those_of_the_definition(
            batch in 2..5usize, channels in 1..4usize, pixels in 1..40usize, seed in 0..100u32,
        ) {
            let norm = Norm { batch, channels, pixels };
            let x = numbers(norm.elements(), f64::from(seed));
            let g = numbers(norm.elements(), 7.0 + f64::from(seed));
            let (weight, bias) = (numbers(channels, 3.0), numbers(channels, 4.0));
            let y = norm.forward(&x, &weight, &bias, 1e-5);
            let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            let (xs, ws, bs) = (wide(&x), wide(&weight), wide(&bias));
            let value: f64 = y.output.iter().zip(&g).map(|(y, g)| f64::from(y * g)).sum();
            let scale = 1.0 + y.output.iter().map(|y| f64::from(y.abs())).sum::<f64>();
            prop_assert!((value - loss(&norm, &xs, &ws, &bs, &g)).abs() < 1e-4 * scale);

            let gradients = norm.backward((&x, &g), &weight, (&y.mean, &y.variance), 1e-5);
            let numeric = |values: &[f64], i: usize, f: &dyn Fn(&[f64]) -> f64| {
                let mut moved = values.to_vec();
                moved[i] = values[i] + 1e-5;
                let up = f(&moved);
                moved[i] = values[i] - 1e-5;
                (up - f(&moved)) / 2e-5
            };
            let steep = y.variance.iter().map(|v| 1.0 / f64::from(v + 1e-5).sqrt()).fold(1.0, f64::max);
            for i in [0, x.len() / 2, x.len() - 1] {
                let expected = numeric(&xs, i, &|x| loss(&norm, x, &ws, &bs, &g));
                let off = (f64::from(gradients.input[i]) - expected).abs();
                prop_assert!(off < 1e-3 * steep, "{} is not {expected}", gradients.input[i]);
            }
            for c in 0..channels {
                let expected = numeric(&ws, c, &|w| loss(&norm, &xs, w, &bs, &g));
                prop_assert!((f64::from(gradients.weight[c]) - expected).abs() < 1e-3 * (1.0 + expected.abs()));
                let expected = numeric(&bs, c, &|b| loss(&norm, &xs, &ws, b, &g));
                prop_assert!((f64::from(gradients.bias[c]) - expected).abs() < 1e-3 * (1.0 + expected.abs()));
            }
        }
    }
}
