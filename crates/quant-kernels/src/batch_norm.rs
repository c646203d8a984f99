//! Batch normalisation in training (Ioffe and Szegedy 2015), over contiguous floats: as many passes as statistics need.

use alloc::{vec, vec::Vec};

use libm::sqrtf;

use crate::{
    parallel,
    simd::{stored, vectorize_narrow},
};

/// Sums are kept in this many lanes, which the compiler turns into vectors.
const LANES: usize = 64;

/// Elements of one task.
const CHUNK: usize = 1 << 14;

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

/// What is done to a normalised tensor in the same pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct After<'a> {
    /// What is added, of the same shape.
    pub add: Option<&'a [f32]>,
    /// Whether a ReLU comes last.
    pub relu: bool,
}

/// Gradients of [`Norm::forward`].
#[derive(Debug, Clone, PartialEq)]
pub struct NormGradients {
    /// By x, mean and variance depending on it; if it is not where the output's gradient was.
    pub input: Option<Vec<f32>>,
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

    /// Normalises x by the mean and biased variance of each channel, then scales by γ = `weight`, shifts by β = `bias`, and
    /// does what comes [`After`].
    ///
    /// # Panics
    /// If lengths are not those of the sizes, or a size is 0.
    pub fn forward(
        &self,
        x: &[f32],
        (weight, bias): (&[f32], &[f32]),
        epsilon: f32,
        after: After<'_>,
    ) -> Normalized {
        self.check(x, [weight, bias]);
        after.add.inspect(|add| self.check(add, [weight, bias]));
        let mut output = vec![0.0; x.len()];
        let count = (self.batch * self.pixels) as f64;
        let statistics = parallel::map(self.rows_mut(&mut output), |channel, rows| {
            let of_rows = |f: &(dyn Fn(&[f32]) -> f64 + Sync)| -> f64 {
                (0..self.batch).map(|image| f(self.row(x, channel, image))).sum()
            };
            let mean = (of_rows(&|row| sum(row, |x| x)) / count) as f32;
            let square = |x: f32| (x - mean) * (x - mean);
            let variance = (of_rows(&|row| sum(row, square)) / count) as f32;
            let scale = weight[channel] / sqrtf(variance + epsilon);
            let shift = bias[channel];
            let lowest = if after.relu { 0.0 } else { f32::NEG_INFINITY };
            for (image, out) in rows.into_iter().enumerate() {
                let row = self.row(x, channel, image);
                let add = after.add.map(|add| self.row(add, channel, image));
                vectorize_narrow(
                    #[inline(always)]
                    || match add {
                        None => {
                            for (out, x) in out.iter_mut().zip(row) {
                                *out = at_least((x - mean) * scale + shift, lowest);
                            }
                        }
                        Some(add) => {
                            for ((out, x), add) in out.iter_mut().zip(row).zip(add) {
                                *out = at_least((x - mean) * scale + shift + add, lowest);
                            }
                        }
                    },
                );
            }
            (mean, variance)
        });
        let (mean, variance) = statistics.into_iter().unzip();
        Normalized { output, mean, variance }
    }

    /// With x̂ = (x - mean)/√(variance + ε) and g the gradient of the output: by β Σg, by γ Σg·x̂, and by x
    /// γ/√(variance + ε)·(g - Σg/m - x̂·Σg·x̂/m) for m elements of a channel.
    ///
    /// `rectified` is the output where a ReLU came after: g becomes 0 where it is not above 0. If something was added,
    /// g stays in `gradient`, as the gradient of that; else `gradient` becomes that of x.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward(
        &self,
        x: &[f32],
        gradient: &mut [f32],
        (weight, mean, variance): (&[f32], &[f32], &[f32]),
        epsilon: f32,
        (rectified, added): (Option<&[f32]>, bool),
    ) -> NormGradients {
        self.check(x, [weight, mean]);
        self.check(gradient, [weight, variance]);
        rectified.inspect(|output| self.check(output, [weight, mean]));
        let mut input = vec![0.0; if added { x.len() } else { 0 }];
        let mut own = match added {
            true => self.rows_mut(&mut input),
            false => (0..self.channels).map(|_| Vec::new()).collect(),
        };
        let count = (self.batch * self.pixels) as f64;
        let channels: Vec<_> = self.rows_mut(gradient).into_iter().zip(&mut own).collect();
        let sums = parallel::map(channels, |channel, (mut gradients, own)| {
            let (mean, inverse) = (mean[channel], 1.0 / sqrtf(variance[channel] + epsilon));
            let (mut bias, mut weighted) = (0.0, 0.0);
            for (image, g) in gradients.iter_mut().enumerate() {
                let x = self.row(x, channel, image);
                if let Some(output) = rectified {
                    rectify_gradient(self.row(output, channel, image), g);
                }
                let (own, product) = sums(x, g, mean);
                bias += own;
                weighted += product;
            }
            let weighted = weighted * f64::from(inverse);
            let scale = weight[channel] * inverse;
            let (g_mean, x_mean) = ((bias / count) as f32, (weighted / count) as f32 * inverse);
            let by_x = |x: f32, g: f32| scale * ((g - g_mean) - (x - mean) * x_mean);
            for (image, g) in gradients.into_iter().enumerate() {
                let x = self.row(x, channel, image);
                vectorize_narrow(
                    #[inline(always)]
                    || match own.get_mut(image) {
                        None => g.iter_mut().zip(x).for_each(|(g, x)| *g = by_x(*x, *g)),
                        Some(out) => {
                            for ((out, x), g) in out.iter_mut().zip(x).zip(g) {
                                *out = by_x(*x, *g);
                            }
                        }
                    },
                );
            }
            (weighted as f32, bias as f32)
        });
        let (weight, bias) = sums.into_iter().unzip();
        NormGradients { input: added.then_some(input), weight, bias }
    }

    fn check(&self, values: &[f32], of_channels: [&[f32]; 2]) {
        assert!(self.elements() > 0, "sizes are not zero");
        assert_eq!(values.len(), self.elements(), "values");
        for values in of_channels {
            assert_eq!(values.len(), self.channels, "values of channels");
        }
    }
}

