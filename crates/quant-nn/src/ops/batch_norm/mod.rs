//! Batch norms with the addition and the ReLU that follow them, in one operation.

#![expect(clippy::type_complexity, reason = "the macro of backends reads the tuples")]

#[cfg(feature = "cube")]
use burn::backend::fusion::custom::TensorSpec;
use burn::{
    backend::{
        AutodiffBackend, Backend, Dispatch, DispatchDevice,
        autodiff::{
            Autodiff,
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{DType, FloatDType, Tensor},
};

use super::output::{BatchNormOutput, NormCall, NormResult};

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;

/// The options of a batch norm, with the operations that follow it in the same pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchNormOptions {
    /// The number that is added to the variance.
    pub(crate) epsilon: f32,
    /// Whether a residual is added.
    pub(crate) has_residual: bool,
    /// Whether a ReLU is applied at the end.
    pub(crate) relu: bool,
    /// Whether running values are continued.
    pub(crate) tracks: bool,
    /// The weight of this batch in the running values.
    pub(crate) momentum: f64,
    /// The type of the output.
    pub(crate) output: FloatDType,
}

/// Batch norms, on the backends that have them. The prefix distinguishes them from operations of
/// Burn with the same names.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Autodiff,
    Fusion: cfg(feature = "cube"),
)]
pub(crate) trait BatchNormOps: Backend {
    /// Returns output, mean and variance, and the next running mean and running variance. Mean and
    /// variance are 32-bit floats. `residual` is any tensor if none is added. If no running values
    /// are continued, those that are given are any tensors, and so are those that are returned.
    #[fusion(meta = |x, weight, _bias, _residual, _mean, _variance, options| {
        let of_channels = |dtype| TensorSpec::new(weight.shape.clone(), dtype);
        let running = if options.tracks { weight.dtype } else { DType::F32 };
        (
            TensorSpec::new(x.shape.clone(), options.output.into()),
            of_channels(DType::F32),
            of_channels(DType::F32),
            of_channels(running),
            of_channels(running),
        )
    })]
    fn training_batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        running_mean: FloatTensor<Self>,
        running_variance: FloatTensor<Self>,
        options: BatchNormOptions,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );

    /// Returns the gradients by x, weight, bias and residual. `y` is the output, or any tensor if
    /// there was no ReLU. If no residual was added, the last gradient is any tensor.
    #[fusion(meta = |x, weight, _mean, _variance, _y, gradient, _options| {
        (x.clone(), weight.clone(), weight.clone(), gradient.clone())
    })]
    fn training_batch_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: BatchNormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Returns whether the batch norm of this crate supports these tensors: on the CPU, 32-bit floats;
/// on GPUs, floats of up to 32 bits, where x, the output and the scale may be of several types.
pub(super) fn takes(x: &Tensor<4>, weight: &Tensor<1>, bias: &Tensor<1>, call: &NormCall) -> bool {
    let output = DType::from(call.output);
    let as_output = |add: &Tensor<4>| add.dtype() == output && add.shape() == x.shape();
    let as_weight = |value: &Tensor<1>| value.dtype() == weight.dtype();
    let fits = call.residual.as_ref().is_none_or(as_output)
        && as_weight(bias)
        && call.running.iter().flatten().all(as_weight);
    let known =
        |takes: fn(DType) -> bool| [x.dtype(), weight.dtype(), output].into_iter().all(takes);
    let supported = match x.device().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => known(|dtype| dtype == DType::F32),
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => {
            known(|dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16))
        }
        _ => false,
    };
    supported && fits && x.shape().num_elements() > 0
}

/// Computes a batch norm on the backends that have one. [`takes`] says whether it does.
pub(super) fn batch_norm(
    x: Tensor<4>,
    (weight, bias): (Tensor<1>, Tensor<1>),
    call: NormCall,
) -> NormResult {
    let NormCall { epsilon, residual, relu, running, momentum, output } = call;
    let (has_residual, tracks, dtype) = (residual.is_some(), running.is_some(), weight.dtype());
    let epsilon = epsilon as f32;
    let options = BatchNormOptions { epsilon, has_residual, relu, tracks, momentum, output };
    let residual = residual.unwrap_or_else(|| x.clone());
    let [old_mean, old_variance] = running.unwrap_or_else(|| [weight.clone(), weight.clone()]);
    let (output, mean, variance, next_mean, next_variance) =
        <Dispatch as BatchNormOps>::training_batch_norm(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            residual.into_dispatch(),
            old_mean.into_dispatch(),
            old_variance.into_dispatch(),
            options,
        );
    let of_channels = |tensor| Tensor::<1>::from_dispatch(tensor);
    let batch = BatchNormOutput {
        output: Tensor::from_dispatch(output),
        mean: of_channels(mean).cast(dtype),
        variance: of_channels(variance).cast(dtype),
    };
    let running = tracks.then(|| [next_mean, next_variance].map(of_channels));
    NormResult { batch, running }
}

#[derive(Debug)]
struct BatchNormBackward;

impl<B: Backend + BatchNormOps> Backward<B, 4> for BatchNormBackward {
    /// x, weight, mean, variance and output. The output is any tensor if it is not needed.
    type State = ([FloatTensor<B>; 5], BatchNormOptions);

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let ([x, weight, mean, variance, y], options) = ops.state;
        let (x, weight, bias, residual) =
            B::training_batch_norm_backward(x, weight, mean, variance, y, gradient, options);
        let [x_node, weight_node, bias_node, residual_node] = ops.parents;
        let residual = options.has_residual.then_some(residual);
        let gradients = [Some(x), Some(weight), Some(bias), residual];
        for (node, gradient) in
            [x_node, weight_node, bias_node, residual_node].into_iter().zip(gradients)
        {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + BatchNormOps, C: CheckpointStrategy> BatchNormOps for Autodiff<B, C> {
    fn training_batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        running_mean: FloatTensor<Self>,
        running_variance: FloatTensor<Self>,
        options: BatchNormOptions,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let nodes = [x.node(), weight.node(), bias.node(), residual.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let (bias, residual) = (bias.into_primitive(), residual.into_primitive());
        let (y, mean, variance, next_mean, next_variance) = B::training_batch_norm(
            x.clone(),
            weight.clone(),
            bias,
            residual,
            running_mean.into_primitive(),
            running_variance.into_primitive(),
            options,
        );
        let y = match BatchNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = if options.relu { y.clone() } else { weight.clone() };
                let state = [x, weight, mean.clone(), variance.clone(), output];
                prepared.finish((state, options), y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        };
        let constant = |tensor| Self::from_inner(tensor);
        (y, constant(mean), constant(variance), constant(next_mean), constant(next_variance))
    }

    fn training_batch_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: BatchNormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, weight, bias, residual) = B::training_batch_norm_backward(
            x.into_primitive(),
            weight.into_primitive(),
            mean.into_primitive(),
            variance.into_primitive(),
            y.into_primitive(),
            gradient.into_primitive(),
            options,
        );
        let constant = |tensor| Self::from_inner(tensor);
        (constant(x), constant(weight), constant(bias), constant(residual))
    }
}
