//! [`Network`]: any of the structures, as pieces with PyTorch's names and a graph that wires them.

use std::{
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

use burn::{
    module::{Module, Param, RunningState},
    tensor::{Device, Tensor},
};
use quant_core::{Quantizer, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    builder::Builder,
    error::NetworkError,
    graph::{Graph, Normalization, Op, Pieces},
    layers::{
        Compute,
        activation::Activation,
        conv::QuantConv2d,
        linear::QuantLinear,
        norm::{Norm, SumOverProcesses},
    },
    mobilenet::{MobileNetV1Config, MobileNetV2Config},
    nin::NinConfig,
    resnet::{Quantization, ResNetConfig},
    state::{StateDict, is_running},
    vgg_small::VggSmallConfig,
    visit::{Layer, LayerMut, LayerShape, QuantizedModule, Visited},
};

/// A network of any structure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "architecture", rename_all = "kebab-case")]
pub enum NetworkConfig {
    /// A residual network.
    #[serde(rename = "resnet")]
    ResNet(ResNetConfig),
    /// MobileNet v1: a convolution and 13 blocks of a depthwise and a point-wise convolution.
    MobilenetV1(MobileNetV1Config),
    /// MobileNet v2: inverted residuals.
    MobilenetV2(MobileNetV2Config),
    /// VGG-small, the CIFAR network of low-bit papers: six 3x3 convolutions and a linear layer.
    VggSmall(VggSmallConfig),
    /// Network in network, for CIFAR: nine convolutions, most of them 1x1, and no linear layer.
    Nin(NinConfig),
}

/// `body` for the structure's own configuration, whichever it is.
macro_rules! each_config {
    ($self:expr, $config:ident => $body:expr) => {
        match $self {
            NetworkConfig::ResNet($config) => $body,
            NetworkConfig::MobilenetV1($config) => $body,
            NetworkConfig::MobilenetV2($config) => $body,
            NetworkConfig::VggSmall($config) => $body,
            NetworkConfig::Nin($config) => $body,
        }
    };
}

/// Most elements that all weights of a network may have: 4 GiB at 32 bits.
pub(crate) const MOST_WEIGHTS: usize = 1 << 30;

/// Checks that a number of a configuration lies in its range, which `accepted` says in words.
pub(crate) fn check_range(
    field: &'static str,
    value: usize,
    range: RangeInclusive<usize>,
    accepted: &'static str,
) -> Result<(), NetworkError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(NetworkError::Field { field, value: value.to_string(), accepted }),
    }
}

/// Checks what all networks know of the data.
pub(crate) fn check_data(classes: usize, input_size: usize) -> Result<(), NetworkError> {
    check_range("classes", classes, 1..=1_000_000, "1 to 1000000")?;
    check_range("input_size", input_size, 1..=8192, "1 to 8192 pixels")
}

impl From<ResNetConfig> for NetworkConfig {
    fn from(config: ResNetConfig) -> Self {
        NetworkConfig::ResNet(config)
    }
}

impl NetworkConfig {
    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// [`NetworkError::Field`] and [`NetworkError::Structure`] for what does not fit together, and the
    /// quantizers' errors.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        each_config!(self, config => config.init(device))
    }

    /// The same, with weights that are a function of `seed`, of the configuration and of the device's kind.
    ///
    /// A device's random generator belongs to the whole process. Networks that are made so wait for each
    /// other; whoever else draws from it meanwhile changes the weights.
    ///
    /// # Errors
    /// Those of [`init`](Self::init).
    pub fn init_seeded(&self, seed: u64, device: &Device) -> Result<Network, NetworkError> {
        init_seeded(seed, device, || self.init(device))
    }

    /// Checks the fields that types leave open. [`init`](Self::init) calls it.
    ///
    /// # Errors
    /// Those of the configurations' own `validate`.
    pub fn validate(&self) -> Result<(), NetworkError> {
        each_config!(self, config => config.validate())
    }

    /// Side of its input images, in pixels.
    pub fn input_size(&self) -> usize {
        each_config!(self, config => config.input_size)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        each_config!(self, config => config.classes)
    }

    /// Changes the number of classes and the side of input images.
    pub fn set_data(&mut self, classes: usize, input_size: usize) {
        each_config!(self, config => (config.classes, config.input_size) = (classes, input_size));
    }

    /// The quantizers of its layers.
    pub fn quantization(&self) -> &Quantization {
        each_config!(self, config => &config.quantization)
    }

    /// The same, to change.
    pub fn quantization_mut(&mut self) -> &mut Quantization {
        each_config!(self, config => &mut config.quantization)
    }
}

