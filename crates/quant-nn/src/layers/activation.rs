//! Activation functions.

use crate::ops::relu;
use burn::{
    module::{Module, Param},
    tensor::{
        Device, Tensor,
        activation::{leaky_relu, prelu},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The activation function of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActivationKind {
    /// max(x, 0).
    #[default]
    ReLU,
    /// x: no activation.
    NReLU,
    /// min(max(x, 0), 6).
    ReLU6,
    /// x where x > 0, else x/100.
    LReLU,
    /// x where x > 0, else a·x, with one learned slope.
    PReLU,
    /// ReActNet's PReLU with learned shifts, [`RPReLU`].
    RPReLU,
}

/// An activation function with a state.
#[derive(Module, Debug)]
pub enum Activation {
    /// [`ActivationKind::PReLU`].
    PReLU(PReLU),
    /// [`ActivationKind::RPReLU`].
    RPReLU(RPReLU),
}

impl Activation {
    /// Makes the activation function for inputs of `channels` channels. Returns `None` for a kind
    /// without a state.
    pub(crate) fn new(kind: ActivationKind, channels: usize, device: &Device) -> Option<Self> {
        match kind {
            ActivationKind::PReLU => Some(Activation::PReLU(PReLU::new(device))),
            ActivationKind::RPReLU => Some(Activation::RPReLU(RPReLU::new(channels, device))),
            _ => None,
        }
    }

    /// Returns the activation of x, `[batch, channels, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Activation::PReLU(layer) => prelu(x, layer.weight.val()),
            Activation::RPReLU(layer) => layer.forward(x),
        }
    }
}

impl ActivationKind {
    /// Returns the activation of x for a kind without a state. Kinds with a state return x
    /// unchanged.
    pub(crate) fn forward(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            ActivationKind::ReLU => relu(x),
            ActivationKind::ReLU6 => relu(x).clamp_max(6.0),
            ActivationKind::LReLU => leaky_relu(x, 0.01),
            ActivationKind::NReLU | ActivationKind::PReLU | ActivationKind::RPReLU => x,
        }
    }
}

/// PReLU (He et al. 2015) with one slope, initially 0.25.
#[derive(Module, Debug)]
pub struct PReLU {
    /// The slope below 0, `[1]`.
    pub weight: Param<Tensor<1>>,
}

impl PReLU {
    /// Makes the activation function with PyTorch's initial slope.
    pub fn new(device: &Device) -> Self {
        Self { weight: Param::from_tensor(Tensor::full([1], 0.25, device)) }
    }
}

/// RPReLU (Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation
/// Functions", ECCV 2020, equation 2): a PReLU whose corner is learned too. With the shifts g and z
/// and the slope b of each channel:
///
/// y = x - g + z where x > g, else b·(x - g) + z
///
/// Its counterpart for signs, RSign, is the option `shift` of XNOR activations
/// ([`quant_core::XnorOptions::shift`]).
///
/// **Gradients.** Let d be the incoming gradient. ∂x = d where x > g, else b·d. ∂g = -Σ∂x, ∂z = Σd,
/// and ∂b = Σd·(x - g) over the elements with x <= g. The sums are over each channel.
///
/// **Initial values.** The shifts are 0 and the slope is 0.25, as in PyTorch's PReLU.
#[derive(Module, Debug)]
pub struct RPReLU {
    /// The shift g, which is subtracted before the PReLU, `[channels]`.
    pub shift_in: Param<Tensor<1>>,
    /// The slope b, `[channels]`.
    pub slope: Param<Tensor<1>>,
    /// The shift z, which is added after the PReLU, `[channels]`.
    pub shift_out: Param<Tensor<1>>,
}

impl RPReLU {
    /// Makes the layer for inputs of `channels` channels.
    pub fn new(channels: usize, device: &Device) -> Self {
        let filled = |value| Param::from_tensor(Tensor::full([channels], value, device));
        Self { shift_in: filled(0.0), slope: filled(0.25), shift_out: filled(0.0) }
    }

    /// Returns the activation of x.
    ///
    /// # Shapes
    /// - `x` and output: `[batch, channels, ...]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let per_channel = |param: &Param<Tensor<1>>| {
            let mut shape = [1; D];
            shape[1] = x.dims()[1];
            param.val().reshape(shape)
        };
        let (before, slope, after) =
            (per_channel(&self.shift_in), per_channel(&self.slope), per_channel(&self.shift_out));
        let x = x - before;
        let below = x.clone().lower_equal_elem(0.0);
        x.clone().mask_where(below, x * slope) + after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(param: &mut Param<Tensor<1>>, values: [f32; 2], device: &Device) {
        *param = Param::from_tensor(Tensor::from_floats(values, device));
    }

    #[test]
    fn the_corner_lies_where_the_shifts_put_it() {
        let device = Device::flex().autodiff();
        let mut layer = RPReLU::new(2, &device);
        set(&mut layer.shift_in, [1.0, 0.0], &device);
        set(&mut layer.slope, [0.5, 0.25], &device);
        set(&mut layer.shift_out, [-3.0, 2.0], &device);
        let x = Tensor::<3>::from_floats([[[0.0, 2.0], [-4.0, 1.0]]], &device).require_grad();
        let y = layer.forward(x.clone());
        let gradients = y.clone().sum().backward();
        let host = |tensor: Tensor<3>| tensor.into_data().iter::<f32>().collect::<Vec<f32>>();
        // 0.5·(0 - 1) - 3, 2 - 1 - 3, 0.25·-4 + 2, 1 + 2.
        assert_eq!(host(y), [-3.5, -2.0, 1.0, 3.0]);
        assert_eq!(x.grad(&gradients).map(host), Some(vec![0.5, 1.0, 0.25, 1.0]));
        let grad = |param: &Param<Tensor<1>>| {
            let grad = param.val().grad(&gradients).map(|grad| grad.into_data());
            grad.map(|grad| grad.iter::<f32>().collect::<Vec<f32>>())
        };
        assert_eq!(grad(&layer.shift_in), Some(vec![-1.5, -1.25]));
        assert_eq!(grad(&layer.slope), Some(vec![-1.0, -4.0]));
        assert_eq!(grad(&layer.shift_out), Some(vec![2.0, 2.0]));
    }

    #[test]
    fn a_fresh_one_is_a_leaky_relu() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[-2.0, 3.0]], &device);
        let y: Vec<f32> = RPReLU::new(2, &device).forward(x).into_data().iter().collect();
        assert_eq!(y, [-0.5, 3.0]);
    }
}
