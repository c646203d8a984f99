//! Builds VGG-small.

use burn::tensor::Device;

use super::builder::{Builder, ConvSpec, LayerPosition};
use crate::{
    config::{
        NetworkConfig,
        vgg_small::{PlainOrder, VggSmallConfig},
    },
    error::NetworkError,
    graph::Op,
    network::Network,
};

impl VggSmallConfig {
    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// [`NetworkError::Field`], [`NetworkError::Structure`], and the errors of the quantizers.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        self.validate()?;
        let layers = (self.norm, self.activation);
        let mut builder = Builder::new(device, &self.quantization, layers, self.input_size);
        let b = &mut builder;
        let mut x = b.input();
        for (index, channels) in [128, 128, 256, 256, 512, 512].into_iter().enumerate() {
            let number = index + 1;
            for letter in self.order.letters().chars() {
                // With the orders that begin with a norm or an activation, both are left out in
                // front of the first convolution.
                let first = number == 1 && self.order != PlainOrder::Cba;
                x = match letter {
                    'c' => {
                        let place =
                            if number == 1 { LayerPosition::First } else { LayerPosition::Inner };
                        let conv = ConvSpec::new(channels, 3, 1).at(place);
                        b.conv(x, &format!("conv{number}"), conv)?
                    }
                    _ if first => x,
                    'b' => b.norm(x, &format!("bn{number}"))?,
                    _ => b.activation(x, &format!("relu{number}")),
                };
            }
            if number % 2 == 0 {
                x = b
                    .op(x, Op::MaxPool { kernel_size: 2, stride: 2, padding: 0, ceil_mode: false });
            }
        }
        x = b.norm(x, "bn7")?;
        x = b.activation(x, "relu7");
        b.classifier(x, "classifier", self.classes)?;
        Ok(builder.finish(NetworkConfig::VggSmall(self.clone())))
    }
}
