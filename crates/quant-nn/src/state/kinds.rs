//! Tells parameters that are trained from running statistics, by what they are and not by their
//! names.
//!
//! Burn's visitors show every running state as a parameter. A device without autodiff does not show
//! which parameters take gradients, so a copy of the module is put into training first.

use std::collections::HashSet;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};

/// Returns the identities of the parameters that are trained by gradients. Running statistics,
/// frozen parameters and what quantizers keep besides their learned parameters are not among them.
pub(crate) fn trained<M: Module>(module: &M) -> HashSet<ParamId> {
    partition(&module.valid().train()).0
}

/// Returns the identities of the running states ([`burn::module::RunningState`]).
pub(crate) fn running_states<M: Module>(module: &M) -> HashSet<ParamId> {
    /// Asks every parameter to take gradients, which only running states refuse.
    struct Ask;
    impl ModuleMapper for Ask {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.set_require_grad(true)
        }
    }
    // The copy that `valid` makes shares no running state with the module.
    partition(&module.valid().train().map(&mut Ask)).1
}

/// Returns the parameters that take gradients, and those that take none.
fn partition<M: Module>(module: &M) -> (HashSet<ParamId>, HashSet<ParamId>) {
    struct Parts(HashSet<ParamId>, HashSet<ParamId>);
    impl ModuleVisitor for Parts {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let part = if param.is_require_grad() { &mut self.0 } else { &mut self.1 };
            part.insert(param.id);
        }
    }
    let mut parts = Parts(HashSet::new(), HashSet::new());
    module.visit(&mut parts);
    (parts.0, parts.1)
}