/// What `make` makes, with weights that are a function of `seed`, of what is made and of the device's
/// kind.
///
/// A device's random generator belongs to the whole process. Networks that are made so wait for each
/// other; whoever else draws from it meanwhile changes the weights.
///
/// # Errors
/// Those of `make`.
pub fn init_seeded<M: QuantizedModule, E>(
    seed: u64,
    device: &Device,
    make: impl FnOnce() -> Result<M, E>,
) -> Result<M, E> {
    static DRAWING: Mutex<()> = Mutex::new(());
    let _drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    device.seed(seed);
    let network = make()?;
    // Parameters are drawn on first use: now, right behind the seed.
    StateDict::of(&network);
    Ok(network)
}

/// A network: pieces in the order in which the reference registers them, wired by a graph.
#[derive(Module, Debug)]
pub struct Network {
    /// What has a state.
    pub pieces: Vec<Piece>,
    #[module(skip)]
    names: Vec<String>,
    #[module(skip)]
    graph: Graph,
    #[module(skip)]
    config: NetworkConfig,
}

/// A part of a network that has a state and a name.
#[derive(Module, Debug)]
pub enum Piece {
    /// A convolution.
    Conv(QuantConv2d),
    /// A linear layer.
    Linear(QuantLinear),
    /// A normalisation.
    Norm(Norm),
    /// An activation function.
    Activation(Activation),
    /// A learned number: a branch's scale, a Fixup scale or bias.
    Scalar(Scalar),
}

/// A learned number.
#[derive(Module, Debug)]
pub struct Scalar {
    /// The number, `[1]`.
    pub value: Param<Tensor<1>>,
}

