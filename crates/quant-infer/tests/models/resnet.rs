//! A ResNet-20 for images of 32 x 32, as training makes it.

use quant_infer::model::{Input, Model, Node, Op, Weight};

use super::{Random, conv, levels, node};

/// What a file of the network has to hold at least: the bytes of its weights at their true widths,
/// and its numbers of 32 bits, which are float weights, biases, scales, and those of norms.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Content {
    pub(crate) packed: f64,
    pub(crate) floats: usize,
}

#[derive(Debug)]
struct Builder {
    random: Random,
    nodes: Vec<Node>,
    content: Content,
    weight_levels: usize,
    levels: usize,
}

impl Builder {
    fn push(&mut self, name: &str, op: Op, inputs: &[usize]) -> usize {
        self.nodes.push(node(name, op, inputs));
        self.nodes.len() - 1
    }

    fn float_weight(&mut self, count: usize) -> Weight {
        self.content.floats += count;
        Weight::Float(self.random.floats(count))
    }

    fn batch_norm(&mut self, name: &str, input: usize, channels: usize) -> usize {
        self.content.floats += 2 * channels;
        let (scale, shift) = (self.random.floats(channels), self.random.floats(channels));
        self.push(name, Op::Affine { scale, shift }, &[input])
    }

    fn quantized(&mut self, name: &str, input: usize, shape: [usize; 3], stride: usize) -> usize {
        let [inputs, outputs, kernel] = shape;
        let per_channel = inputs * kernel * kernel;
        let weight = levels::weight(&mut self.random, self.weight_levels, outputs, per_channel);
        let count = (outputs * per_channel) as f64;
        self.content.packed += count * (self.weight_levels as f64).log2() / 8.0;
        let terms = weight.terms.iter().flat_map(|terms| &terms.0);
        self.content.floats += terms.map(|term| term.scales.len()).sum::<usize>();
        let mut conv = conv([inputs, outputs], kernel, stride, Weight::Codes(weight));
        conv.quantizer = Some(levels::clipped(self.random.positive() + 1.0, self.levels));
        self.push(name, Op::Conv(Box::new(conv)), &[input])
    }

    fn block(&mut self, name: &str, input: usize, channels: [usize; 2], stride: usize) -> usize {
        let [inputs, outputs] = channels;
        let x = self.quantized(&format!("{name}.conv1"), input, [inputs, outputs, 3], stride);
        let x = self.batch_norm(&format!("{name}.bn1"), x, outputs);
        let x = self.push(&format!("{name}.relu1"), Op::Relu, &[x]);
        let x = self.quantized(&format!("{name}.conv2"), x, [outputs, outputs, 3], 1);
        let x = self.batch_norm(&format!("{name}.bn2"), x, outputs);
        let shortcut = if inputs == outputs {
            input
        } else {
            let name = format!("{name}.downsample");
            let x = self.quantized(&format!("{name}.0"), input, [inputs, outputs, 1], stride);
            self.batch_norm(&format!("{name}.1"), x, outputs)
        };
        let x = self.push(&format!("{name}.add"), Op::Add, &[x, shortcut]);
        self.push(&format!("{name}.relu2"), Op::Relu, &[x])
    }
}

/// The network with 16·`width` channels in its first stage, and what its file has to hold.
pub(crate) fn resnet20(width: usize, weight_levels: usize, levels: usize) -> (Model, Content) {
    let mut net = Builder {
        random: Random(20),
        nodes: Vec::new(),
        content: Content::default(),
        weight_levels,
        levels,
    };
    let first = 16 * width;
    net.push("input", Op::Input, &[]);
    let weight = net.float_weight(first * 27);
    net.push("conv1", Op::Conv(Box::new(conv([3, first], 3, 1, weight))), &[0]);
    let x = net.batch_norm("bn1", 1, first);
    let mut x = net.push("relu", Op::Relu, &[x]);
    let mut inputs = first;
    for stage in 0..3 {
        let outputs = first << stage;
        for block in 0..3 {
            let name = format!("layer{}.{block}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = net.block(&name, x, [inputs, outputs], stride);
            inputs = outputs;
        }
    }
    let x = net.push("avgpool", Op::GlobalPool, &[x]);
    let weight = net.float_weight(10 * inputs);
    let mut linear = conv([inputs, 10], 1, 1, weight);
    linear.bias = Some(net.random.floats(10));
    net.content.floats += 10;
    net.push("fc", Op::Conv(Box::new(linear)), &[x]);
    let model = Model {
        name: "resnet20".into(),
        producer: "quant 0.1.0".into(),
        classes: (0..10).map(|class| format!("class {class}")).collect(),
        input: Input {
            size: [32; 2],
            shorter_side: None,
            scale: vec![0.017; 3],
            shift: vec![-2.1, -2.0, -1.8],
        },
        nodes: net.nodes,
    };
    (model, net.content)
}
