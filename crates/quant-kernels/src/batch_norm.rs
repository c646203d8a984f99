//! Batch normalisation in training mode (Ioffe and Szegedy 2015) over contiguous floats, with as
//! few passes over memory as the statistics allow.

use alloc::{vec, vec::Vec};

use libm::sqrtf;

use crate::{
    parallel,
    relu::{at_least, backward_of_row},
    simd::vectorize_narrow,
};

/// Number of partial sums, which the compiler keeps in vectors.
const LANES: usize = 64;

/// The sizes of a tensor of shape `[batch, channels, pixels]` that is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Number of images.
    pub batch: usize,
    /// Number of channels.
    pub channels: usize,
    /// Number of pixels per channel.
    pub pixels: usize,
}

/// The result of [`forward`].
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The values γ·(x - mean)/√(variance + ε) + β, after the epilogue.
    pub values: Vec<f32>,
    /// The mean of every channel.
    pub mean: Vec<f32>,
    /// The biased variance of every channel.
    pub variance: Vec<f32>,
}

/// The operations that follow a batch norm in the same pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Epilogue<'a> {
    /// A tensor of the same shape, which is added to the normalised values.
    pub residual: Option<&'a [f32]>,
    /// Whether a ReLU is applied last.
    pub relu: bool,
}

/// The values of the forward pass that [`backward`] needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forward<'a> {
    /// The input.
    pub x: &'a [f32],
    /// The scale γ of every channel.
    pub weight: &'a [f32],
    /// The mean of every channel, from [`Output::mean`].
    pub mean: &'a [f32],
    /// The biased variance of every channel, from [`Output::variance`].
    pub variance: &'a [f32],
    /// The constant ε that is added to the variance.
    pub epsilon: f32,
    /// The result [`Output::values`], if a ReLU was applied last.
    pub relu_output: Option<&'a [f32]>,
    /// Whether a residual was added.
    pub has_residual: bool,
}

/// The gradients that [`backward`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// The gradient of x, including the part through mean and variance. `None` if no residual was
    /// added, because it then replaces the gradient of the output.
    pub input: Option<Vec<f32>>,
    /// The gradient of γ.
    pub weight: Vec<f32>,
    /// The gradient of β.
    pub bias: Vec<f32>,
}

impl Shape {
    fn elements(&self) -> usize {
        self.batch * self.channels * self.pixels
    }

    /// Returns the rows of each channel, one per image.
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

    fn check(&self, values: &[f32], of_channels: [&[f32]; 2]) {
        assert!(self.elements() > 0, "sizes are not zero");
        assert_eq!(values.len(), self.elements(), "values");
        for values in of_channels {
            assert_eq!(values.len(), self.channels, "values of channels");
        }
    }
}

/// Normalises x by the mean and the biased variance of each channel, multiplies by γ = `weight`,
/// adds β = `bias`, and applies the epilogue.
///
/// # Panics
/// If a length does not fit the sizes, or a size is 0.
pub fn forward(
    shape: Shape,
    x: &[f32],
    (weight, bias): (&[f32], &[f32]),
    epsilon: f32,
    epilogue: Epilogue<'_>,
) -> Output {
    shape.check(x, [weight, bias]);
    epilogue.residual.inspect(|residual| shape.check(residual, [weight, bias]));
    let mut output = vec![0.0; x.len()];
    let count = (shape.batch * shape.pixels) as f64;
    let statistics = parallel::map(shape.rows_mut(&mut output), |channel, rows| {
        let of_rows = |f: &(dyn Fn(&[f32]) -> f64 + Sync)| -> f64 {
            (0..shape.batch).map(|image| f(shape.row(x, channel, image))).sum()
        };
        let mean = (of_rows(&|row| sum(row, |x| x)) / count) as f32;
        let square = |x: f32| (x - mean) * (x - mean);
        let variance = (of_rows(&|row| sum(row, square)) / count) as f32;
        let scale = weight[channel] / sqrtf(variance + epsilon);
        let shift = bias[channel];
        let lowest = if epilogue.relu { 0.0 } else { f32::NEG_INFINITY };
        for (image, out) in rows.into_iter().enumerate() {
            let row = shape.row(x, channel, image);
            let residual = epilogue.residual.map(|residual| shape.row(residual, channel, image));
            vectorize_narrow(
                #[inline(always)]
                || match residual {
                    None => {
                        for (out, x) in out.iter_mut().zip(row) {
                            *out = at_least((x - mean) * scale + shift, lowest);
                        }
                    }
                    Some(residual) => {
                        for ((out, x), residual) in out.iter_mut().zip(row).zip(residual) {
                            *out = at_least((x - mean) * scale + shift + residual, lowest);
                        }
                    }
                },
            );
        }
        (mean, variance)
    });
    let (mean, variance) = statistics.into_iter().unzip();
    Output { values: output, mean, variance }
}

