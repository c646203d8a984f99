//! Keeps the networks of several processes equal: their initial values, their gradients and their
//! running statistics.

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};
use quant_nn::{Classifier, StateDict};

use super::Group;
use crate::error::TrainError;

/// Returns in all processes the network of process 0, with its parameters and running statistics.
///
/// # Errors
/// The errors of [`Group::sum`].
pub(crate) fn same_network<M: Classifier>(group: &dyn Group, network: M) -> Result<M, TrainError> {
    if group.size() == 1 {
        return Ok(network);
    }
    let share = if group.rank() == 0 { 1.0 } else { 0.0 };
    let state = StateDict::of(&network);
    let mut entries: Vec<_> =
        state.entries().map(|(name, entry)| (name.to_owned(), entry.clone())).collect();
    let values = entries.iter().flat_map(|(_, entry)| &entry.values);
    let mut sums = group.sum_f32(values.map(|value| *value * share).collect())?.into_iter();
    for (_, entry) in &mut entries {
        entry.values.iter_mut().zip(&mut sums).for_each(|(value, sum)| *value = sum);
    }
    Ok(StateDict::from_entries(entries).load_into(network).0)
}

/// Returns the mean of the gradients of all processes, and whether `flag` is true in any of them.
///
/// # Errors
/// The errors of [`Group::sum_f32`].
pub(crate) fn mean_gradients<M: Module>(
    group: &dyn Group,
    network: &M,
    grads: GradientsParams,
    flag: bool,
) -> Result<(GradientsParams, bool), TrainError> {
    if group.size() == 1 {
        return Ok((grads, flag));
    }
    let mut gather = Gather { grads: &grads, values: Vec::new() };
    network.visit(&mut gather);
    let mut values = gather.values;
    let device = network.devices().into_iter().next().unwrap_or_default().without_autodiff();
    values.push(Tensor::full([1], if flag { 1.0 } else { 0.0 }, &device));
    let sums = group.sum_tensor(Tensor::cat(values, 0))?;
    let last = sums.dims()[0] - 1;
    let flag = sums.clone().narrow(0, last, 1).into_scalar::<f32>() > 0.0;
    let means = sums.div_scalar(group.size() as f64);
    let mut scatter = Scatter { grads, values: means, at: 0 };
    network.visit(&mut scatter);
    Ok((scatter.grads, flag))
}

/// Collects all gradients, one after another.
struct Gather<'a> {
    grads: &'a GradientsParams,
    values: Vec<Tensor<1>>,
}

impl ModuleVisitor for Gather<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            let count = grad.shape().num_elements();
            self.values.push(grad.reshape([count]));
        }
    }
}

struct Scatter {
    grads: GradientsParams,
    values: Tensor<1>,
    at: usize,
}

impl ModuleVisitor for Scatter {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            let shape = grad.shape();
            let count = shape.num_elements();
            let mean = self.values.clone().narrow(0, self.at, count).reshape(shape);
            self.at += count;
            self.grads.register::<D>(param.id, mean);
        }
    }
}

/// Makes the values that are updated from the data equal in all processes: each becomes the mean
/// over the images of all processes. These are the running statistics of norms and quantizers, and
/// with `learned` also the parameters of quantizers, which a warm-up sets from the data. `share` is
/// this process's share of the images.
///
/// # Errors
/// The errors of [`Group::sum_f32`].
pub(crate) fn same_running<M: Classifier>(
    group: &dyn Group,
    network: &mut M,
    learned: bool,
    share: f64,
) -> Result<(), TrainError> {
    if group.size() == 1 {
        return Ok(());
    }
    let mut values = network.running_statistics();
    let statistics = values.len();
    for (_, _, quantizer) in network.quantizers() {
        for (_, value) in quantizer.running() {
            values.extend(value.into_data().iter::<f32>());
        }
        for parameter in quantizer.learned().iter().filter(|_| learned) {
            values.extend(quantizer.learned_values(parameter.name).unwrap_or_default());
        }
    }
    // A process without images has weight 0, even if its values are not finite.
    let weigh = |value: f32| if share == 0.0 { 0.0 } else { (f64::from(value) * share) as f32 };
    let means = group.sum_f32(values.into_iter().map(weigh).collect())?;
    let (statistics, rest) = means.split_at(statistics);
    network.set_running_statistics(statistics);
    let mut rest = rest.iter().copied();
    let mut take = |count: usize| rest.by_ref().take(count).collect::<Vec<f32>>();
    network.change_quantizers(|_, quantizer| {
        let running = quantizer.running().into_iter();
        let running: Vec<_> =
            running.map(|(name, value)| (name, value.shape().num_elements())).collect();
        for (name, count) in running {
            quantizer.set_running(name, &take(count));
        }
        let parameters = quantizer.learned().into_iter().filter(|_| learned);
        let parameters: Vec<_> =
            parameters.map(|l| (l.name, l.value.lazy_shape().num_elements())).collect();
        for (name, count) in parameters {
            quantizer.set_learned(name, &take(count));
        }
    });
    Ok(())
}
