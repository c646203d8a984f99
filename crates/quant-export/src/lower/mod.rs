//! Networks become models.

mod image;
mod layer;
mod norm;
mod prune;
mod quantizer;
pub(crate) mod terms;
mod thresholds;
mod weight;

use std::fmt;

use burn::{
    module::Module,
    nn::{BatchNorm, Linear, conv::Conv2d},
    tensor::Device,
};
use quant_core::Quantizer;
use quant_infer::model::{Input, Model, Node, Op, Pool};
use quant_nn::{
    Network,
    graph::{Node as GraphNode, Op as Graph},
    layers::{
        activation::{Activation, ActivationKind},
        conv::QuantConv2d,
        eltwise::QuantAdd,
        linear::QuantLinear,
        norm::Norm,
    },
    network::Submodule,
};

use crate::{
    error::LowerError,
    explain::{self, Explained},
};
use layer::Layer;

/// What a lowered network says about itself, beside its layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The name of the network.
    pub name: String,
    /// The names of the classes, or none.
    pub classes: Vec<String>,
    /// The images that it takes.
    pub input: Input,
}

impl Options {
    /// Those of a network of this name, without names of classes.
    pub fn new(name: impl Into<String>, input: Input) -> Self {
        Self { name: name.into(), classes: Vec::new(), input }
    }
}

/// The images of a network that was trained with images of `size` x `size` pixels, normalised to
/// (byte/255 - mean)/std per channel: with scale = 1/(255·std) and shift = -mean/std, rounded to 32
/// bits as the trainer rounds them.
pub fn input(size: usize, mean: [f64; 3], std: [f64; 3]) -> Input {
    Input::normalized([size; 2], &mean, &std)
}

/// A network that was lowered for serving, and what changed on the way.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The network as it will be served.
    pub model: Model,
    /// What each convolution and linear layer became, in execution order.
    pub explanation: Vec<Explained>,
    /// The nodes of the model whose codes a quantizer of the network gives, in execution order,
    /// each with the name of this quantizer ([`Quantizer::name`]): layers whose input it quantizes,
    /// and quantizers that stand alone, such as those of outputs and of additions.
    pub quantizers: Vec<(usize, String)>,
}

impl fmt::Display for Lowered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        explain::table(&self.explanation, &self.model, f)
    }
}

/// Lowers a network, as it is in evaluation. Quantizers that are not enabled are left out, and so
/// are nodes that nothing reads.
///
/// The numbers are computed on the network's device. GPUs may round values of quantizers
/// differently from CPUs, so a network has to be on the CPU for a model that is the same
/// everywhere.
///
/// # Errors
/// [`LowerError`] for a quantizer that thresholds cannot describe, for numbers that are not finite,
/// and for a layer whose integers may exceed 32 bits.
pub fn lower(network: &Network, options: Options) -> Result<Lowered, LowerError> {
    let network = network.valid();
    let device = match network.devices().first() {
        Some(device) => device.clone(),
        None => Device::default(),
    };
    let mut lowering = Lowering::new(options, &device);
    let mut places: Vec<usize> = Vec::new();
    for node in &network.graph().nodes {
        let inputs: Vec<usize> = node.inputs.iter().map(|input| places[*input]).collect();
        let place = lowering.graph_node(&network, node, inputs)?;
        places.push(place);
    }
    lowering.finish()
}

