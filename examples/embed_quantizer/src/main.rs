//! Quantizers in a small Burn model that is not ours: weights of its stock layers in one call,
//! activations by a module.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig, Relu, conv::{Conv2d, Conv2dConfig}},
    optim::{GradientsParams, SgdConfig},
    tensor::{Device, Distribution, Tensor},
};
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
    let device = Device::flex().autodiff();
    let two_bits = Levels::from_bits(2)?;
    let activation = QuantizerConfig::new(Method::Lsq, Role::Activation, two_bits);
    let site = Site { positions: Some(6 * 6), ..Site::activation("conv", 4) };
    let net = Net {
        conv: Conv2dConfig::new([1, 4], [3, 3]).init(&device),
        quant: activation.init(&site, &device)?,
        fc: LinearConfig::new(4 * 6 * 6, 2).init(&device),
    };
    // From here on, conv.weight.val() and fc.weight.val() are quantized.
    let weight = QuantizerConfig::new(Method::Lsq, Role::Weight, two_bits);
    let mut net = quant_core::quantize_weights(net, &weight, |path| path.ends_with("weight"))?;

    // Learn whether the upper half is brighter than the lower.
    let mut optimizer = SgdConfig::new().init();
    for step in 0..=200 {
        let x = Tensor::<4>::random([64, 1, 8, 8], Distribution::Default, &device);
        let half = |from: usize| x.clone().narrow(2, from, 4).flatten::<2>(1, 3).mean_dim(1);
        let target = (half(0) - half(4)).sign();
        let difference = net.forward(x).matmul(Tensor::from_floats([[1.0], [-1.0]], &device));
        let loss = (target - difference).powf_scalar(2.0).mean();
        if step % 50 == 0 {
            println!("step {step}: loss {:.3}", loss.clone().into_scalar::<f32>());
        }
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        net = optimizer.step(0.05, net, grads);
    }
    println!("levels of conv.weight: {:?}", levels(net.conv.weight.val()));
    Ok(())
}

fn levels(weight: Tensor<4>) -> Vec<f32> {
    let mut values: Vec<f32> = weight.into_data().iter().collect();
    values.sort_by(f32::total_cmp);
    values.dedup();
    values
}
