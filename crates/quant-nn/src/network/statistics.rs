//! The statistics of norms: freezing them, sharing them between processes, and exchanging them.

use burn::{
    module::{Param, RunningState},
    tensor::Tensor,
};

use super::{Network, Submodule};
use crate::layers::norm::{Norm, SumOverProcesses};

impl Network {
    /// Returns the network in which the batch norms that `select` chooses stay in evaluation: their
    /// statistics do not change, but scale and shift are still learned.
    #[must_use]
    pub fn with_frozen_statistics(mut self, select: impl Fn(&str) -> bool) -> Self {
        for (submodule, name) in self.pieces.iter_mut().zip(&self.names) {
            if let Submodule::Norm(Norm::Batch(norm)) = submodule
                && select(name)
            {
                norm.training = Param::from_bool(false);
            }
        }
        self
    }

    /// Returns the network in which batch norms normalise the batches of several processes
    /// together.
    #[must_use]
    pub fn with_shared_statistics(mut self, sums: &SumOverProcesses) -> Self {
        for submodule in &mut self.pieces {
            if let Submodule::Norm(Norm::Batch(norm)) = submodule {
                norm.sums = Some(sums.clone());
            }
        }
        self
    }

    /// Returns the running means and variances of the norms, one norm after another. Processes
    /// exchange them.
    pub fn running_statistics(&self) -> Vec<f32> {
        let states = self.running_states().into_iter();
        states
            .flat_map(|state| state.value_sync().into_data().iter::<f32>().collect::<Vec<_>>())
            .collect()
    }

    /// Sets the running means and variances.
    ///
    /// # Panics
    /// If there are fewer values than [`running_statistics`](Self::running_statistics) gives.
    pub fn set_running_statistics(&self, mut values: &[f32]) {
        for state in self.running_states() {
            let old = state.value_sync();
            let (own, rest) = values.split_at(old.shape().num_elements());
            values = rest;
            state.update(Tensor::from_floats(own, &old.device()));
        }
    }

    fn running_states(&self) -> Vec<&RunningState<Tensor<1>>> {
        let norms = self.pieces.iter().flat_map(|submodule| match submodule {
            Submodule::Norm(Norm::Batch(norm)) => {
                vec![&norm.running_mean, &norm.running_var]
            }
            Submodule::Norm(Norm::Static(norm)) => {
                vec![&norm.running_mean, &norm.running_var]
            }
            _ => Vec::new(),
        });
        norms.collect()
    }
}
