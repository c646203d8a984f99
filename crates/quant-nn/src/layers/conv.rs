//! Quantized two-dimensional convolution.

use crate::ops::conv2d_padded_with;
use burn::{
    module::{Module, Param},
    nn::Initializer,
    tensor::{Device, Tensor, ops::ConvOptions},
};
use quant_core::{Quantizer, QuantizerError, Site, ops::padded};

use super::{Compute, LayerQuantizers, init_quantizer};

/// The configuration of a [`QuantConv2d`].
#[derive(Debug, Clone, PartialEq)]
pub struct QuantConv2dConfig {
    /// The numbers of input and output channels.
    pub channels: [usize; 2],
    /// The side of the square kernel.
    pub kernel: usize,
    /// The stride in both directions.
    pub stride: usize,
    /// The number of zeros that are added on every side.
    pub padding: usize,
    /// The distance between two elements of the kernel.
    pub dilation: usize,
    /// The number of groups of channels; each group is convolved on its own.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Whether zeros are added after quantizing the input. By default they are added before.
    pub padding_after_quant: bool,
    /// The quantizers of the weight, the input and the output.
    pub quantizers: LayerQuantizers,
}

impl QuantConv2dConfig {
    /// Returns a convolution in full precision without bias, padded so that stride 1 keeps the size
    /// if the kernel is odd.
    pub fn new(channels: [usize; 2], kernel: usize, stride: usize) -> Self {
        Self {
            channels,
            kernel,
            stride,
            padding: kernel / 2,
            dilation: 1,
            groups: 1,
            bias: false,
            padding_after_quant: false,
            quantizers: LayerQuantizers::default(),
        }
    }

    /// Makes the layer. Weights are drawn from He's normal distribution (fan-out), and biases are
    /// 0.
    ///
    /// # Errors
    /// The errors of [`quant_core::QuantizerConfig::init`], which name the layer `name`.
    pub fn init(&self, name: &str, device: &Device) -> Result<QuantConv2d, QuantizerError> {
        let [inputs, outputs] = self.channels;
        let shape = [outputs, inputs / self.groups, self.kernel, self.kernel];
        let fan_out = outputs * self.kernel * self.kernel / self.groups;
        let he = Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true };
        let quantizers = &self.quantizers;
        let input = Site::activation(format!("{name}.quant_activation"), inputs);
        let output = Site::activation(format!("{name}.quant_output"), outputs);
        let weight = Site::weight(format!("{name}.quant_weight"), shape);
        Ok(QuantConv2d {
            weight: he.init_with(shape, None, Some(fan_out), device),
            bias: self.bias.then(|| Initializer::Zeros.init([outputs], device)),
            quant_activation: init_quantizer(&quantizers.activation, input, device)?,
            quant_weight: init_quantizer(&quantizers.weight, weight, device)?,
            quant_output: init_quantizer(&quantizers.output, output, device)?,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
            groups: self.groups,
            padding_after_quant: self.padding_after_quant,
            compute: Compute::F32,
        })
    }
}

/// y = Qo(conv(Qa(pad(x)), Qw(w)) + b): a convolution whose input, weight and output may be
/// quantized.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{Granularity, Levels, Method, QuantizerConfig, Role};
/// use quant_nn::layers::{LayerQuantizers, conv::QuantConv2dConfig};
///
/// let lsq = |role| QuantizerConfig::new(Method::Lsq, role, Levels::BINARY);
/// let weight = QuantizerConfig { granularity: Granularity::PerChannel, ..lsq(Role::Weight) };
/// let config = QuantConv2dConfig {
///     quantizers: LayerQuantizers {
///         activation: Some(lsq(Role::Activation)),
///         weight: Some(weight),
///         ..LayerQuantizers::default()
///     },
///     ..QuantConv2dConfig::new([3, 8], 3, 2)
/// };
/// let device = Device::flex();
/// let conv = config.init("conv1", &device)?;
/// assert_eq!(conv.forward(Tensor::zeros([1, 3, 32, 32], &device)).dims(), [1, 8, 16, 16]);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
#[derive(Module, Debug)]
pub struct QuantConv2d {
    /// The weight, `[out, in / groups, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// The bias, `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The quantizer of the input.
    pub quant_activation: Option<Quantizer>,
    /// The quantizer of the weight.
    pub quant_weight: Option<Quantizer>,
    /// The quantizer of the output.
    pub quant_output: Option<Quantizer>,
    /// The stride in both directions.
    pub stride: usize,
    /// The number of zeros that are added on every side.
    pub padding: usize,
    /// The distance between two elements of the kernel.
    pub dilation: usize,
    /// The number of groups of channels.
    pub groups: usize,
    /// Whether zeros are added after quantizing the input.
    pub padding_after_quant: bool,
    /// The type in which the convolution is computed.
    #[module(skip)]
    pub compute: Compute,
}

impl QuantConv2d {
    /// Returns the output of the layer.
    ///
    /// # Shapes
    /// - `x`: `[batch, in, height, width]`
    /// - output: `[batch, out, (height + 2·padding - dilation·(kernel - 1) - 1)/stride + 1, ...]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_with(x, self.quantized_weight())
    }

    /// Returns the weight with which [`forward`](Self::forward) convolves, in the type in which it
    /// does.
    pub fn quantized_weight(&self) -> Tensor<4> {
        self.compute.factor(&self.quant_weight, self.weight.val())
    }

    /// Does the same as [`forward`](Self::forward) with a weight that is quantized already. If a
    /// layer is applied several times in a step, [`quantized_weight`](Self::quantized_weight) needs
    /// to be called only once.
    pub fn forward_with(&self, x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
        let y = self.compute.output(self.products(x, weight));
        match &self.quant_output {
            Some(quantizer) => quantizer.forward(y),
            None => y,
        }
    }

    /// Does the same as [`forward`](Self::forward) for an operation that takes the output in the
    /// type in which it is computed, as a batch norm does.
    pub(crate) fn forward_products(&self, x: Tensor<4>) -> Tensor<4> {
        if self.quant_output.is_some() {
            return self.forward(x);
        }
        self.products(x, self.quantized_weight())
    }

    /// Returns the convolution with the quantized input, and the bias, in the type of the products.
    fn products(&self, x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
        let (x, padding, padding_value) = self.quantized_input(x);
        let bias = self.bias.as_ref().map(|bias| self.compute.input(bias.val()));
        let stride = [self.stride; 2];
        let options = ConvOptions::new(stride, [padding; 2], [self.dilation; 2], self.groups);
        let y = conv2d_padded_with(x, self.compute.input(weight), options, padding_value);
        match bias {
            Some(bias) => y + bias.reshape([1, -1, 1, 1]),
            None => y,
        }
    }

    /// Returns the quantized input in the type of the products, and the padding that remains for
    /// the convolution, with its value.
    fn quantized_input(&self, x: Tensor<4>) -> (Tensor<4>, usize, f32) {
        let quantized = |x| self.compute.factor(&self.quant_activation, x);
        let Some(quantizer) = &self.quant_activation else {
            return (quantized(x), self.padding, 0.0);
        };
        if self.padding_after_quant || self.padding == 0 {
            return (quantized(x), self.padding, 0.0);
        }
        if let Some(padding_value) = quantizer.value_of_zero() {
            return (quantized(x), self.padding, padding_value);
        }
        (quantized(padded(x, self.padding)), 0, 0.0)
    }
}