/// Computes the gradients of [`forward`] from g, the gradient of its output. With x̂ = (x -
/// mean)/√(variance + ε) and m elements per channel, the gradient of β is Σg, that of γ is Σg·x̂,
/// and that of x is γ/√(variance + ε)·(g - Σg/m - x̂·Σg·x̂/m). After a ReLU, g is 0 where the
/// output is not above 0.
///
/// If a residual was added, `gradient` becomes the gradient of the residual; otherwise it becomes
/// the gradient of x.
///
/// # Panics
/// As [`forward`].
pub fn backward(shape: Shape, forward: &Forward<'_>, gradient: &mut [f32]) -> Gradients {
    let Forward { x, weight, mean, variance, epsilon, relu_output, has_residual } = *forward;
    shape.check(x, [weight, mean]);
    shape.check(gradient, [weight, variance]);
    relu_output.inspect(|output| shape.check(output, [weight, mean]));
    let mut input = vec![0.0; if has_residual { x.len() } else { 0 }];
    let mut input_rows = if has_residual {
        shape.rows_mut(&mut input)
    } else {
        (0..shape.channels).map(|_| Vec::new()).collect()
    };
    let count = (shape.batch * shape.pixels) as f64;
    let channels: Vec<_> = shape.rows_mut(gradient).into_iter().zip(&mut input_rows).collect();
    let sums = parallel::map(channels, |channel, (mut gradients, inputs)| {
        let (mean, inverse) = (mean[channel], 1.0 / sqrtf(variance[channel] + epsilon));
        let (mut bias, mut weighted) = (0.0, 0.0);
        for (image, g) in gradients.iter_mut().enumerate() {
            let x = shape.row(x, channel, image);
            if let Some(output) = relu_output {
                backward_of_row(shape.row(output, channel, image), g);
            }
            let (sum, product) = sums(x, g, mean);
            bias += sum;
            weighted += product;
        }
        let weighted = weighted * f64::from(inverse);
        let scale = weight[channel] * inverse;
        let (g_mean, x_mean) = ((bias / count) as f32, (weighted / count) as f32 * inverse);
        let by_x = |x: f32, g: f32| scale * ((g - g_mean) - (x - mean) * x_mean);
        for (image, g) in gradients.into_iter().enumerate() {
            let x = shape.row(x, channel, image);
            vectorize_narrow(
                #[inline(always)]
                || match inputs.get_mut(image) {
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
    Gradients { input: has_residual.then_some(input), weight, bias }
}

/// Returns Σ f(x), with partial sums within a row.
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

/// Returns Σ g and Σ g·(x - mean).
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

    /// Returns the loss L = Σ g·y, summed in 64 bits.
    fn loss(
        shape: Shape,
        (x, add): (&[f64], Option<&[f64]>),
        (weight, bias): (&[f64], &[f64]),
        g: &[f32],
        relu: bool,
    ) -> f64 {
        let place = |n: usize, c: usize, p: usize| (n * shape.channels + c) * shape.pixels + p;
        let count = (shape.batch * shape.pixels) as f64;
        let mut loss = 0.0;
        for c in 0..shape.channels {
            let places: Vec<usize> = (0..shape.batch)
                .flat_map(|n| (0..shape.pixels).map(move |p| place(n, c, p)))
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
            let shape = Shape { batch, channels, pixels };
            let seed = f64::from(seed);
            let (x, g) = (numbers(shape.elements(), seed), numbers(shape.elements(), 7.0 + seed));
            let add = numbers(shape.elements(), 9.0 + seed);
            let (weight, bias) = (numbers(channels, 3.0), numbers(channels, 4.0));
            let epilogue = Epilogue { residual: adds.then_some(add.as_slice()), relu };
            let y = forward(shape, &x, (&weight, &bias), 1e-5, epilogue);
            let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            let (xs, adds64, ws, bs) = (wide(&x), wide(&add), wide(&weight), wide(&bias));
            let loss = |x: &[f64], add: &[f64], w: &[f64], b: &[f64]| {
                loss(shape, (x, adds.then_some(add)), (w, b), &g, relu)
            };
            let value: f64 = y.values.iter().zip(&g).map(|(y, g)| f64::from(y * g)).sum();
            let scale = 1.0 + y.values.iter().map(|y| f64::from(y.abs())).sum::<f64>();
            prop_assert!((value - loss(&xs, &adds64, &ws, &bs)).abs() < 1e-4 * scale);

            let mut gradient = g.clone();
            let saved = Forward {
                x: &x,
                weight: &weight,
                mean: &y.mean,
                variance: &y.variance,
                epsilon: 1e-5,
                relu_output: relu.then_some(y.values.as_slice()),
                has_residual: adds,
            };
            let gradients = backward(shape, &saved, &mut gradient);
            // Where a ReLU changes its slope, the finite difference is not the derivative.
            let straight = Epilogue { relu: false, ..epilogue };
            let before_relu = forward(shape, &x, (&weight, &bias), 1e-5, straight).values;
            prop_assume!(!relu || before_relu.iter().all(|y| y.abs() >= 1e-3));
            let numeric = |values: &[f64], i: usize, f: &dyn Fn(&[f64]) -> f64| {
                let mut moved = values.to_vec();
                moved[i] = values[i] + 1e-5;
                let up = f(&moved);
                moved[i] = values[i] - 1e-5;
                (up - f(&moved)) / 2e-5
            };
            let steepness = |v: &f32| 1.0 / f64::from(v + 1e-5).sqrt();
            let steep = y.variance.iter().map(steepness).fold(1.0, f64::max);
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
            let close = |actual: f32, expected: f64| {
                (f64::from(actual) - expected).abs() < 1e-3 * (1.0 + expected.abs())
            };
            for c in 0..channels {
                let expected = numeric(&ws, c, &|w| loss(&xs, &adds64, w, &bs));
                prop_assert!(close(gradients.weight[c], expected));
                let expected = numeric(&bs, c, &|b| loss(&xs, &adds64, &ws, b));
                prop_assert!(close(gradients.bias[c], expected));
            }
        }
    }
}
