//! Quantized linear layer.

use burn::{
    module::{Module, Param},
    nn::Initializer,
    tensor::{Device, Tensor},
};
use quant_core::{Quantizer, QuantizerError, Site};

use super::{Compute, LayerQuantizers, init_quantizer};

/// The configuration of a [`QuantLinear`].
#[derive(Debug, Clone, PartialEq)]
pub struct QuantLinearConfig {
    /// The numbers of input and output features.
    pub features: [usize; 2],
    /// Whether a bias is added.
    pub bias: bool,
    /// The quantizers of the weight, the input and the output.
    pub quantizers: LayerQuantizers,
}

impl QuantLinearConfig {
    /// Returns a linear layer with bias, in full precision.
    pub fn new(features: [usize; 2]) -> Self {
        Self { features, bias: true, quantizers: LayerQuantizers::default() }
    }

    /// Makes the layer. Weight and bias are uniform within ±1/sqrt(in), which is PyTorch's default.
    ///
    /// # Errors
    /// The errors of [`quant_core::QuantizerConfig::init`], which name the layer `name`.
    pub fn init(&self, name: &str, device: &Device) -> Result<QuantLinear, QuantizerError> {
        let [inputs, outputs] = self.features;
        let bound = 1.0 / (inputs.max(1) as f64).sqrt();
        let uniform = Initializer::Uniform { min: -bound, max: bound };
        let quantizers = &self.quantizers;
        let input = Site::activation(format!("{name}.quant_activation"), inputs);
        let output = Site::activation(format!("{name}.quant_output"), outputs);
        let weight = Site::weight(format!("{name}.quant_weight"), [outputs, inputs]);
        Ok(QuantLinear {
            weight: uniform.init([outputs, inputs], device),
            bias: self.bias.then(|| uniform.init([outputs], device)),
            quant_activation: init_quantizer(&quantizers.activation, input, device)?,
            quant_weight: init_quantizer(&quantizers.weight, weight, device)?,
            quant_output: init_quantizer(&quantizers.output, output, device)?,
            compute: Compute::F32,
        })
    }
}

/// y = Qo(Qa(x)·Qw(w)ᵀ + b): a linear layer whose input, weight and output may be quantized.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use quant_core::{Levels, Method, QuantizerConfig, Role};
/// use quant_nn::layers::{LayerQuantizers, linear::QuantLinearConfig};
///
/// let weight = QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(4)?);
/// let quantizers = LayerQuantizers { weight: Some(weight), ..LayerQuantizers::default() };
/// let device = Device::flex();
/// let config = QuantLinearConfig { quantizers, ..QuantLinearConfig::new([8, 4]) };
/// let fc = config.init("fc", &device)?;
/// assert_eq!(fc.forward(Tensor::zeros([2, 8], &device)).dims(), [2, 4]);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
#[derive(Module, Debug)]
pub struct QuantLinear {
    /// The weight, `[out, in]`, as in PyTorch.
    pub weight: Param<Tensor<2>>,
    /// The bias, `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The quantizer of the input.
    pub quant_activation: Option<Quantizer>,
    /// The quantizer of the weight.
    pub quant_weight: Option<Quantizer>,
    /// The quantizer of the output.
    pub quant_output: Option<Quantizer>,
    /// The type in which the product is computed.
    #[module(skip)]
    pub compute: Compute,
}

impl QuantLinear {
    /// Returns the output of the layer.
    ///
    /// # Shapes
    /// - `x`: `[batch, in]`
    /// - output: `[batch, out]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.compute.factor(&self.quant_activation, x);
        let weight = self.compute.factor(&self.quant_weight, self.weight.val()).transpose();
        let y = self.compute.output(x.matmul(weight));
        let y = match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        };
        match &self.quant_output {
            Some(quantizer) => quantizer.forward(y),
            None => y,
        }
    }
}