impl Network {
    pub(crate) fn new(builder: Builder<'_>, config: NetworkConfig) -> Self {
        let Builder { pieces, names, graph, .. } = builder;
        Self { pieces, names, graph, config }
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// How the pieces are wired.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// PyTorch name of a piece, by its index.
    pub fn piece_name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// The nodes of a block, such as `layer2.0`, as text: what each computes, from which, and its shape. Of
    /// what stands outside of blocks for an empty name.
    pub fn draw(&self, block: &str) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let prefix = format!("{block}.");
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if node.block != block {
                continue;
            }
            let what = self.describe(&node.op);
            let what = what.replace(&prefix, "");
            let inputs: Vec<String> = node.inputs.iter().map(|i| format!("%{i}")).collect();
            let shape = format!("{} x {}x{}", node.channels, node.size, node.size);
            let of = inputs.join(", ");
            let _ = writeln!(text, "%{index:<4} {what:<44} {shape:>14}   {of}");
        }
        text
    }

    /// The blocks' names, in execution order.
    pub fn blocks(&self) -> Vec<&str> {
        let mut blocks: Vec<&str> = Vec::new();
        for node in self.graph.nodes.iter().filter(|node| !node.block.is_empty()) {
            if blocks.last() != Some(&node.block.as_str()) {
                blocks.push(&node.block);
            }
        }
        blocks
    }

    fn describe(&self, op: &Op) -> String {
        let name = |index: &usize| &self.names[*index];
        match op {
            Op::Input => "images".into(),
            Op::Piece(index) => {
                let name = name(index);
                match &self.pieces[*index] {
                    Piece::Conv(conv) => {
                        let shape = conv.weight.lazy_shape();
                        let stride = match conv.stride {
                            1 => String::new(),
                            stride => format!(" stride {stride}"),
                        };
                        let groups = match conv.groups {
                            1 => String::new(),
                            groups => format!(" in {groups} groups"),
                        };
                        let real = match (&conv.quant_activation, &conv.quant_weight) {
                            (None, None) => "convolution",
                            _ => "quantized convolution",
                        };
                        format!("{name}: {real} {}x{}{stride}{groups}", shape[2], shape[3])
                    }
                    Piece::Linear(_) => format!("{name}: linear"),
                    Piece::Norm(_) => format!("{name}: norm"),
                    Piece::Activation(_) => format!("{name}: activation"),
                    Piece::Scalar(_) => name.clone(),
                }
            }
            Op::Activation(kind) => format!("{kind:?}"),
            Op::InstanceNorm => "instance norm".into(),
            Op::AveragePool(side) => format!("average pool {side}x{side}"),
            Op::MaxPool { kernel, stride, .. } => {
                format!("max pool {kernel}x{kernel} stride {stride}")
            }
            Op::GlobalPool => "global average pool".into(),
            Op::SpaceToDepth(r) => format!("space to depth {r}"),
            Op::DepthToSpace(r) => format!("depth to space {r}"),
            Op::Pad(p) => format!("pad by {p}"),
            Op::Repeat(times) => format!("channels {times} times over"),
            Op::Concatenate => "concatenate".into(),
            Op::Add => "add".into(),
            Op::AddScalar(index) => format!("plus {}", name(index)),
            Op::MulScalar(index) => format!("times {}", name(index)),
        }
    }

    /// Class scores.
    ///
    /// # Shapes
    /// - `x`: `[batch, 3, height, width]`, normalised
    /// - output: `[batch, classes]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.graph.run(x, self, &[], |_| {}).flatten(1, 3)
    }

    /// Class scores as of [`forward`](Self::forward), and the last value of each block in the order of
    /// [`blocks`](Self::blocks), `[batch, channels, height, width]`.
    pub fn forward_blocks(&self, x: Tensor<4>) -> (Tensor<2>, Vec<Tensor<4>>) {
        let ends = self.block_ends();
        let mut outputs = Vec::with_capacity(ends.len());
        let scores = self.graph.run(x, self, &ends, |value| outputs.push(value.clone()));
        (scores.flatten(1, 3), outputs)
    }

    /// Indices of the nodes that end blocks.
    pub(crate) fn block_ends(&self) -> Vec<usize> {
        let nodes = &self.graph.nodes;
        let ends = (0..nodes.len()).filter(|index| {
            let (node, next) = (&nodes[*index], nodes.get(index + 1));
            !node.block.is_empty() && next.is_none_or(|next| next.block != node.block)
        });
        ends.collect()
    }

    /// Channels and side of the last value of each block.
    pub fn block_shapes(&self) -> Vec<(usize, usize)> {
        let nodes = self.block_ends().into_iter().map(|index| &self.graph.nodes[index]);
        nodes.map(|node| (node.channels, node.size)).collect()
    }

    /// Keeps the batch norms that `select` names in evaluation: their statistics stay, scale and shift go on
    /// learning.
    #[must_use]
    pub fn with_frozen_statistics(mut self, select: impl Fn(&str) -> bool) -> Self {
        for (piece, name) in self.pieces.iter_mut().zip(&self.names) {
            if let Piece::Norm(Norm::Batch(norm)) = piece
                && select(name)
            {
                norm.training = Param::from_bool(false);
            }
        }
        self
    }

    /// Normalises the batches of several processes as one.
    #[must_use]
    pub fn with_shared_statistics(mut self, sums: &SumOverProcesses) -> Self {
        for piece in &mut self.pieces {
            if let Piece::Norm(Norm::Batch(norm)) = piece {
                norm.sums = Some(sums.clone());
            }
        }
        self
    }

    /// Running means and variances of the norms, one norm after another: for processes that exchange them.
    pub fn running_statistics(&self) -> Vec<f32> {
        let states = self.running_states().into_iter();
        states
            .flat_map(|state| state.value_sync().into_data().iter::<f32>().collect::<Vec<_>>())
            .collect()
    }

    /// Sets them.
    ///
    /// # Panics
    /// If there are fewer values than [`running_statistics`](Self::running_statistics) gives.
    pub fn set_running_statistics(&self, mut values: &[f32]) {
        for state in self.running_states() {
            let old = state.value_sync();
            let (own, rest) = values.split_at(old.shape().num_elements());
            values = rest;
            state.update(Tensor::from_floats(own, &old.device()));
        }
    }

    fn running_states(&self) -> Vec<&RunningState<Tensor<1>>> {
        let norms = self.pieces.iter().flat_map(|piece| match piece {
            Piece::Norm(Norm::Batch(norm)) => vec![&norm.running_mean, &norm.running_var],
            Piece::Norm(Norm::Static(norm)) => vec![&norm.running_mean, &norm.running_var],
            _ => Vec::new(),
        });
        norms.collect()
    }

    /// The name of a batch norm in training that sees a single position of each image.
    pub fn norm_of_one_position(&self) -> Option<String> {
        let small = self.graph.nodes.iter().filter(|node| node.size == 1);
        let mut trained = small.filter_map(|node| match node.op {
            Op::Piece(index) => match &self.pieces[index] {
                Piece::Norm(Norm::Batch(norm)) if norm.training.is_enabled() => Some(index),
                _ => None,
            },
            _ => None,
        });
        trained.next().map(|index| self.piece_name(index).to_owned())
    }

    /// Computes convolutions and linear layers in another type.
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

    /// Side of a piece's input, in pixels.
    fn input_size(&self, piece: usize) -> usize {
        let node = self.graph.nodes.iter().find(|node| node.op == Op::Piece(piece));
        let input = node.and_then(|node| node.inputs.first());
        input.map_or(1, |input| self.graph.nodes[*input].size)
    }
}

