//! The layers of a network in execution order, and a network as a module with quantizers.

use burn::{module::Param, tensor::Tensor};
use quant_core::Quantizer;

use super::{Network, Submodule};
use crate::{
    config::NetworkConfig,
    graph::Op,
    layers::Compute,
    visit::{Layer, LayerMut, LayerShape, NetworkLayer, QuantizedModule},
};

impl Network {
    /// Returns the convolutional and linear layers.
    pub fn layers(&self) -> Vec<NetworkLayer<'_>> {
        let layers =
            self.pieces.iter().enumerate().filter_map(|(index, submodule)| match submodule {
                Submodule::Conv(conv) => Some((index, Layer::Conv(conv), self.input_size(index))),
                Submodule::Linear(linear) => Some((index, Layer::Linear(linear), 1)),
                _ => None,
            });
        layers
            .enumerate()
            .map(|(index, (submodule, layer, input_size))| NetworkLayer {
                index,
                name: self.names[submodule].clone(),
                layer,
                input_size,
            })
            .collect()
    }

    /// Returns the convolutional and linear layers, to change them.
    pub fn layers_mut(&mut self) -> Vec<LayerMut<'_>> {
        let layers = self.pieces.iter_mut().filter_map(|submodule| match submodule {
            Submodule::Conv(conv) => Some(LayerMut::Conv(conv)),
            Submodule::Linear(linear) => Some(LayerMut::Linear(linear)),
            _ => None,
        });
        layers.collect()
    }

    /// Returns the network with convolutions and linear layers that are computed in another type.
    #[must_use]
    pub fn with_compute(mut self, compute: Compute) -> Self {
        for layer in self.layers_mut() {
            match layer {
                LayerMut::Conv(layer) => layer.compute = compute,
                LayerMut::Linear(layer) => layer.compute = compute,
            }
        }
        self
    }

    /// Returns the side of a submodule's input, in pixels.
    fn input_size(&self, submodule: usize) -> usize {
        self.input_of(submodule).map_or(1, |input| self.graph.nodes[input].size)
    }

    /// The node whose value a submodule reads.
    fn input_of(&self, submodule: usize) -> Option<usize> {
        let node = self.graph.nodes.iter().find(|node| node.op == Op::Submodule(submodule));
        node.and_then(|node| node.inputs.first().copied())
    }
}

impl QuantizedModule for Network {
    fn pytorch_name(&self, path: &str) -> String {
        let mut parts = path.splitn(3, '.');
        let (_, index, rest) = (parts.next(), parts.next(), parts.next());
        let name = index.and_then(|index| self.names.get(index.parse::<usize>().ok()?));
        match (name, rest) {
            // A learned number has the name of its submodule.
            (Some(name), Some("value")) => name.clone(),
            (Some(name), Some(rest)) => format!("{name}.{rest}"),
            _ => path.to_owned(),
        }
    }

    fn network_config(&self) -> Option<&NetworkConfig> {
        Some(&self.config)
    }

    fn layer_shapes(&self) -> Vec<LayerShape> {
        let shapes = self.layers().into_iter().map(|found| {
            let weight = found.layer.weight_shape();
            let (bias, size) = match found.layer {
                Layer::Conv(conv) => {
                    let padded = found.input_size + 2 * conv.padding;
                    (&conv.bias, (padded - weight[2]) / conv.stride + 1)
                }
                Layer::Linear(linear) => (&linear.bias, 1),
            };
            let bias = bias.as_ref().map_or(0, |bias| bias.lazy_shape().num_elements());
            let submodule = self.names.iter().position(|name| *name == found.name);
            let input = submodule.and_then(|submodule| self.input_of(submodule));
            let reads_images = input.is_some_and(|input| self.graph.is_of_images(input));
            LayerShape {
                name: found.name,
                transposed: false,
                output_channels: Some(weight[0]),
                output_size: Some(size),
                input_size: Some(found.input_size),
                weight,
                bias,
                reads_images,
            }
        });
        shapes.collect()
    }

    fn folded(&self) -> Self {
        fn fold<const D: usize>(weight: &mut Param<Tensor<D>>, quantizer: &mut Option<Quantizer>) {
            if let Some(quantizer) = quantizer.take() {
                let quantized = quantizer.forward(weight.val()).detach();
                *weight = Param::initialized(weight.id, quantized);
            }
        }
        let mut folded = self.clone();
        for layer in folded.layers_mut() {
            match layer {
                LayerMut::Conv(layer) => fold(&mut layer.weight, &mut layer.quant_weight),
                LayerMut::Linear(layer) => fold(&mut layer.weight, &mut layer.quant_weight),
            }
        }
        folded
    }
}
