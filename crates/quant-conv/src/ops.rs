//! The operations on Burn's tensors.

use burn::tensor::{
    Tensor,
    module::{batch_norm_train, conv2d as burns_conv2d},
    ops::ConvOptions,
};

/// The convolution of x, `[batch, inputs, height, width]`, with `weight`, `[outputs, inputs / groups, kernel height,
/// kernel width]`, as [`forward`](crate::forward) has it. Differentiable in both.
///
/// On the CPU backend, for 32-bit floats and equal strides, padding and dilation in both directions, the passes are this
/// crate's; otherwise Burn's own.
///
/// # Panics
/// Where Burn's own does: for sizes that do not fit together.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(geometry) = flex::geometry(&x, &weight, &options) {
        return flex::conv2d(x, weight, geometry);
    }
    burns_conv2d(x, weight, None, options)
}

/// Result of [`batch_norm`].
#[derive(Debug, Clone)]
pub struct BatchNormOutput {
    /// Normalised, scaled and shifted: `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// Mean of the batch, `[channels]`, without a gradient.
    pub mean: Tensor<1>,
    /// Biased variance of the batch, `[channels]`, without a gradient.
    pub variance: Tensor<1>,
}

/// γ·(x - mean)/√(variance + ε) + β by the mean and biased variance of each channel of x, `[batch, channels, height,
/// width]`; γ = `weight` and β = `bias` are `[channels]`. Differentiable in all three.
///
/// On the CPU backend, for 32-bit floats, in the passes of [`Norm`](crate::Norm); otherwise Burn's own.
///
/// # Panics
/// For γ and β of other lengths.
pub fn batch_norm(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> BatchNormOutput {
    #[cfg(feature = "flex")]
    if flex::normalizes(&x, &weight, &bias) {
        return flex::batch_norm(x, weight, bias, epsilon);
    }
    let burns = batch_norm_train(x, weight, bias, epsilon);
    BatchNormOutput { output: burns.output, mean: burns.mean, variance: burns.variance }
}

#[cfg(feature = "flex")]
mod flex {
    use burn::{
        backend::{
            AutodiffBackend, Backend, Dispatch, Flex, TensorMetadata,
            autodiff::{
                Autodiff,
                checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
                grads::Gradients,
                ops::{Backward, Ops, OpsKind},
            },
            backend_extension,
            tensor::FloatTensor,
        },
        tensor::{DType, Device, Shape, Tensor, TensorData, ops::ConvOptions},
    };
    use burn_flex::FlexTensor;

    use super::BatchNormOutput;
    use crate::{Geometry, GeometryError, Norm, passes};

    /// The passes, on the backend that has them.
    #[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
    pub(super) trait TrainingOps: Backend {
        fn convolve(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            geometry: Geometry,
        ) -> FloatTensor<Self>;

        fn input_gradient(
            weight: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            geometry: Geometry,
        ) -> FloatTensor<Self>;

        fn weight_gradient(
            x: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            geometry: Geometry,
        ) -> FloatTensor<Self>;

        fn normalize(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            epsilon: f32,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

        fn normalize_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            mean: FloatTensor<Self>,
            variance: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            epsilon: f32,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    }

    pub(super) fn normalizes(x: &Tensor<4>, weight: &Tensor<1>, bias: &Tensor<1>) -> bool {
        let floats = [x.dtype(), weight.dtype(), bias.dtype()] == [DType::F32; 3];
        floats && x.shape().num_elements() > 0 && x.device().without_autodiff() == Device::flex()
    }

    pub(super) fn batch_norm(
        x: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        epsilon: f64,
    ) -> BatchNormOutput {
        let tracked = [x.device(), weight.device(), bias.device()].iter().any(Device::is_autodiff);
        let (x, weight, bias) = (lift(x, tracked), lift(weight, tracked), lift(bias, tracked));
        let (output, mean, variance) = <Dispatch as TrainingOps>::normalize(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            epsilon as f32,
        );
        BatchNormOutput {
            output: Tensor::from_dispatch(output),
            mean: Tensor::from_dispatch(mean),
            variance: Tensor::from_dispatch(variance),
        }
    }

    /// A constant of either kind goes with a tracked tensor of the other.
    fn lift<const D: usize>(x: Tensor<D>, tracked: bool) -> Tensor<D> {
        match tracked && !x.device().is_autodiff() {
            true => Tensor::from_inner(x),
            false => x,
        }
    }

    /// The convolution, if these passes are for it.
    pub(super) fn geometry(
        x: &Tensor<4>,
        weight: &Tensor<4>,
        options: &ConvOptions<2>,
    ) -> Option<Geometry> {
        let [batch, inputs, height, width] = x.dims();
        let [outputs, group_inputs, kernel_height, kernel_width] = weight.dims();
        let [stride, dilation] = [options.stride, options.dilation];
        let padding = options.padding[0].0;
        let geometry = Geometry {
            batch,
            inputs,
            outputs,
            size: [height, width],
            kernel: [kernel_height, kernel_width],
            stride: stride[0],
            padding,
            dilation: dilation[0],
            groups: options.groups,
        };
        let even = stride[0] == stride[1]
            && dilation[0] == dilation[1]
            && options.padding == [(padding, padding); 2];
        let here = x.device().without_autodiff() == Device::flex();
        let floats = x.dtype() == DType::F32 && weight.dtype() == DType::F32;
        let fits = geometry.validate().is_ok() && group_inputs == geometry.group_inputs();
        (even && here && floats && fits && geometry.is_for_these_passes()).then_some(geometry)
    }

    pub(super) fn conv2d(x: Tensor<4>, weight: Tensor<4>, geometry: Geometry) -> Tensor<4> {
        let tracked = x.device().is_autodiff() || weight.device().is_autodiff();
        let (x, weight) = (lift(x, tracked), lift(weight, tracked));
        Tensor::from_dispatch(<Dispatch as TrainingOps>::convolve(
            x.into_dispatch(),
            weight.into_dispatch(),
            geometry,
        ))
    }

    impl TrainingOps for Flex {
        fn convolve(x: FlexTensor, weight: FlexTensor, geometry: Geometry) -> FlexTensor {
            let [height, width] = geometry.output_size();
            let shape = [geometry.batch, geometry.outputs, height, width];
            by(passes::forward, x, weight, geometry, shape)
        }

        fn input_gradient(
            weight: FlexTensor,
            gradient: FlexTensor,
            geometry: Geometry,
        ) -> FlexTensor {
            let [height, width] = geometry.size;
            let shape = [geometry.batch, geometry.inputs, height, width];
            by(passes::input_gradient, weight, gradient, geometry, shape)
        }

        fn weight_gradient(x: FlexTensor, gradient: FlexTensor, geometry: Geometry) -> FlexTensor {
            let [height, width] = geometry.kernel;
            let shape = [geometry.outputs, geometry.group_inputs(), height, width];
            by(passes::weight_gradient, x, gradient, geometry, shape)
        }

        fn normalize(
            x: FlexTensor,
            weight: FlexTensor,
            bias: FlexTensor,
            epsilon: f32,
        ) -> (FlexTensor, FlexTensor, FlexTensor) {
            let (norm, shape) = norm(&x);
            let (x, weight, bias) =
                (x.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
            let result = norm.forward(x.storage(), weight.storage(), bias.storage(), epsilon);
            let of_channels = |values| tensor(values, [norm.channels]);
            (tensor(result.output, shape), of_channels(result.mean), of_channels(result.variance))
        }

        fn normalize_backward(
            x: FlexTensor,
            weight: FlexTensor,
            mean: FlexTensor,
            variance: FlexTensor,
            gradient: FlexTensor,
            epsilon: f32,
        ) -> (FlexTensor, FlexTensor, FlexTensor) {
            let (norm, shape) = norm(&x);
            let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
            let weight = weight.to_contiguous();
            let result = norm.backward(
                (x.storage(), gradient.storage()),
                weight.storage(),
                (mean.storage(), variance.storage()),
                epsilon,
            );
            let of_channels = |values| tensor(values, [norm.channels]);
            (tensor(result.input, shape), of_channels(result.weight), of_channels(result.bias))
        }
    }

    type Pass = fn(&[f32], &[f32], &Geometry) -> Result<Vec<f32>, GeometryError>;

    fn by(
        pass: Pass,
        a: FlexTensor,
        b: FlexTensor,
        geometry: Geometry,
        shape: [usize; 4],
    ) -> FlexTensor {
        let (a, b) = (a.to_contiguous(), b.to_contiguous());
        let values = pass(a.storage::<f32>(), b.storage::<f32>(), &geometry);
        let values = values.expect("the geometry was made from these tensors");
        tensor(values, shape)
    }

    fn norm(x: &FlexTensor) -> (Norm, Shape) {
        let shape = x.shape();
        let norm = Norm { batch: shape[0], channels: shape[1], pixels: shape[2] * shape[3] };
        (norm, shape)
    }

    fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(values, shape))
    }

    #[derive(Debug)]
    struct NormalizeBackward;

    impl<B: Backend + TrainingOps> Backward<B, 3> for NormalizeBackward {
        /// x, weight, mean, variance and epsilon.
        type State = ([FloatTensor<B>; 4], f32);

        fn backward(
            self,
            ops: Ops<Self::State, 3>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let gradient = grads.consume::<B>(&ops.node);
            let ([x, weight, mean, variance], epsilon) = ops.state;
            let (x, weight, bias) =
                B::normalize_backward(x, weight, mean, variance, gradient, epsilon);
            for (node, gradient) in ops.parents.into_iter().zip([x, weight, bias]) {
                if let Some(node) = node {
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
    }

    #[derive(Debug)]
    struct ConvolveBackward;

    impl<B: Backend + TrainingOps> Backward<B, 2> for ConvolveBackward {
        type State = (FloatTensor<B>, FloatTensor<B>, Geometry);

        fn backward(
            self,
            ops: Ops<Self::State, 2>,
            grads: &mut Gradients,
            _checkpointer: &mut Checkpointer,
        ) {
            let [x_node, weight_node] = ops.parents;
            let gradient = grads.consume::<B>(&ops.node);
            let (x, weight, geometry) = ops.state;
            if let Some(node) = x_node {
                grads.register::<B>(node.id, B::input_gradient(weight, gradient.clone(), geometry));
            }
            if let Some(node) = weight_node {
                grads.register::<B>(node.id, B::weight_gradient(x, gradient, geometry));
            }
        }
    }

    impl<B: Backend + TrainingOps, C: CheckpointStrategy> TrainingOps for Autodiff<B, C> {
        fn convolve(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            geometry: Geometry,
        ) -> FloatTensor<Self> {
            let nodes = [x.node(), weight.node()];
            match ConvolveBackward.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    let (x, weight) = (x.into_primitive(), weight.into_primitive());
                    let y = B::convolve(x.clone(), weight.clone(), geometry);
                    prepared.finish((x, weight, geometry), y)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(B::convolve(
                    x.into_primitive(),
                    weight.into_primitive(),
                    geometry,
                )),
            }
        }

        fn normalize(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            epsilon: f32,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
            let nodes = [x.node(), weight.node(), bias.node()];
            let (x, weight) = (x.into_primitive(), weight.into_primitive());
            let (y, mean, variance) =
                B::normalize(x.clone(), weight.clone(), bias.into_primitive(), epsilon);
            let y = match NormalizeBackward.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    prepared.finish(([x, weight, mean.clone(), variance.clone()], epsilon), y)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(y),
            };
            (y, Self::from_inner(mean), Self::from_inner(variance))
        }

        fn normalize_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            mean: FloatTensor<Self>,
            variance: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            epsilon: f32,
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
            let (x, weight, bias) = B::normalize_backward(
                x.into_primitive(),
                weight.into_primitive(),
                mean.into_primitive(),
                variance.into_primitive(),
                gradient.into_primitive(),
                epsilon,
            );
            (Self::from_inner(x), Self::from_inner(weight), Self::from_inner(bias))
        }

        fn input_gradient(
            weight: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            geometry: Geometry,
        ) -> FloatTensor<Self> {
            let (weight, gradient) = (weight.into_primitive(), gradient.into_primitive());
            Self::from_inner(B::input_gradient(weight, gradient, geometry))
        }

        fn weight_gradient(
            x: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            geometry: Geometry,
        ) -> FloatTensor<Self> {
            Self::from_inner(B::weight_gradient(
                x.into_primitive(),
                gradient.into_primitive(),
                geometry,
            ))
        }
    }
}
