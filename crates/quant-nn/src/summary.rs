//! The size and the cost of a network, layer by layer.

use std::fmt;

use quant_core::Role;
use serde::{Deserialize, Serialize};

use crate::{
    state::StateDict,
    visit::{LayerShape, QuantizedModule},
};

/// The bits of one channel of a pixel.
const PIXEL_BITS: u32 = 8;

/// The size and the cost of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// The PyTorch name.
    pub name: String,
    /// The shape of the weight.
    pub weight_shape: Vec<usize>,
    /// The number of channels of the output. It is 0 if it is not known.
    #[serde(default)]
    pub output_channels: usize,
    /// The side of the output, in pixels. It is 0 for layers whose output size is known only in a
    /// call.
    pub output_size: usize,
    /// The bits of an input element. They are 32 if it is not quantized, and 8 for a layer that
    /// reads the images and has a quantized weight, since pixels are bytes. They are not known if
    /// the network has quantizers of activations that are modules of their own, which do not say
    /// whose input they quantize.
    pub activation_bits: Option<u32>,
    /// The bits of a weight. They are 32 if it is not quantized.
    pub weight_bits: u32,
    /// The number of elements of weight and bias.
    pub parameters: u64,
    /// The multiply-accumulates for one image: weights times positions of the output, or of the
    /// input for a transposed convolution. The number is 0 if the side of the output or input is
    /// not known.
    pub macs: u64,
    /// The bit operations for one image: multiply-accumulates times activation bits times weight
    /// bits.
    pub bit_operations: u64,
    /// The bytes of the weight, bit-packed at its width, and of the bias.
    pub bytes: u64,
}

/// The size and the cost of a whole network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkSummary {
    /// The layers in execution order.
    pub layers: Vec<LayerSummary>,
    /// The number of trainable elements, including those of quantizers and norms.
    pub parameters: u64,
    /// The multiply-accumulates for one image, of the layers for which they are known.
    pub macs: u64,
    /// The bytes of the whole state at 32 bits per element, including running statistics, without
    /// the parameters of the quantizers.
    pub size_bytes_float: u64,
    /// The bytes of the whole state, including the parameters of the quantizers. Quantized weights
    /// have their true width, bit-packed per layer; everything else has 32 bits.
    pub size_bytes_packed: u64,
}

/// Returns the summary of `network`, whose state is `state`.
///
/// ```
/// use burn::{module::Module, nn::{Linear, LinearConfig}, tensor::Device};
/// use quant_nn::{QuantizedModule, StateDict, summarize};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     fc: Linear,
/// }
///
/// impl QuantizedModule for Net {}
///
/// let net = Net { fc: LinearConfig::new(8, 4).init(&Device::flex()) };
/// let summary = summarize(&net, &StateDict::of(&net));
/// println!("{summary}"); // a table of the layers
/// assert_eq!((summary.parameters, summary.macs), (8 * 4 + 4, 8 * 4));
/// ```
pub fn summarize(network: &impl QuantizedModule, state: &StateDict) -> NetworkSummary {
    let mut layers = Vec::new();
    let all_quantizers = network.quantizers();
    let shapes = network.layer_shapes();
    let belongs = |layer: &String| shapes.iter().any(|shape| shape.name == *layer);
    let others =
        all_quantizers.iter().any(|(layer, role, _)| *role == Role::Activation && !belongs(layer));
    for layer in shapes.clone() {
        let LayerShape { name, weight: shape, bias, output_size, reads_images, .. } = layer;
        let weights: u64 = shape.iter().map(|side| *side as u64).product();
        let bits = |wanted| {
            let mut enabled = all_quantizers.iter().filter(|(layer, role, quantizer)| {
                *layer == name && *role == wanted && quantizer.is_enabled()
            });
            enabled.next().map_or(32, |(_, _, quantizer)| quantizer.config().levels.bits())
        };
        let weight_bits = bits(Role::Weight);
        let activation_bits = match bits(Role::Activation) {
            32 if reads_images && weight_bits < 32 => Some(PIXEL_BITS),
            // It may be one of the quantizers that belong to no layer.
            32 if others => None,
            bits => Some(bits),
        };
        let side = if layer.transposed { layer.input_size } else { output_size };
        let positions =
            side.map_or(0, |side| (side as u64).pow(shape.len().saturating_sub(2) as u32));
        let macs = weights * positions;
        let bias_elements = bias as u64;
        layers.push(LayerSummary {
            name,
            parameters: weights + bias_elements,
            bytes: (weights * u64::from(weight_bits)).div_ceil(8) + 4 * bias_elements,
            weight_shape: shape,
            output_channels: layer.output_channels.unwrap_or(0),
            output_size: output_size.unwrap_or(0),
            activation_bits,
            weight_bits,
            macs,
            bit_operations: activation_bits
                .map_or(0, |bits| macs * u64::from(bits) * u64::from(weight_bits)),
        });
    }
    // Weights of other modules than the listed layers may be quantized too.
    let (mut quantized, mut packed) = (0, 0);
    for (_, weight) in network.quantized_weights() {
        let quantizer = &weight.reached.quantizer;
        if quantizer.is_enabled() {
            let weights: u64 = weight.shape.iter().map(|side| *side as u64).product();
            quantized += weights;
            packed += (weights * u64::from(quantizer.config().levels.bits())).div_ceil(8);
        }
    }
    let elements = |keep: &dyn Fn(&str) -> bool| -> u64 {
        let kept = state.entries().filter(|(name, _)| keep(name));
        kept.map(|(_, entry)| entry.values.len() as u64).sum()
    };
    let all = elements(&|_| true);
    let trained = network.trained();
    let prefixes = network.quantizer_prefixes();
    let quantizers = elements(&|name| prefixes.iter().any(|start| name.starts_with(start)));
    NetworkSummary {
        parameters: elements(&|name| trained.contains(name)),
        macs: layers.iter().map(|layer| layer.macs).sum(),
        size_bytes_float: 4 * (all - quantizers),
        size_bytes_packed: 4 * (all - quantized) + packed,
        layers,
    }
}