/// Layers in execution order.
impl Network {
    /// Its convolutional and linear layers.
    pub fn layers(&self) -> Vec<Visited<'_>> {
        let layers = self.pieces.iter().enumerate().filter_map(|(piece, part)| match part {
            Piece::Conv(conv) => Some((piece, Layer::Conv(conv), self.input_size(piece))),
            Piece::Linear(linear) => Some((piece, Layer::Linear(linear), 1)),
            _ => None,
        });
        layers
            .enumerate()
            .map(|(index, (piece, layer, input_size))| Visited {
                index,
                name: self.names[piece].clone(),
                layer,
                input_size,
            })
            .collect()
    }

    /// The same layers, to change.
    pub fn layers_mut(&mut self) -> Vec<LayerMut<'_>> {
        let layers = self.pieces.iter_mut().filter_map(|piece| match piece {
            Piece::Conv(conv) => Some(LayerMut::Conv(conv)),
            Piece::Linear(linear) => Some(LayerMut::Linear(linear)),
            _ => None,
        });
        layers.collect()
    }

    /// Its quantizers, to change.
    pub fn quantizers_mut(&mut self) -> Vec<(Role, &mut Quantizer)> {
        self.layers_mut().into_iter().flat_map(LayerMut::quantizers).collect()
    }
}

impl QuantizedModule for Network {
    fn pytorch_name(&self, path: &str) -> String {
        let mut parts = path.splitn(3, '.');
        let (_, index, rest) = (parts.next(), parts.next(), parts.next());
        let name = index.and_then(|index| self.names.get(index.parse::<usize>().ok()?));
        match (name, rest) {
            // A learned number has no name beside its piece's.
            (Some(name), Some("value")) => name.clone(),
            (Some(name), Some(rest)) => format!("{name}.{rest}"),
            _ => path.to_owned(),
        }
    }

    fn network_config(&self) -> Option<&NetworkConfig> {
        Some(&self.config)
    }

