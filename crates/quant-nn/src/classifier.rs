//! What the trainer needs from a network. [`Network`] implements it; for other networks, `forward`
//! is the only method that has to be written.

use std::collections::{BTreeMap, HashMap, HashSet};

use burn::{
    module::{ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Tensor, TensorData},
};

use crate::{
    layers::{Compute, norm::SumOverProcesses},
    network::Network,
    state::{parameter_names, running_states},
    visit::QuantizedModule,
};

/// A block of a network, whose output can be compared with that of a teacher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOutput {
    /// The name of the block, such as `layer2.0`.
    pub name: String,
    /// The number of channels of its output.
    pub channels: usize,
    /// The side of its output, in pixels.
    pub size: usize,
}

/// A network that classifies images and can be trained.
///
/// ```
/// use burn::{module::Module, nn::Linear, tensor::Tensor};
/// use quant_core::Quantizer;
/// use quant_nn::{Classifier, QuantizedModule};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     quant: Quantizer,
///     fc: Linear,
/// }
///
/// impl QuantizedModule for Net {}
///
/// impl Classifier for Net {
///     fn forward(&self, images: Tensor<4>) -> Tensor<2> {
///         self.fc.forward(self.quant.forward(images).flatten(1, 3))
///     }
/// }
/// ```
pub trait Classifier: QuantizedModule + 'static {
    /// Returns the class scores.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`, normalised
    /// - output: `[batch, classes]`
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;

    /// Returns the outputs that [`forward_blocks`](Self::forward_blocks) gives. By default there
    /// are none, and distillation of the kind `feature` is not possible.
    fn blocks(&self) -> Vec<BlockOutput> {
        Vec::new()
    }

    /// Returns the class scores, as [`forward`](Self::forward) does, and the output of each block
    /// in the order of [`blocks`](Self::blocks), `[batch, channels, height, width]`.
    fn forward_blocks(&self, images: Tensor<4>) -> (Tensor<2>, Vec<Tensor<4>>) {
        (self.forward(images), Vec::new())
    }

    /// Returns a description of the network's structure. A checkpoint is loaded only into a network
    /// with the same description. By default it consists of the names and shapes of the parameters,
    /// without those of quantizers, because policies change these.
    fn structure(&self) -> serde_json::Value {
        struct Shapes<'a> {
            names: &'a HashMap<ParamId, String>,
            quantizers: Vec<String>,
            shapes: BTreeMap<String, Vec<usize>>,
        }
        impl ModuleVisitor for Shapes<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let other =
                    |name: &&String| !self.quantizers.iter().any(|start| name.starts_with(start));
                if let Some(name) = self.names.get(&param.id).filter(other) {
                    self.shapes.insert(name.clone(), param.lazy_shape().to_vec());
                }
            }
        }
        let names = parameter_names(self);
        let quantizers = self.quantizer_prefixes();
        let mut shapes = Shapes { names: &names, quantizers, shapes: BTreeMap::new() };
        self.visit(&mut shapes);
        shapes.shapes.into_iter().collect()
    }

    /// Returns the name of a batch norm that sees a single position of each image, such as one
    /// after a global pooling. It cannot be trained with one image, because the variance of one
    /// value is 0. By default this is not known: then a batch norm of this crate panics, and
    /// Burn's own learns from zeros.
    fn norm_of_one_position(&self) -> Option<String> {
        None
    }

    /// Returns the same network with batch norms that normalise the batches of several processes
    /// together. Returns `None` if the network does not support it, which is the default.
    fn with_shared_statistics(self, _sums: &SumOverProcesses) -> Option<Self> {
        None
    }

    /// Returns the same network with batch norms that keep their running statistics if their name
    /// contains one of these texts. Returns `None` if the network does not support it, which is the
    /// default.
    fn with_frozen_statistics(self, _names: &[String]) -> Option<Self> {
        None
    }

    /// Returns the same network, which computes convolutions and linear layers in another type. By
    /// default the network does not change.
    #[must_use]
    fn with_compute(self, _compute: Compute) -> Self {
        self
    }

    /// Returns the running means and variances of the norms, one after another. Processes exchange
    /// them. By default these are all running states of Burn that do not belong to quantizers.
    fn running_statistics(&self) -> Vec<f32> {
        struct Read<'a>(&'a HashSet<ParamId>, Vec<f32>);
        impl ModuleVisitor for Read<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if self.0.contains(&param.id) {
                    self.1.extend(param.val().into_data().convert::<f32>().iter::<f32>());
                }
            }
        }
        let ids = running_ids(self);
        let mut read = Read(&ids, Vec::new());
        self.visit(&mut read);
        read.1
    }

    /// Sets the running statistics, in the order in which `running_statistics` returns them.
    fn set_running_statistics(&mut self, values: &[f32]) {
        struct Write<'a>(&'a HashSet<ParamId>, &'a [f32]);
        impl ModuleMapper for Write<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let count = param.lazy_shape().num_elements();
                if !self.0.contains(&param.id) || self.1.len() < count {
                    return param;
                }
                let (own, rest) = self.1.split_at(count);
                self.1 = rest;
                param.map(|old| {
                    let data = TensorData::new(own.to_vec(), old.shape());
                    Tensor::from_data(data, &old.device()).set_require_grad(old.is_require_grad())
                })
            }
        }
        let ids = running_ids(self);
        *self = self.clone().map(&mut Write(&ids, values));
    }
}

/// Returns the identities of the running statistics of norms.
fn running_ids(network: &impl QuantizedModule) -> HashSet<ParamId> {
    let quantizers = network.quantizer_prefixes();
    let of_quantizer = |name: &str| quantizers.iter().any(|start| name.starts_with(start));
    let mut running = running_states(network);
    for (id, _) in parameter_names(network).into_iter().filter(|(_, name)| of_quantizer(name)) {
        running.remove(&id);
    }
    running
}

impl Classifier for Network {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        Network::forward(self, images)
    }

    fn blocks(&self) -> Vec<BlockOutput> {
        let names = Network::blocks(self).into_iter().zip(self.block_shapes());
        let outputs = names.map(|(name, (channels, size))| BlockOutput {
            name: name.to_owned(),
            channels,
            size,
        });
        outputs.collect()
    }

    fn forward_blocks(&self, images: Tensor<4>) -> (Tensor<2>, Vec<Tensor<4>>) {
        Network::forward_blocks(self, images)
    }

    fn structure(&self) -> serde_json::Value {
        serde_json::to_value(self.config()).unwrap_or_default()
    }

    fn norm_of_one_position(&self) -> Option<String> {
        Network::norm_of_one_position(self)
    }

    fn with_shared_statistics(self, sums: &SumOverProcesses) -> Option<Self> {
        Some(Network::with_shared_statistics(self, sums))
    }

    fn with_frozen_statistics(self, names: &[String]) -> Option<Self> {
        let chosen = |name: &str| names.iter().any(|text| name.contains(text));
        Some(Network::with_frozen_statistics(self, chosen))
    }

    fn with_compute(self, compute: Compute) -> Self {
        Network::with_compute(self, compute)
    }

    fn running_statistics(&self) -> Vec<f32> {
        Network::running_statistics(self)
    }

    fn set_running_statistics(&mut self, values: &[f32]) {
        Network::set_running_statistics(self, values);
    }
}