impl fmt::Display for NetworkSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26} {:<16} {:>13} {:>8} {:>11} {:>13} {:>16} {:>10}",
            "layer",
            "weight",
            "output",
            "bits a/w",
            "parameters",
            "MACs",
            "bit operations",
            "bytes"
        )?;
        for layer in &self.layers {
            let shape: Vec<String> = layer.weight_shape.iter().map(usize::to_string).collect();
            let size = layer.output_size;
            let known = |number: u64| if number == 0 { "?".to_owned() } else { number.to_string() };
            let output = if size == 0 {
                "?".to_owned()
            } else {
                // The output of a linear layer is shown as an image of one pixel.
                let sides = if shape.len() == 2 { 2 } else { shape.len() - 2 };
                known(layer.output_channels as u64) + &format!("x{size}").repeat(sides)
            };
            writeln!(
                f,
                "{:<26} {:<16} {:>13} {:>8} {:>11} {:>13} {:>16} {:>10}",
                layer.name,
                shape.join("x"),
                output,
                match layer.activation_bits {
                    None => format!("?/{}", layer.weight_bits),
                    Some(bits) => format!("{bits}/{}", layer.weight_bits),
                },
                layer.parameters,
                known(layer.macs),
                known(layer.bit_operations),
                layer.bytes,
            )?;
        }
        let unknown = self.layers.iter().any(|layer| layer.macs == 0);
        let macs = if unknown { "?".to_owned() } else { self.macs.to_string() };
        write!(
            f,
            "{} parameters, {macs} MACs, {} bytes at 32 bits, {} bytes packed",
            self.parameters, self.size_bytes_float, self.size_bytes_packed
        )?;
        if unknown {
            write!(
                f,
                "\n?: not known, because a layer of Burn does not say the sizes of its input and \
                 output. The program can give them: override `QuantizedModule::layer_shapes`"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::{Module, Param},
        nn::{
            Linear, LinearConfig,
            conv::{Conv2d, Conv2dConfig},
        },
        tensor::{Device, Tensor},
    };
    use quant_core::{Levels, Method, QuantizerConfig, WeightQuantization};

    use super::*;

    #[derive(Module, Debug)]
    struct Mixer {
        weight: Param<Tensor<2>>,
    }

    #[derive(Module, Debug)]
    struct Net {
        mixer: Mixer,
        fc: Linear,
    }

    impl QuantizedModule for Net {}

    /// 6·4 weights of 4 bits and 4·2 of 2 bits, two biases and two clipping values.
    #[test]
    fn a_quantized_weight_of_another_module_counts_at_its_width() {
        let device = Device::flex();
        let mixer = Mixer { weight: Param::from_tensor(Tensor::ones([6, 4], &device)) };
        let net = Net { mixer, fc: LinearConfig::new(4, 2).init(&device) };
        let lsq = |bits| {
            QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(bits).unwrap())
        };
        let quantization = WeightQuantization::new(lsq(2)).with("mixer.weight", lsq(4));
        let (net, _) = quantization.apply(net).unwrap();
        let summary = summarize(&net, &StateDict::of(&net));
        assert_eq!(summary.size_bytes_packed, 24 / 2 + 8 / 4 + 4 * (2 + 2));
        assert_eq!(summary.size_bytes_float, 4 * (24 + 8 + 2));
    }

    #[derive(Module, Debug)]
    struct Convolutional {
        conv: Conv2d,
    }

    impl QuantizedModule for Convolutional {}

    #[test]
    fn a_summary_says_why_it_does_not_know_multiply_accumulates() {
        let device = Device::flex();
        let net = Convolutional { conv: Conv2dConfig::new([3, 8], [3, 3]).init(&device) };
        let mut summary = summarize(&net, &StateDict::of(&net));
        let text = summary.to_string();
        assert!(text.contains(", ? MACs, ") && text.contains("`QuantizedModule::layer_shapes`"));
        summary.layers[0] = LayerSummary {
            output_size: 30,
            macs: 1,
            bit_operations: 1,
            ..summary.layers[0].clone()
        };
        assert!(!summary.to_string().contains('?'));
    }
}
