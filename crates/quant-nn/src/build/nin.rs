//! Builds network in network (Lin et al. 2014).

use burn::tensor::Device;

use super::builder::{Builder, ConvSpec, LayerPosition};
use crate::{
    config::{NetworkConfig, nin::NinConfig},
    error::NetworkError,
    graph::Op,
    network::Network,
};

/// The channels and the kernel of the convolutions between the first and the last, and the
/// operation after each.
const LAYERS: [(usize, usize, Option<Op>); 7] = [
    (160, 1, None),
    (96, 1, Some(Op::MaxPool { kernel_size: 3, stride: 2, padding: 1, ceil_mode: false })),
    (192, 5, None),
    (192, 1, None),
    (192, 1, Some(Op::AveragePool(2))),
    (192, 3, None),
    (192, 1, None),
];

impl NinConfig {
    /// Makes the network with freshly drawn weights.
    ///
    /// # Errors
    /// [`NetworkError::Field`], [`NetworkError::Structure`], and the errors of the quantizers.
    pub fn init(&self, device: &Device) -> Result<Network, NetworkError> {
        self.validate()?;
        let layers = (self.norm, self.activation);
        let mut builder = Builder::new(device, &self.quantization, layers, self.input_size);
        let b = &mut builder;
        let first = ConvSpec::new(192, 5, 1).at(LayerPosition::First);
        let mut x = b.conv(b.input(), "conv1", first)?;
        x = b.norm(x, "bn1")?;
        x = b.activation(x, "relu1");
        for (index, (channels, kernel, then)) in LAYERS.into_iter().enumerate() {
            let number = index + 2;
            x = b.conv(x, &format!("conv{number}"), ConvSpec::new(channels, kernel, 1))?;
            x = b.norm(x, &format!("bn{number}"))?;
            x = b.activation(x, &format!("relu{number}"));
            if let Some(op) = then {
                x = b.op(x, op);
            }
        }
        x = b.conv(x, "conv9", ConvSpec::new(self.classes, 1, 1).at(LayerPosition::Last))?;
        b.op(x, Op::GlobalPool);
        Ok(builder.finish(NetworkConfig::Nin(self.clone())))
    }
}
