//! Adds quantizers to a small Burn model that does not use this project's networks: one call
//! quantizes the weights of its stock layers, and a module quantizes its activations.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, Relu, conv::Conv2d, conv::Conv2dConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Tensor};
use quant_core::{Levels, Method, Quantizer, QuantizerConfig, QuantizerError, Role, Site};

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    quant: Quantizer,
    fc: Linear,
}

impl Net {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = Relu::new().forward(self.conv.forward(x));
        self.fc.forward(self.quant.forward(x).flatten(1, 3))
    }
}

#[expect(clippy::print_stdout, reason = "an example's output")]
fn main() -> Result<(), QuantizerError> {
    // A GPU if this is built for one, else the CPU. The environment variable BURN_DEVICE chooses.
    let device = Device::default().autodiff();
    let lsq = |role| Ok(QuantizerConfig::new(Method::Lsq, role, Levels::from_bits(2)?));
    let site = Site::activation("conv", 4);
    let net = Net {
        conv: Conv2dConfig::new([1, 4], [3, 3]).init(&device),
        quant: lsq(Role::Activation)?.init(&site, &device)?,
        fc: LinearConfig::new(4 * 6 * 6, 1).init(&device),
    };
    // From here on, conv.weight.val() and fc.weight.val() return quantized weights.
    let is_weight = |path: &str| path.ends_with("weight");
    let mut net = quant_core::quantize_weights(net, &lsq(Role::Weight)?, is_weight)?;

    // The model learns how much brighter the upper half of an image is than the lower half.
    let mut optimizer = SgdConfig::new().init();
    for step in 0..=200 {
        let x = Tensor::<4>::random([64, 1, 8, 8], Distribution::Default, &device);
        let half = |from: usize| x.clone().narrow(2, from, 4).flatten::<2>(1, 3).mean_dim(1);
        let target = (half(0) - half(4)) * 10.0;
        let loss = (target - net.forward(x)).square().mean();
        if step % 50 == 0 {
            println!("step {step}: loss {:.3}", loss.clone().into_scalar::<f32>());
        }
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        net = optimizer.step(0.05, net, grads);
    }
    let mut levels: Vec<f32> = net.conv.weight.val().into_data().iter().collect();
    levels.sort_by(f32::total_cmp);
    levels.dedup();
    println!("conv.weight takes the values {levels:?}");
    Ok(())
}