    fn layer_shapes(&self) -> Vec<LayerShape> {
        let shapes = self.layers().into_iter().map(|visited| {
            let weight = visited.layer.weight_shape();
            let (bias, size) = match visited.layer {
                Layer::Conv(conv) => {
                    let padded = visited.input_size + 2 * conv.padding;
                    (&conv.bias, (padded - weight[2]) / conv.stride + 1)
                }
                Layer::Linear(linear) => (&linear.bias, 1),
            };
            let bias = bias.as_ref().map_or(0, |bias| bias.lazy_shape().num_elements());
            LayerShape { name: visited.name, weight, bias, output_size: Some(size) }
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

    fn is_trained(&self, name: &str) -> bool {
        let within = |owner: &str| name.strip_prefix(owner)?.strip_prefix('.');
        let frozen = self.pieces.iter().zip(&self.names).any(|(piece, owner)| {
            matches!(piece, Piece::Norm(norm) if !norm.is_trained()) && within(owner).is_some()
        });
        // A quantizer's values are trained where it says that they are learned.
        let layers = self.layers();
        let mut quantizers = layers.iter().flat_map(|visited| visited.layer.quantizers());
        let kept = quantizers.any(|(_, quantizer)| {
            let field = within(quantizer.name());
            let learned = |field| quantizer.learned().iter().any(|learned| learned.name == field);
            field.is_some_and(|field| !learned(field))
        });
        !frozen && !kept && !is_running(name)
    }
}

impl Pieces for Network {
    fn normalizes(&self, op: &Op) -> bool {
        let Op::Piece(index) = op else { return false };
        matches!(self.pieces[*index], Piece::Norm(Norm::Batch(_)))
    }

    fn normalize(&self, normalization: Normalization) -> Tensor<4> {
        let Normalization { op, x, add, relu } = normalization;
        let Op::Piece(index) = op else { unreachable!("pieces normalise") };
        match &self.pieces[index] {
            Piece::Norm(Norm::Batch(norm)) => norm.forward_add_relu(x, add, relu),
            _ => unreachable!("only batch norms wait"),
        }
    }

    fn apply(&self, op: &Op, x: Tensor<4>) -> Tensor<4> {
        let (Op::Piece(index) | Op::AddScalar(index) | Op::MulScalar(index)) = op else {
            return x;
        };
        match (&self.pieces[*index], op) {
            (Piece::Conv(layer), _) => layer.forward(x),
            (Piece::Linear(layer), _) => {
                let y = layer.forward(x.flatten(1, 3));
                let [batch, outputs] = y.dims();
                y.reshape([batch, outputs, 1, 1])
            }
            (Piece::Norm(layer), _) => layer.forward(x),
            (Piece::Activation(layer), _) => layer.forward(x),
            (Piece::Scalar(scalar), Op::AddScalar(_)) => x + scalar.value.val().reshape([1; 4]),
            (Piece::Scalar(scalar), _) => x * scalar.value.val().reshape([1; 4]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resnet::{Depth, Kernel, LosslessDownsample, Stem};

    /// A configuration of which only the fields without a default are said.
    fn least(architecture: &str, said: serde_json::Value) -> NetworkConfig {
        let mut fields = said;
        fields["architecture"] = architecture.into();
        (fields["classes"], fields["input_size"]) = (10.into(), 64.into());
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn what_a_description_leaves_out_is_as_new_makes_it() {
        let none = || serde_json::json!({});
        let residual = serde_json::json!({ "depth": "resnet50", "stem": "cifar" });
        for (read, made) in [
            (
                least("resnet", residual),
                ResNetConfig::new(Depth::ResNet50, Stem::Cifar, 10, 64).into(),
            ),
            (
                least("mobilenet-v1", none()),
                NetworkConfig::MobilenetV1(MobileNetV1Config::new(10, 64)),
            ),
            (
                least("mobilenet-v2", none()),
                NetworkConfig::MobilenetV2(MobileNetV2Config::new(10, 64)),
            ),
            (least("vgg-small", none()), NetworkConfig::VggSmall(VggSmallConfig::new(10, 64))),
            (least("nin", none()), NetworkConfig::Nin(NinConfig::new(10, 64))),
        ] {
            assert_eq!(read, made);
        }
    }

    #[test]
    fn a_mobilenet_has_the_strides_of_its_images_unless_told_otherwise() {
        let width_alpha = 0.0625;
        let v1 = |strided_stem, size| {
            let config =
                MobileNetV1Config { width_alpha, strided_stem, ..MobileNetV1Config::new(2, size) };
            config.init(&Device::flex()).unwrap().block_shapes()
        };
        let v2 = |small_images, size| {
            let config =
                MobileNetV2Config { width_alpha, small_images, ..MobileNetV2Config::new(2, size) };
            config.init(&Device::flex()).unwrap().block_shapes()
        };
        assert_eq!((v1(None, 32), v1(None, 64)), (v1(Some(false), 32), v1(Some(true), 64)));
        assert_ne!(v1(None, 32), v1(Some(true), 32));
        assert_eq!((v2(None, 32), v2(None, 64)), (v2(Some(true), 32), v2(Some(false), 64)));
        assert_ne!(v2(None, 32), v2(Some(false), 32));
    }

    #[test]
    fn choices_that_a_place_does_not_have_are_refused() {
        let base = ResNetConfig::new(Depth::ResNet20, Stem::Cifar, 2, 32);
        let second = ResNetConfig { second_kernel: Kernel::None, ..base.clone() };
        let text = second.validate().unwrap_err().to_string();
        assert!(text.contains("second_kernel = none: expected usual, one or three"), "{text}");
        let order = "cbbbb".to_owned();
        let lossless = Some(LosslessDownsample { order, whole_block: false });
        let text = ResNetConfig { lossless_downsample: lossless, ..base }.validate().unwrap_err();
        assert!(text.to_string().ends_with("expected c, ca, cb or cba"));
    }

    #[test]
    fn a_seed_gives_the_same_weights_whatever_other_threads_draw_behind_theirs() {
        let draw = |seed| {
            let config: NetworkConfig = ResNetConfig {
                width_alpha: 0.05,
                ..ResNetConfig::new(Depth::ResNet18, Stem::ImageNet, 3, 32)
            }
            .into();
            let network = config.init_seeded(seed, &Device::flex()).unwrap();
            StateDict::of(&network).to_bytes().unwrap()
        };
        let expected = draw(5);
        assert_ne!(expected, draw(6));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..12).map(|_| scope.spawn(|| draw(5))).collect();
            for thread in threads {
                assert!(thread.join().unwrap() == expected, "the weights differ");
            }
        });
    }
}