/// The larger of both; x where it is not a number.
#[inline(always)]
fn at_least(x: f32, lowest: f32) -> f32 {
    if x < lowest { lowest } else { x }
}

/// max(x, 0), in place; what is not a number stays that.
pub fn rectify(values: &mut [f32]) {
    parallel::for_each_chunk_mut(
        values,
        CHUNK,
        || (),
        |(), _, chunk| {
            vectorize_narrow(
                #[inline(always)]
                || chunk.iter_mut().for_each(|x| *x = stored(at_least(*x, 0.0))),
            );
        },
    );
}

/// 0 where the output of [`rectify`] is not above 0.
pub fn rectify_gradients(output: &[f32], gradient: &mut [f32]) {
    assert_eq!(gradient.len(), output.len(), "every output has a gradient");
    parallel::for_each_chunk_mut(
        gradient,
        CHUNK,
        || (),
        |(), index, gradient| {
            rectify_gradient(&output[index * CHUNK..][..gradient.len()], gradient);
        },
    );
}

fn rectify_gradient(output: &[f32], gradient: &mut [f32]) {
    vectorize_narrow(
        #[inline(always)]
        || {
            for (g, y) in gradient.iter_mut().zip(output) {
                *g = stored(if *y > 0.0 { *g } else { 0.0 });
            }
        },
    );
}

/// Σ f(x), in lanes within a row.
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    vectorize_narrow(
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
    vectorize_narrow(
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
    fn loss(
        norm: &Norm,
        (x, add): (&[f64], Option<&[f64]>),
        (weight, bias): (&[f64], &[f64]),
        g: &[f32],
        relu: bool,
    ) -> f64 {
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
                let y = y + add.map_or(0.0, |add| add[i]);
                loss += f64::from(g[i]) * if relu { y.max(0.0) } else { y };
            }
        }
        loss
    }

    proptest! {
        #[test]
        fn gradients_are_those_of_the_definition(
            batch in 2..5usize, channels in 1..4usize, pixels in 1..40usize, seed in 0..100u32,
            adds: bool, relu: bool,
        ) {
            let norm = Norm { batch, channels, pixels };
            let seed = f64::from(seed);
            let (x, g) = (numbers(norm.elements(), seed), numbers(norm.elements(), 7.0 + seed));
            let add = numbers(norm.elements(), 9.0 + seed);
            let (weight, bias) = (numbers(channels, 3.0), numbers(channels, 4.0));
            let after = After { add: adds.then_some(add.as_slice()), relu };
            let y = norm.forward(&x, (&weight, &bias), 1e-5, after);
            let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            let (xs, adds64, ws, bs) = (wide(&x), wide(&add), wide(&weight), wide(&bias));
            let loss = |x: &[f64], add: &[f64], w: &[f64], b: &[f64]| {
                loss(&norm, (x, adds.then_some(add)), (w, b), &g, relu)
            };
            let value: f64 = y.output.iter().zip(&g).map(|(y, g)| f64::from(y * g)).sum();
            let scale = 1.0 + y.output.iter().map(|y| f64::from(y.abs())).sum::<f64>();
            prop_assert!((value - loss(&xs, &adds64, &ws, &bs)).abs() < 1e-4 * scale);

            let mut gradient = g.clone();
            let gradients = norm.backward(
                &x, &mut gradient, (&weight, &y.mean, &y.variance), 1e-5,
                (relu.then_some(y.output.as_slice()), adds),
            );
            // Where a ReLU bends, the difference is not its derivative.
            let bend = y.output.iter().any(|y| *y > 0.0 && *y < 1e-3);
            prop_assume!(!relu || !bend);
            let numeric = |values: &[f64], i: usize, f: &dyn Fn(&[f64]) -> f64| {
                let mut moved = values.to_vec();
                moved[i] = values[i] + 1e-5;
                let up = f(&moved);
                moved[i] = values[i] - 1e-5;
                (up - f(&moved)) / 2e-5
            };
            let steep = y.variance.iter().map(|v| 1.0 / f64::from(v + 1e-5).sqrt()).fold(1.0, f64::max);
            for i in [0, x.len() / 2, x.len() - 1] {
                let expected = numeric(&xs, i, &|x| loss(x, &adds64, &ws, &bs));
                let input = gradients.input.as_ref().unwrap_or(&gradient);
                let off = (f64::from(input[i]) - expected).abs();
                prop_assert!(off < 1e-3 * steep, "{} is not {expected}", input[i]);
                if adds {
                    let expected = numeric(&adds64, i, &|add| loss(&xs, add, &ws, &bs));
                    prop_assert!((f64::from(gradient[i]) - expected).abs() < 1e-3);
                }
            }
            for c in 0..channels {
                let expected = numeric(&ws, c, &|w| loss(&xs, &adds64, w, &bs));
                prop_assert!((f64::from(gradients.weight[c]) - expected).abs() < 1e-3 * (1.0 + expected.abs()));
                let expected = numeric(&bs, c, &|b| loss(&xs, &adds64, &ws, b));
                prop_assert!((f64::from(gradients.bias[c]) - expected).abs() < 1e-3 * (1.0 + expected.abs()));
            }
        }
    }
}
