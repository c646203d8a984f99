//! The operations on Burn's CPU backend, which use the passes of `quant-kernels`.

use burn::{
    backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
    tensor::{DType, Device, Shape, Tensor, TensorData, ops::ConvOptions},
};
use burn_flex::FlexTensor;
use quant_kernels::{
    conv::{self, Geometry, GeometryError},
    relu::{relu_backward, relu_in_place},
};

/// The operations, on the backend that has them. The prefix distinguishes them from operations of
/// Burn with the same names.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub(super) trait TrainingOps: Backend {
    /// Returns the convolution of x with a weight.
    fn training_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// Returns the gradient of [`training_conv2d`](Self::training_conv2d) by x.
    fn training_conv2d_input_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// Returns the gradient of [`training_conv2d`](Self::training_conv2d) by the weight.
    fn training_conv2d_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// Returns max(x, 0).
    fn training_relu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Returns the gradient of [`training_relu`](Self::training_relu), computed from its result.
    fn training_relu_backward(
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Returns whether x is on the CPU backend, in 32-bit floats.
pub(super) fn is_flex_f32<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device().without_autodiff() == Device::flex()
}

pub(super) fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as TrainingOps>::training_relu(x.into_dispatch()))
}

/// Returns whether the passes of `quant-kernels` are faster than Burn's, according to measurements.
/// They are not if there are far more weights than pixels.
fn is_faster(geometry: &Geometry) -> bool {
    let [height, width] = geometry.output_size();
    height * width > 64 || geometry.group_in_channels() * geometry.group_out_channels() < 512 * 512
}

/// Returns the geometry of the convolution, if the passes of `quant-kernels` support it.
pub(super) fn geometry(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    options: &ConvOptions<2>,
    padding_value: f32,
) -> Option<Geometry> {
    let [batch, in_channels, height, width] = x.dims();
    let [out_channels, group_in_channels, kernel_height, kernel_width] = weight.dims();
    let [stride, dilation] = [options.stride, options.dilation];
    let padding = options.padding[0].0;
    let geometry = Geometry {
        batch,
        in_channels,
        out_channels,
        input_size: [height, width],
        kernel_size: [kernel_height, kernel_width],
        stride: stride[0],
        padding,
        padding_value,
        dilation: dilation[0],
        groups: options.groups,
    };
    let even = stride[0] == stride[1]
        && dilation[0] == dilation[1]
        && options.padding == [(padding, padding); 2];
    let fits = geometry.validate().is_ok() && group_in_channels == geometry.group_in_channels();
    (even && is_flex_f32(x) && is_flex_f32(weight) && fits && is_faster(&geometry))
        .then_some(geometry)
}

pub(super) fn conv2d(x: Tensor<4>, weight: Tensor<4>, geometry: Geometry) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as TrainingOps>::training_conv2d(
        x.into_dispatch(),
        weight.into_dispatch(),
        geometry,
    ))
}

impl TrainingOps for Flex {
    fn training_conv2d(x: FlexTensor, weight: FlexTensor, geometry: Geometry) -> FlexTensor {
        let [height, width] = geometry.output_size();
        let shape = [geometry.batch, geometry.out_channels, height, width];
        run_pass(conv::forward, x, weight, geometry, shape)
    }

    fn training_conv2d_input_gradient(
        weight: FlexTensor,
        gradient: FlexTensor,
        geometry: Geometry,
    ) -> FlexTensor {
        let [height, width] = geometry.input_size;
        let shape = [geometry.batch, geometry.in_channels, height, width];
        run_pass(conv::input_gradient, weight, gradient, geometry, shape)
    }

    fn training_conv2d_weight_gradient(
        x: FlexTensor,
        gradient: FlexTensor,
        geometry: Geometry,
    ) -> FlexTensor {
        let [height, width] = geometry.kernel_size;
        let shape = [geometry.out_channels, geometry.group_in_channels(), height, width];
        run_pass(conv::weight_gradient, x, gradient, geometry, shape)
    }

    fn training_relu(x: FlexTensor) -> FlexTensor {
        let mut y = x.to_contiguous();
        // This drops the other handle, because of which the memory of the input could not be
        // reused.
        drop(x);
        relu_in_place(y.storage_mut::<f32>());
        y
    }

    fn training_relu_backward(y: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let y = y.to_contiguous();
        let mut x_gradient = gradient.to_contiguous();
        drop(gradient);
        relu_backward(y.storage::<f32>(), x_gradient.storage_mut::<f32>());
        x_gradient
    }
}

type Pass = fn(&[f32], &[f32], &Geometry) -> Result<Vec<f32>, GeometryError>;

fn run_pass(
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

pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
