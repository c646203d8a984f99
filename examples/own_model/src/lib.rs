//! A small network of stock Burn layers that contains quantizers of `quant-core`.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        pool::MaxPool2dConfig,
    },
    tensor::{Tensor, activation::relu, module::adaptive_avg_pool2d},
};
use quant_core::{Quantizer, Site, quantize_weights};
use quant_infer::model::{Op, Pool};
use quant_nn::{Classifier, QuantizedModule};
use quant_train::{
    Build, BuildError,
    deploy::{LowerError, Lowering},
};

/// A depthwise separable convolution with quantized inputs of both convolutions.
#[derive(Module, Debug)]
struct Block {
    before: Option<Quantizer>,
    depthwise: Conv2d,
    norm: BatchNorm,
    between: Option<Quantizer>,
    pointwise: Conv2d,
    norm_out: BatchNorm,
}

/// The network: a stem, three blocks and a classifier.
#[derive(Module, Debug)]
pub struct Net {
    stem: Conv2d,
    norm: BatchNorm,
    blocks: Vec<Block>,
    classifier: Linear,
}

impl Net {
    /// Creates the network for a phase of a recipe.
    ///
    /// # Errors
    /// If a quantizer cannot be created.
    pub fn new(build: &Build<'_>) -> Result<Self, BuildError> {
        let device = build.device;
        let conv = |channels, kernel: usize, groups| {
            Conv2dConfig::new(channels, [kernel; 2])
                .with_padding(PaddingConfig2d::Same)
                .with_groups(groups)
                .with_bias(false)
                .init(device)
        };
        let quantizer = |channels| match &build.quantization.activation {
            Some(config) => config.init(&Site::activation("input", channels), device).map(Some),
            None => Ok(None),
        };
        let norm = |channels| BatchNormConfig::new(channels).init(device);
        let block = |inputs, outputs| -> Result<Block, BuildError> {
            Ok(Block {
                before: quantizer(inputs)?,
                depthwise: conv([inputs, inputs], 3, inputs),
                norm: norm(inputs),
                between: quantizer(inputs)?,
                pointwise: conv([inputs, outputs], 1, 1),
                norm_out: norm(outputs),
            })
        };
        let net = Self {
            stem: conv([3, 16], 3, 1),
            norm: norm(16),
            blocks: vec![block(16, 32)?, block(32, 64)?, block(64, 64)?],
            classifier: LinearConfig::new(64, build.classes).init(device),
        };
        match &build.quantization.weight {
            // The first and the last layer stay in full precision.
            Some(config) => Ok(quantize_weights(net, config, |path| path.starts_with("blocks"))?),
            None => Ok(net),
        }
    }

    /// Describes the network for the engine that runs packed networks: the same operations as in
    /// `forward`, in the same order. Node 0 is the image.
    ///
    /// # Errors
    /// If a quantizer cannot be described.
    pub fn lower(&self, lowering: &mut Lowering) -> Result<(), LowerError> {
        let pool = Pool { kernel: 2, stride: 2, padding: 0, ceil: false };
        let x = lowering.burn_conv("stem", &self.stem, None, 0)?;
        let x = lowering.burn_norm("norm", &self.norm, x);
        let x = lowering.push("relu", Op::Relu, [x]);
        let mut x = lowering.push("pool", Op::MaxPool(pool), [x]);
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.lower(&format!("blocks.{index}"), lowering, x)?;
            x = lowering.push("pool", Op::MaxPool(pool), [x]);
        }
        let x = lowering.push("global pool", Op::GlobalPool, [x]);
        lowering.burn_linear("classifier", &self.classifier, None, x)?;
        Ok(())
    }
}

impl QuantizedModule for Net {}

impl Classifier for Net {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        let halved = |x| pool.forward(x);
        let mut x = halved(relu(self.norm.forward(self.stem.forward(images))));
        for block in &self.blocks {
            x = halved(block.forward(x));
        }
        self.classifier.forward(adaptive_avg_pool2d(x, [1, 1]).flatten(1, 3))
    }
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let quantized = |quantizer: &Option<Quantizer>, x| match quantizer {
            Some(quantizer) => quantizer.forward(x),
            None => x,
        };
        let x = self.depthwise.forward(quantized(&self.before, x));
        let x = quantized(&self.between, relu(self.norm.forward(x)));
        relu(self.norm_out.forward(self.pointwise.forward(x)))
    }

    /// Adds the operations of the block to `lowering`. They read the node `x`, and the result is
    /// the node that is returned.
    fn lower(&self, name: &str, lowering: &mut Lowering, x: usize) -> Result<usize, LowerError> {
        let part = |part: &str| format!("{name}.{part}");
        let (depthwise, pointwise) = (part("depthwise"), part("pointwise"));
        let x = lowering.burn_conv(&depthwise, &self.depthwise, self.before.as_ref(), x)?;
        let x = lowering.burn_norm(&part("norm"), &self.norm, x);
        let x = lowering.push(part("relu"), Op::Relu, [x]);
        let x = lowering.burn_conv(&pointwise, &self.pointwise, self.between.as_ref(), x)?;
        let x = lowering.burn_norm(&part("norm_out"), &self.norm_out, x);
        Ok(lowering.push(part("relu_out"), Op::Relu, [x]))
    }
}
