//! The operations on Burn's CPU backend, by the passes of `quant-kernels`.

use burn::{
    backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension, tensor::FloatTensor},
    tensor::{DType, Device, Shape, Tensor, TensorData, ops::ConvOptions},
};
use burn_flex::FlexTensor;
use quant_kernels::{
    batch_norm::{After, Norm, rectify, rectify_gradients},
    conv::{self, Geometry, GeometryError},
};

use super::BatchNormOutput;

/// What is done to a normalised tensor in the same pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Then {
    /// Whether something is added.
    pub(super) adds: bool,
    /// Whether a ReLU comes last.
    pub(super) rectifies: bool,
    /// Added to the variance.
    pub(super) epsilon: f32,
}

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

    fn rectify(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of [`rectify`](Self::rectify), by its result.
    fn rectify_backward(y: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Output, mean and variance. `add` is anything where nothing is added.
    fn normalize(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        add: FloatTensor<Self>,
        then: Then,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of x, weight, bias and what was added. `y` is the output, or anything where it was not rectified; the last
    /// gradient is that of x again where nothing was added.
    fn normalize_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        then: Then,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Whether x is where these passes are, and of their numbers.
pub(super) fn is_for<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device().without_autodiff() == Device::flex()
}

pub(super) fn normalizes(
    x: &Tensor<4>,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    add: &Option<Tensor<4>>,
) -> bool {
    let fits = add.as_ref().is_none_or(|add| is_for(add) && add.shape() == x.shape());
    is_for(x) && is_for(weight) && is_for(bias) && fits && x.shape().num_elements() > 0
}

pub(super) fn batch_norm(
    x: Tensor<4>,
    (weight, bias): (Tensor<1>, Tensor<1>),
    epsilon: f64,
    add: Option<Tensor<4>>,
    rectifies: bool,
) -> BatchNormOutput {
    let then = Then { adds: add.is_some(), rectifies, epsilon: epsilon as f32 };
    let add = add.unwrap_or_else(|| x.clone());
    let (output, mean, variance) = <Dispatch as TrainingOps>::normalize(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        add.into_dispatch(),
        then,
    );
    BatchNormOutput {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    }
}

pub(super) fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as TrainingOps>::rectify(x.into_dispatch()))
}

/// Whether our passes are faster than Burn's, as measured: not where weights outweigh pixels by far.
fn is_faster(geometry: &Geometry) -> bool {
    let [height, width] = geometry.output_size();
    height * width > 64 || geometry.group_inputs() * geometry.group_outputs() < 512 * 512
}

/// The convolution, if our passes are for it.
pub(super) fn geometry(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    options: &ConvOptions<2>,
    fill: f32,
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
        fill,
        dilation: dilation[0],
        groups: options.groups,
    };
    let even = stride[0] == stride[1]
        && dilation[0] == dilation[1]
        && options.padding == [(padding, padding); 2];
    let fits = geometry.validate().is_ok() && group_inputs == geometry.group_inputs();
    (even && is_for(x) && is_for(weight) && fits && is_faster(&geometry)).then_some(geometry)
}

pub(super) fn conv2d(x: Tensor<4>, weight: Tensor<4>, geometry: Geometry) -> Tensor<4> {
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
        by(conv::forward, x, weight, geometry, shape)
    }

    fn input_gradient(weight: FlexTensor, gradient: FlexTensor, geometry: Geometry) -> FlexTensor {
        let [height, width] = geometry.size;
        let shape = [geometry.batch, geometry.inputs, height, width];
        by(conv::input_gradient, weight, gradient, geometry, shape)
    }

    fn weight_gradient(x: FlexTensor, gradient: FlexTensor, geometry: Geometry) -> FlexTensor {
        let [height, width] = geometry.kernel;
        let shape = [geometry.outputs, geometry.group_inputs(), height, width];
        by(conv::weight_gradient, x, gradient, geometry, shape)
    }

    fn rectify(x: FlexTensor) -> FlexTensor {
        let mut y = x.to_contiguous();
        // The other handle, which would keep the input's memory from being reused.
        drop(x);
        rectify(y.storage_mut::<f32>());
        y
    }

    fn rectify_backward(y: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let y = y.to_contiguous();
        let mut by_x = gradient.to_contiguous();
        drop(gradient);
        rectify_gradients(y.storage::<f32>(), by_x.storage_mut::<f32>());
        by_x
    }

    fn normalize(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        add: FlexTensor,
        then: Then,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let (norm, shape) = norm(&x);
        let (x, weight, bias) = (x.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
        let add = then.adds.then(|| add.to_contiguous());
        let after = After { add: add.as_ref().map(|add| add.storage()), relu: then.rectifies };
        let parameters = (weight.storage(), bias.storage());
        let result = norm.forward(x.storage(), parameters, then.epsilon, after);
        let of_channels = |values| tensor(values, [norm.channels]);
        (tensor(result.output, shape), of_channels(result.mean), of_channels(result.variance))
    }

    fn normalize_backward(
        x: FlexTensor,
        weight: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        y: FlexTensor,
        gradient: FlexTensor,
        then: Then,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let (norm, shape) = norm(&x);
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let y = then.rectifies.then(|| y.to_contiguous());
        let mut own = gradient.to_contiguous();
        drop(gradient);
        let result = norm.backward(
            x.storage(),
            own.storage_mut(),
            (weight.storage(), mean.storage(), variance.storage()),
            then.epsilon,
            (y.as_ref().map(|y| y.storage()), then.adds),
        );
        let by_x = match result.input {
            None => own.clone(),
            Some(values) => tensor(values, shape),
        };
        let of_channels = |values| tensor(values, [norm.channels]);
        (by_x, of_channels(result.weight), of_channels(result.bias), own)
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