/// Lowers a network layer by layer: for a structure of your own that has the layers of `quant-nn`,
/// or layers of Burn with quantizers of `quant-core`.
///
/// Each method adds what a layer computes from the values of nodes, which are given by index, and
/// returns the index of its result. The image has the index 0. [`finish`](Self::finish) makes the
/// model; the node that was added last has the class scores. Layers have to be on a device without
/// autodiff ([`valid`](burn::module::Module::valid)).
///
/// ```
/// use burn::tensor::Device;
/// use quant_core::{Levels, Method, QuantizerConfig, Role};
/// use quant_export::{Lowering, Options, input};
/// use quant_infer::model::Op;
/// use quant_nn::layers::{LayerQuantizers, conv::QuantConv2dConfig, linear::QuantLinearConfig};
///
/// let device = Device::flex();
/// let lsq = |role| Some(QuantizerConfig::new(Method::Lsq, role, Levels::from_bits(4).ok()?));
/// let quantizers = LayerQuantizers {
///     activation: lsq(Role::Activation),
///     weight: lsq(Role::Weight),
///     output: None,
/// };
/// let stem = QuantConv2dConfig::new([3, 8], 3, 1).init("stem", &device)?;
/// let conv = QuantConv2dConfig { quantizers, ..QuantConv2dConfig::new([8, 8], 3, 2) };
/// let conv = conv.init("conv", &device)?;
/// let linear = QuantLinearConfig::new([8, 10]).init("fc", &device)?;
///
/// let options = Options::new("mine", input(16, [0.5; 3], [0.5; 3]));
/// let mut lowering = Lowering::new(options, &device);
/// let x = lowering.conv("stem", &stem, 0)?;
/// let x = lowering.push("relu", Op::Relu, [x]);
/// let x = lowering.conv("conv", &conv, x)?;
/// let x = lowering.push("pool", Op::GlobalPool, [x]);
/// lowering.linear("fc", &linear, x)?;
/// let lowered = lowering.finish()?;
/// assert_eq!(lowered.explanation.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Lowering {
    options: Options,
    device: Device,
    nodes: Vec<Node>,
    /// Why layers compute in floats, by the index of their node.
    reasons: Vec<(usize, String)>,
    /// The names of the network's quantizers, by the index of the node that has the codes.
    quantizers: Vec<(usize, String)>,
}

impl Lowering {
    /// Begins with the image, whose index is 0.
    pub fn new(options: Options, device: &Device) -> Self {
        let image = Node { name: "image".into(), op: Op::Input, inputs: Vec::new() };
        let device = device.clone().without_autodiff();
        let nodes = vec![image];
        Self { options, device, nodes, reasons: Vec::new(), quantizers: Vec::new() }
    }

