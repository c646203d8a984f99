//! The order in which the weights of convolutions lie in memory.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::Tensor,
};

/// Returns the module with the weights of its convolutions in the order in which the GPU backends
/// multiply them: `[out, kernel, kernel, in]` in memory. Their shape stays `[out, in, kernel,
/// kernel]`, and so do their values. On the CPU, nothing changes.
///
/// Burn's convolutions on GPUs copy a weight of another order in every forward and backward pass.
/// Quantizers, batch norms and SGD keep the order that they are given.
pub fn channels_last<M: Module>(module: M) -> M {
    module.map(&mut ChannelsLast)
}

struct ChannelsLast;

impl ModuleMapper for ChannelsLast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        if D != 4 || shape[1] == 1 || shape[2] * shape[3] == 1 || !super::is_on_gpu(&param.val()) {
            return param;
        }
        let axes = |order: [isize; 4]| std::array::from_fn::<isize, D, _>(|axis| order[axis]);
        param.map(|weight| {
            let (tracked, trained) = (weight.device().is_autodiff(), weight.is_require_grad());
            let weight = if tracked { weight.inner() } else { weight };
            let device = weight.device();
            // Reading the numbers brings them into the order of the shape.
            let data = weight.permute(axes([0, 2, 3, 1])).into_data();
            let weight = Tensor::from_data(data, &device).permute(axes([0, 3, 1, 2]));
            if !tracked {
                return weight;
            }
            Tensor::from_inner(weight).set_require_grad(trained)
        })
    }
}
