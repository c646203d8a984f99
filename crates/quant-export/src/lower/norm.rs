//! Normalisations in evaluation.

use burn::{module::Param, nn::BatchNorm, tensor::Tensor};
use quant_infer::model::Op;
use quant_nn::layers::norm::Norm;

/// Added to variances.
const EPSILON: f32 = 1e-5;

/// Returns the numbers of a parameter.
pub(super) fn host(param: &Param<Tensor<1>>) -> Vec<f32> {
    numbers(param.val())
}

fn numbers(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// Returns what a normalisation computes, in order.
pub(super) fn ops(norm: &Norm) -> Vec<Op> {
    match norm {
        Norm::Batch(norm) => {
            let statistics =
                (numbers(norm.running_mean.value_sync()), numbers(norm.running_var.value_sync()));
            let (weight, bias) = (host(&norm.weight), host(&norm.bias));
            if !norm.reverse {
                return vec![by_statistics(statistics, (weight, bias), EPSILON)];
            }
            let plain = (vec![1.0; weight.len()], vec![0.0; weight.len()]);
            vec![
                Op::Affine { scale: weight, shift: bias },
                by_statistics(statistics, plain, EPSILON),
            ]
        }
        Norm::Static(norm) => {
            let statistics =
                (numbers(norm.running_mean.value_sync()), numbers(norm.running_var.value_sync()));
            vec![by_statistics(statistics, (host(&norm.weight), host(&norm.bias)), EPSILON)]
        }
        Norm::Group(norm) => vec![
            Op::GroupNorm(norm.groups()),
            Op::Affine { scale: host(&norm.weight), shift: host(&norm.bias) },
        ],
    }
}

/// Returns what a batch norm of Burn computes in evaluation.
pub(super) fn burn_op(norm: &BatchNorm) -> Op {
    let statistics =
        (numbers(norm.running_mean.value_sync()), numbers(norm.running_var.value_sync()));
    by_statistics(statistics, (host(&norm.gamma), host(&norm.beta)), norm.epsilon as f32)
}

/// (x - mean)/sqrt(variance + eps)·weight + bias as one multiplication and one addition: the
/// factors as evaluation computes them, each operation rounded to 32 bits.
fn by_statistics(
    (mean, variance): (Vec<f32>, Vec<f32>),
    (weight, bias): (Vec<f32>, Vec<f32>),
    epsilon: f32,
) -> Op {
    let scale: Vec<f32> =
        weight.iter().zip(&variance).map(|(weight, v)| weight / (v + epsilon).sqrt()).collect();
    let shift = (bias.iter().zip(&mean).zip(&scale))
        .map(|((bias, mean), scale)| bias - mean * scale)
        .collect();
    Op::Affine { scale, shift }
}
