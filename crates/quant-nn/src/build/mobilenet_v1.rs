//! Builds MobileNet v1 (Howard et al. 2017).

use burn::tensor::Device;

use super::{
    builder::{Builder, ConvSpec, LayerPosition, NodeId},
    mobilenet_v1_blocks::BLOCKS,
};
use crate::{
    config::{
        NetworkConfig,
        mobilenet::{MobileNetV1Config, MobileSkip, is_small, scaled},
    },
    error::NetworkError,
    graph::Op,
    network::Network,
};

impl MobileNetV1Config {
    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// [`NetworkError::Field`], [`NetworkError::Structure`], and the errors of the quantizers.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        self.validate()?;
        let layers = (self.norm, self.activation);
        let mut builder = Builder::new(device, &self.quantization, layers, self.input_size);
        let b = &mut builder;
        let strided = self.strided_stem.unwrap_or(!is_small(self.input_size));
        let stride = 1 + usize::from(strided);
        let stem = ConvSpec::new(scaled(32, self.width_alpha), 3, stride).at(LayerPosition::First);
        let mut x = b.conv(b.input(), "root.0", stem)?;
        if !self.pre_norm {
            x = b.batch_norm(x, "root.1")?;
            x = b.activation(x, "root.2");
        }
        for (index, (channels, stride)) in BLOCKS.into_iter().enumerate() {
            let name = format!("model.{index}");
            b.enter(&name);
            x = self.block(b, &name, x, (scaled(channels, self.width_alpha), stride))?;
        }
        b.enter("");
        if self.pre_norm {
            x = b.batch_norm(x, "bn.0")?;
            x = b.activation(x, "bn.1");
        }
        x = b.op(x, Op::GlobalPool);
        b.classifier(x, "classifier.0", self.classes)?;
        Ok(builder.finish(NetworkConfig::MobilenetV1(self.clone())))
    }

    fn block(
        &self,
        b: &mut Builder<'_>,
        name: &str,
        x: NodeId,
        (outputs, stride): (usize, usize),
    ) -> Result<NodeId, NetworkError> {
        let inputs = b.channels(x);
        let layer_wise = self.skip == MobileSkip::Layer;
        let residual = match self.skip {
            MobileSkip::Block => Some(self.skip_branch(b, name, x, (outputs, stride))?),
            _ => None,
        };
        let depthwise = ConvSpec {
            groups: if self.normal_3x3 { 1 } else { inputs },
            ..ConvSpec::new(inputs, 3, stride).quantized(!self.real_depthwise)
        };
        let skip = layer_wise.then(|| b.average_pool(x, stride));
        let middle = self.half(b, (name, 1, 0), x, depthwise, skip)?;
        let pointwise = ConvSpec::new(outputs, 1, 1).quantized(!self.real_pointwise);
        let y = if layer_wise && outputs != inputs {
            if self.double_by_concatenation {
                let halves = (0..outputs / inputs)
                    .map(|half| {
                        let conv = ConvSpec { outputs: inputs, ..pointwise };
                        self.half(b, (name, 2, half), middle, conv, Some(middle))
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                b.concatenate(&halves)
            } else {
                let doubled = b.op(middle, Op::Repeat(outputs / inputs));
                self.half(b, (name, 2, 0), middle, pointwise, Some(doubled))?
            }
        } else {
            let skip = layer_wise.then_some(middle);
            self.half(b, (name, 2, 0), middle, pointwise, skip)?
        };
        match residual {
            Some(residual) => b.add(&[y, residual], name),
            None => Ok(y),
        }
    }

    fn skip_branch(
        &self,
        b: &mut Builder<'_>,
        name: &str,
        x: NodeId,
        (outputs, stride): (usize, usize),
    ) -> Result<NodeId, NetworkError> {
        let pooled = b.average_pool(x, stride);
        if b.channels(x) == outputs {
            return Ok(pooled);
        }
        let y = b.conv(pooled, &format!("{name}.skip.1"), ConvSpec::new(outputs, 1, 1))?;
        let y = b.norm(y, &format!("{name}.skip.2"))?;
        Ok(b.activation(y, &format!("{name}.skip.3")))
    }

    /// Builds a convolution with its norm, activation and skip, which is the first or second half
    /// of a block.
    fn half(
        &self,
        b: &mut Builder<'_>,
        (name, number, branch): (&str, usize, usize),
        mut x: NodeId,
        conv: ConvSpec,
        skip: Option<NodeId>,
    ) -> Result<NodeId, NetworkError> {
        let conv_name = if number == 1 { "depth_conv" } else { "point_conv" };
        let conv_name = format!("{name}.{conv_name}.{branch}");
        for letter in self.order.letters().chars() {
            x = match (letter, skip) {
                ('c', _) => match self.point_reshape.filter(|_| number == 1) {
                    Some(reshape) if !(reshape.keep_downsample && conv.stride != 1) => {
                        b.point_reshape(x, &conv_name, conv, reshape)?
                    }
                    _ => b.conv(x, &conv_name, conv)?,
                },
                ('b', _) => b.norm(x, &format!("{name}.bn{number}.{branch}"))?,
                ('a', _) => b.activation(x, &format!("{name}.relu{number}.{branch}")),
                (_, Some(skip)) => b.add(&[x, skip], name)?,
                (_, None) => x,
            };
        }
        Ok(x)
    }
}