    /// Adds a node that computes `op` from these nodes.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        op: Op,
        inputs: impl IntoIterator<Item = usize>,
    ) -> usize {
        let inputs = inputs.into_iter().collect();
        self.nodes.push(Node { name: name.into(), op, inputs });
        self.nodes.len() - 1
    }

    /// Adds a convolution with its quantizers.
    ///
    /// # Errors
    /// [`LowerError`] where a quantizer cannot be described.
    pub fn conv(&mut self, name: &str, conv: &QuantConv2d, x: usize) -> Result<usize, LowerError> {
        self.layer(Layer::of_conv(name, conv)?, x)
    }

    /// Adds a linear layer with its quantizers, which reads all elements of `x`.
    ///
    /// # Errors
    /// [`LowerError`] where a quantizer cannot be described.
    pub fn linear(
        &mut self,
        name: &str,
        linear: &QuantLinear,
        x: usize,
    ) -> Result<usize, LowerError> {
        let x = self.push(format!("{name}: flatten"), Op::Flatten, [x]);
        self.layer(Layer::of_linear(name, linear)?, x)
    }

    /// Adds a convolution of Burn. Its weight may have a quantizer
    /// ([`quantize_weights`](quant_core::quantize_weights)), and `activation` is the quantizer of
    /// its input, if there is one: whatever it quantizes must be this input.
    ///
    /// # Errors
    /// [`LowerError`] where a quantizer cannot be described, and for a padding that differs between
    /// opposite sides.
    pub fn burn_conv(
        &mut self,
        name: &str,
        conv: &Conv2d,
        activation: Option<&Quantizer>,
        x: usize,
    ) -> Result<usize, LowerError> {
        self.layer(Layer::of_burn_conv(name, conv, activation)?, x)
    }

    /// Adds a linear layer of Burn, which reads all elements of `x`. Its weight may have a
    /// quantizer, and `activation` is the quantizer of its input, if there is one.
    ///
    /// # Errors
    /// [`LowerError`] where a quantizer cannot be described.
    pub fn burn_linear(
        &mut self,
        name: &str,
        linear: &Linear,
        activation: Option<&Quantizer>,
        x: usize,
    ) -> Result<usize, LowerError> {
        let x = self.push(format!("{name}: flatten"), Op::Flatten, [x]);
        self.layer(Layer::of_burn_linear(name, linear, activation)?, x)
    }

    /// Adds a batch norm of Burn in evaluation.
    pub fn burn_norm(&mut self, name: &str, norm: &BatchNorm, x: usize) -> usize {
        self.push(name, norm::burn_op(norm), [x])
    }

    fn layer(&mut self, layer: Layer<'_>, x: usize) -> Result<usize, LowerError> {
        let image = self.reads_image(x).then_some(&self.options.input);
        let Layer { name, activation, output, .. } = layer;
        let lowered = layer::lower(layer, image, &self.device)?;
        let mut x = x;
        let first = self.nodes.len();
        for op in lowered.before {
            x = self.push(format!("{name}: input"), op, [x]);
        }
        x = self.push(name, Op::Conv(Box::new(lowered.conv)), [x]);
        if let Some(activation) = activation {
            self.note_quantizer(activation, first);
        }
        if let Some(reason) = lowered.reason {
            self.reasons.push((x, reason));
        }
        match output {
            Some(output) => self.quantize(&format!("{name}.quant_output"), output, x),
            None => Ok(x),
        }
    }

    /// Notes that a quantizer gives the codes of the only node from `first` on that has codes.
    fn note_quantizer(&mut self, quantizer: &Quantizer, first: usize) {
        let has_codes = |node: &Node| match &node.op {
            Op::Conv(conv) => conv.quantizer.is_some(),
            op => matches!(op, Op::Quantize(_)),
        };
        if let Some(at) = self.nodes[first..].iter().position(has_codes) {
            self.quantizers.push((first + at, quantizer.name().to_owned()));
        }
    }

    /// Whether the channels of a node are those of the image, each several times or once.
    fn reads_image(&self, x: usize) -> bool {
        match self.nodes.get(x).map(|node| (&node.op, node.inputs.first())) {
            Some((Op::Input, _)) => true,
            Some((Op::SpaceToDepth(_), Some(input))) if *input < x => self.reads_image(*input),
            _ => false,
        }
    }

    /// Adds a quantizer that stands alone. One that is not enabled adds nothing.
    ///
    /// # Errors
    /// [`LowerError`] where it cannot be described.
    pub fn quantize(
        &mut self,
        name: &str,
        quantizer: &Quantizer,
        x: usize,
    ) -> Result<usize, LowerError> {
        if !quantizer.is_enabled() {
            return Ok(x);
        }
        let steps = quantizer::steps(name, quantizer, &self.device)?;
        let first = self.nodes.len();
        let op = Op::Quantize(Box::new(steps.quantizer));
        let ops = steps.before.into_iter().chain([op]).chain(steps.after);
        let x = ops.fold(x, |x, op| self.push(name, op, [x]));
        self.note_quantizer(quantizer, first);
        Ok(x)
    }

    /// Adds an addition of two nodes, with its quantizer.
    ///
    /// # Errors
    /// [`LowerError`] where the quantizer cannot be described.
    pub fn quant_add(
        &mut self,
        name: &str,
        add: &QuantAdd,
        mut terms: [usize; 2],
    ) -> Result<usize, LowerError> {
        if let Some(quantizer) = &add.quant_output {
            for term in &mut terms {
                *term = self.quantize(&format!("{name}.quant_output"), quantizer, *term)?;
            }
        }
        Ok(self.push(name, Op::Add, terms))
    }

    /// Adds a normalisation in evaluation.
    pub fn norm(&mut self, name: &str, norm: &Norm, x: usize) -> usize {
        let ops = norm::ops(norm);
        ops.into_iter().fold(x, |x, op| self.push(name, op, [x]))
    }

    /// Adds an activation function with a state.
    pub fn activation(&mut self, name: &str, activation: &Activation, x: usize) -> usize {
        let op = match activation {
            Activation::PReLU(prelu) => Op::LeakyRelu(norm::host(&prelu.weight)[0]),
            Activation::RPReLU(rprelu) => Op::RPRelu {
                before: norm::host(&rprelu.shift_in),
                slope: norm::host(&rprelu.slope),
                after: norm::host(&rprelu.shift_out),
            },
        };
        self.push(name, op, [x])
    }

    /// Adds a node of a network's graph.
    fn graph_node(
        &mut self,
        network: &Network,
        node: &GraphNode,
        inputs: Vec<usize>,
    ) -> Result<usize, LowerError> {
        let op = &node.op;
        let Some(first) = inputs.first().copied() else { return Ok(0) };
        // Whatever has several inputs adds them first.
        let x = match (op, inputs.len()) {
            (Graph::Concatenate | Graph::Add, _) | (_, 1) => first,
            _ => self.push("add", Op::Add, inputs.clone()),
        };
        let name = |index: &usize| network.submodule_name(*index).to_owned();
        let scalar = |index: &usize| match &network.pieces[*index] {
            Submodule::Scalar(scalar) => norm::host(&scalar.value)[0],
            _ => unreachable!("a learned number"),
        };
        let (name, op) = match op {
            Graph::Input => return Ok(0),
            Graph::Submodule(index) => {
                let name = name(index);
                return match &network.pieces[*index] {
                    Submodule::Conv(conv) => self.conv(&name, conv, x),
                    Submodule::Linear(linear) => self.linear(&name, linear, x),
                    Submodule::Norm(norm) => Ok(self.norm(&name, norm, x)),
                    Submodule::Activation(activation) => Ok(self.activation(&name, activation, x)),
                    Submodule::Scalar(scalar) => {
                        let number = norm::host(&scalar.value)[0];
                        Ok(self.push(name, Op::MulScalar(number), [x]))
                    }
                };
            }
            Graph::Activation(ActivationKind::ReLU) => ("relu".into(), Op::Relu),
            Graph::Activation(ActivationKind::ReLU6) => ("relu6".into(), Op::Relu6),
            Graph::Activation(ActivationKind::LReLU) => ("leaky relu".into(), Op::LeakyRelu(0.01)),
            // These pass their input on; those with a state are submodules.
            Graph::Activation(_) => return Ok(x),
            Graph::InstanceNorm => ("instance norm".into(), Op::GroupNorm(node.channels)),
            Graph::AveragePool(side) => ("average pool".into(), Op::AveragePool(*side)),
            Graph::MaxPool { kernel_size, stride, padding, ceil_mode } => {
                let pool = Pool {
                    kernel: *kernel_size,
                    stride: *stride,
                    padding: *padding,
                    ceil: *ceil_mode,
                };
                ("max pool".into(), Op::MaxPool(pool))
            }
            Graph::GlobalPool => ("global pool".into(), Op::GlobalPool),
            Graph::SpaceToDepth(r) => ("space to depth".into(), Op::SpaceToDepth(*r)),
            Graph::DepthToSpace(r) => ("depth to space".into(), Op::DepthToSpace(*r)),
            Graph::Pad(padding) => ("pad".into(), Op::Pad(*padding)),
            Graph::Repeat(times) => ("repeat".into(), Op::Repeat(*times)),
            Graph::Concatenate => return Ok(self.push("concatenate", Op::Concatenate, inputs)),
            Graph::Add => return Ok(self.push("add", Op::Add, inputs)),
            Graph::AddScalar(index) => (name(index), Op::AddScalar(scalar(index))),
            Graph::MulScalar(index) => (name(index), Op::MulScalar(scalar(index))),
        };
        Ok(self.push(name, op, [x]))
    }

    /// Makes the model; the node that was added last has the class scores.
    ///
    /// # Errors
    /// [`LowerError::Layer`] where a node reads one that does not come before it, and
    /// [`LowerError::Model`] where the model is not valid in another way.
    pub fn finish(self) -> Result<Lowered, LowerError> {
        let Self { options, nodes, reasons, quantizers, .. } = self;
        let Options { name, classes, input } = options;
        for (index, node) in nodes.iter().enumerate() {
            if let Some(absent) = node.inputs.iter().find(|input| **input >= index) {
                let reason = format!(
                    "it is node {index} and reads node {absent}; a node reads only nodes that were \
                     added before it"
                );
                return Err(LowerError::Layer { layer: node.name.clone(), reason });
            }
        }
        let (nodes, place) = prune::used(nodes);
        let reasons = prune::moved(reasons, &place);
        let quantizers = prune::moved(quantizers, &place);
        let producer = concat!("quant-export ", env!("CARGO_PKG_VERSION")).to_owned();
        let model = Model { name, producer, classes, input, nodes };
        model.check()?;
        let explanation = explain::explain(&model, &reasons)?;
        Ok(Lowered { model, explanation, quantizers })
    }
}
