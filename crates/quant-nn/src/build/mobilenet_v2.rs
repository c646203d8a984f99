//! Builds MobileNet v2 (Sandler et al. 2018).

use burn::tensor::Device;

use super::builder::{Builder, ConvSpec, LayerPosition, NodeId};
use crate::{
    config::{
        NetworkConfig,
        mobilenet::{MobileNetV2Config, is_small, scaled},
        resnet::Order,
    },
    error::NetworkError,
    graph::Op,
    network::Network,
};

/// The expansion, the channels, the number of blocks and the stride of each stage.
const V2: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

impl MobileNetV2Config {
    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// [`NetworkError::Field`], [`NetworkError::Structure`], and the errors of the quantizers.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        self.validate()?;
        let alpha = self.width_alpha;
        let layers = (self.norm, self.activation);
        let mut builder = Builder::new(device, &self.quantization, layers, self.input_size);
        let b = &mut builder;
        let stem = ConvSpec::new(scaled(32, alpha), 3, 2).at(LayerPosition::First);
        let mut x = b.conv(b.input(), "features.0.0", stem)?;
        x = b.batch_norm(x, "features.0.1")?;
        x = b.relu(x);
        let small_images = self.small_images.unwrap_or(is_small(self.input_size));
        let mut index = 1;
        for (stage, (expansion, channels, blocks, stride)) in V2.into_iter().enumerate() {
            let stride = if stage == 1 && small_images { 1 } else { stride };
            for block in 0..blocks {
                let name = format!("features.{index}");
                b.enter(&name);
                let stride = if block == 0 { stride } else { 1 };
                x = self.block(b, &name, x, (expansion, scaled(channels, alpha), stride))?;
                index += 1;
            }
        }
        b.enter("");
        let last = if alpha > 1.0 { scaled(1280, alpha) } else { 1280 };
        x = b.conv(x, &format!("features.{index}.0"), ConvSpec::new(last, 1, 1))?;
        x = b.norm(x, &format!("features.{index}.1"))?;
        x = b.activation(x, &format!("features.{index}.2"));
        x = b.op(x, Op::GlobalPool);
        b.classifier(x, "classifier.0", self.classes)?;
        Ok(builder.finish(NetworkConfig::MobilenetV2(self.clone())))
    }

    fn block(
        &self,
        b: &mut Builder<'_>,
        name: &str,
        input: NodeId,
        (expansion, outputs, stride): (usize, usize, usize),
    ) -> Result<NodeId, NetworkError> {
        let inputs = b.channels(input);
        let inner = inputs * expansion;
        let expand = (expansion != 1).then(|| ConvSpec::new(inner, 1, 1));
        let depthwise = ConvSpec { groups: inner, ..ConvSpec::new(inner, 3, stride) };
        let convs: Vec<ConvSpec> =
            expand.into_iter().chain([depthwise, ConvSpec::new(outputs, 1, 1)]).collect();
        let mut x = input;
        for (index, conv) in convs.iter().enumerate() {
            let number = index + 1;
            let last = number == convs.len();
            let letters = if self.order == Order::Bacs { "bac" } else { "cba" };
            for letter in letters.chars() {
                x = match letter {
                    'c' => b.conv(x, &format!("{name}.conv{number}"), *conv)?,
                    'b' => b.norm(x, &format!("{name}.bn{number}"))?,
                    'a' if last && self.order == Order::Cbas => x,
                    _ => b.activation(x, &format!("{name}.relu{number}")),
                };
            }
        }
        if stride != 1 || inputs != outputs {
            return Ok(x);
        }
        if self.order == Order::Bacs {
            let skip = b.norm(input, &format!("{name}.skip_bn"))?;
            let x = b.norm(x, &format!("{name}.fix_bn"))?;
            return b.add(&[x, skip], name);
        }
        b.add(&[x, input], name)
    }
}
