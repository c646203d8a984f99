//! What summaries, calibration, monitors and the trainer need from a module with quantizers, and
//! the layers of a network in execution order.

use std::collections::{HashMap, HashSet};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::Tensor,
};
use quant_core::{
    QuantizedWeight, Quantizer, QuantizerError, Reached, Role, WeightCodes, change_quantizers,
    probe, quantized_weights, quantizers, reach::layer_of,
};

use crate::{
    config::NetworkConfig,
    layers::{conv::QuantConv2d, linear::QuantLinear},
    state::{Entry, StateDict, names_of_parameters, trained},
};

/// A layer that may be quantized.
#[derive(Debug, Clone, Copy)]
pub enum Layer<'a> {
    /// A convolution.
    Conv(&'a QuantConv2d),
    /// A linear layer.
    Linear(&'a QuantLinear),
}

/// A layer that may be quantized, to change it.
#[derive(Debug)]
pub enum LayerMut<'a> {
    /// A convolution.
    Conv(&'a mut QuantConv2d),
    /// A linear layer.
    Linear(&'a mut QuantLinear),
}

/// A layer of a network, with its position.
#[derive(Debug, Clone)]
pub struct NetworkLayer<'a> {
    /// The position in execution order, from 0.
    pub index: usize,
    /// The PyTorch name, such as `layer1.0.conv1`.
    pub name: String,
    /// The layer.
    pub layer: Layer<'a>,
    /// The side of the input in pixels, for the input size of the network's configuration.
    pub input_size: usize,
}

impl<'a> Layer<'a> {
    /// Returns the quantizers that the layer has.
    pub fn quantizers(self) -> Vec<(Role, &'a Quantizer)> {
        let (activation, weight, output) = match self {
            Layer::Conv(l) => (&l.quant_activation, &l.quant_weight, &l.quant_output),
            Layer::Linear(l) => (&l.quant_activation, &l.quant_weight, &l.quant_output),
        };
        [(Role::Activation, activation), (Role::Weight, weight), (Role::Output, output)]
            .into_iter()
            .filter_map(|(role, quantizer)| Some((role, quantizer.as_ref()?)))
            .collect()
    }

    /// Returns the shape of the weight.
    pub fn weight_shape(self) -> Vec<usize> {
        match self {
            Layer::Conv(layer) => layer.weight.lazy_shape().to_vec(),
            Layer::Linear(layer) => layer.weight.lazy_shape().to_vec(),
        }
    }
}

/// The shape of a layer, from which [summaries](crate::summarize) are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerShape {
    /// The PyTorch name of the layer, such as `layer1.0.conv1`.
    pub name: String,
    /// The shape of the weight, `[out, in, ...]`. In a layer of g groups this is
    /// `[out, in/g, ...]`, or `[out/g, in, ...]` if the layer is transposed.
    pub weight: Vec<usize>,
    /// The number of elements of the bias; 0 if there is none.
    pub bias: usize,
    /// Whether the layer is a transposed convolution. Each of its weights is multiplied at every
    /// position of the input, and each weight of another layer at every position of the output.
    pub transposed: bool,
    /// The number of channels of the output; `None` if it is not known.
    pub output_channels: Option<usize>,
    /// The side of the output in pixels; `None` if it is known only in a call.
    pub output_size: Option<usize>,
    /// The side of the input in pixels; `None` if it is known only in a call. The
    /// multiply-accumulates of a transposed convolution follow from it.
    pub input_size: Option<usize>,
    /// Whether its input are the images, whose pixels are bytes before they are normalised. `false`
    /// too where only a call would tell.
    pub reads_images: bool,
}

/// A module that contains quantizers: in fields of any of its modules, or on the weights of Burn's
/// own layers.
///
/// An empty implementation is right for any module whose parameters keep their names:
///
/// ```
/// use burn::{module::Module, nn::Linear};
/// use quant_nn::QuantizedModule;
///
/// #[derive(Module, Debug)]
/// struct Net {
///     fc: Linear,
/// }
///
/// impl QuantizedModule for Net {}
/// ```
pub trait QuantizedModule: Module {
    /// Returns the PyTorch name of the parameter or quantizer at a path of the module tree, such as
    /// `layers.0.blocks.1.conv1.weight`. The path does not contain the names of enum variants. By
    /// default the name is the path.
    fn pytorch_name(&self, path: &str) -> String {
        path.to_owned()
    }

    /// Returns the configuration from which the module was made, if there is one. It is stored with
    /// the state.
    fn network_config(&self) -> Option<&NetworkConfig> {
        None
    }

    /// Returns the PyTorch names of the parameters that are trained by gradients. Running
    /// statistics, frozen parameters, and what quantizers keep besides their learned parameters
    /// are not among them.
    fn trained(&self) -> HashSet<String> {
        let trained = trained(self);
        let names = names_of_parameters(self, &|path| self.pytorch_name(path)).into_iter();
        names.filter(|(id, _)| trained.contains(id)).map(|(_, name)| name).collect()
    }

    /// Returns the shapes of the convolutional and linear layers, for summaries. By default they
    /// are Burn's layers, as [`stock_layers`] finds them. Override it to give the sizes that only
    /// your program knows:
    ///
    /// ```
    /// use burn::{module::Module, nn::conv::{Conv2d, Conv2dConfig}, tensor::Device};
    /// use quant_nn::{QuantizedModule, StateDict, summarize, visit::{LayerShape, stock_layers}};
    ///
    /// #[derive(Module, Debug)]
    /// struct Net {
    ///     conv: Conv2d,
    /// }
    ///
    /// impl QuantizedModule for Net {
    ///     fn layer_shapes(&self) -> Vec<LayerShape> {
    ///         let mut layers = stock_layers(self);
    ///         // Images of 32 by 32 pixels and a kernel of 3 by 3 without padding.
    ///         layers[0].output_size = Some(30);
    ///         layers
    ///     }
    /// }
    ///
    /// let net = Net { conv: Conv2dConfig::new([3, 8], [3, 3]).init(&Device::flex()) };
    /// let summary = summarize(&net, &StateDict::of(&net));
    /// assert_eq!(summary.macs, 30 * 30 * 8 * 3 * 3 * 3);
    /// ```
    fn layer_shapes(&self) -> Vec<LayerShape> {
        stock_layers(self)
    }

    /// Returns every quantizer with its role and the name of its layer, in the order of the fields.
    /// They are clones: changing one does not change the module.
    /// [`change_quantizers`](Self::change_quantizers) does.
    fn quantizers(&self) -> Vec<(String, Role, Quantizer)> {
        let found = quantizers(self).into_iter();
        let named = found.map(|Reached { path, quantizer }| {
            let layer = layer_of(&self.pytorch_name(&path)).to_owned();
            (layer, quantizer.config().role, quantizer)
        });
        named.collect()
    }

    /// Returns the prefixes of the names of the quantizers' parameters, such as
    /// `conv1.quant_weight.`.
    fn quantizer_prefixes(&self) -> Vec<String> {
        let found = quantizers(self).into_iter();
        found.map(|reached| format!("{}.", self.pytorch_name(&reached.path))).collect()
    }

    /// Returns every weight that has a quantizer, with the name of its layer.
    fn quantized_weights(&self) -> Vec<(String, QuantizedWeight)> {
        let found = quantized_weights(self).into_iter();
        let named = found.map(|found| {
            let layer = layer_of(&self.pytorch_name(&found.reached.path)).to_owned();
            (layer, found)
        });
        named.collect()
    }

    /// Returns every quantized weight as integers, with the name of its layer.
    fn weight_codes(&self) -> Vec<WeightCodes> {
        let weights = self.quantized_weights().into_iter();
        let enabled = weights.filter(|(_, weight)| weight.reached.quantizer.is_enabled());
        enabled.map(|(layer, weight)| WeightCodes { layer, ..weight.to_codes() }).collect()
    }

    /// Calls `change` with every quantizer and the name of its layer.
    fn change_quantizers(&mut self, mut change: impl FnMut(&str, &mut Quantizer)) {
        let changed = change_quantizers(self.clone(), |path, quantizer| {
            change(layer_of(&self.pytorch_name(path)), quantizer);
        });
        *self = changed;
    }

    /// Returns the input, the output and the parameters of quantizers in their last evaluation call
    /// while `run` calls the model. `select` chooses the quantizers by layer and role. The entries
    /// are named `<layer>.quant_activation/before-quant` and so on. [`StateDict::to_bytes`] makes a
    /// safetensors file of them.
    fn probe(&self, select: impl Fn(&str, Role) -> bool, run: impl FnOnce(&Self)) -> StateDict {
        let wanted = |reached: &Reached| {
            let layer = self.pytorch_name(&reached.path);
            select(layer_of(&layer), reached.quantizer.config().role)
        };
        let probes = probe(self, wanted, run).into_iter();
        StateDict::from_entries(probes.flat_map(|probe| {
            let layer = probe.layer;
            probe.tensors.into_iter().map(move |(name, data)| {
                let entry = Entry { shape: data.shape().to_vec(), values: data.iter().collect() };
                (format!("{layer}/{name}"), entry)
            })
        }))
    }

    /// Returns the same module for evaluation. The weights have the values that their quantizers
    /// give, so that they are quantized once, and not in every call.
    #[must_use]
    fn folded(&self) -> Self {
        self.clone().materialize()
    }

    /// Checks the clipping values of every quantizer.
    ///
    /// # Errors
    /// [`QuantizerError::Degenerate`] for the first clipping value that is zero, negative or not a
    /// number.
    fn validate_quantizers(&self) -> Result<(), QuantizerError> {
        self.quantizers().iter().try_for_each(|(_, _, quantizer)| quantizer.validate())
    }
}

/// Returns the shapes of Burn's convolutional and linear layers in a module, in the order of its
/// fields.
///
/// Burn's layers do not report their calls, so that not even a forward pass tells the sizes of a
/// convolution's input and output: `input_size` and `output_size` are `None`. A linear layer is
/// assumed to be called with one vector for each image; a layer that is called with a sequence
/// computes more. The number of channels that a transposed convolution returns depends on its
/// groups. It is that of its bias, and not known without a bias. Embeddings are left out, because a
/// lookup multiplies nothing.
pub fn stock_layers<M: QuantizedModule>(module: &M) -> Vec<LayerShape> {
    struct Layers {
        path: Vec<String>,
        containers: Vec<String>,
        found: Vec<(String, bool, Vec<usize>)>,
        biases: HashMap<String, usize>,
    }
    impl ModuleVisitor for Layers {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            if !container_type.starts_with("Enum:") {
                self.path.push(name.to_owned());
                self.containers.push(container_type.to_owned());
            }
        }

        fn exit_module(&mut self, _name: &str, container_type: &str) {
            if !container_type.starts_with("Enum:") {
                self.path.pop();
                self.containers.pop();
            }
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            const LAYERS: [&str; 8] = [
                "Conv1d",
                "Conv2d",
                "Conv3d",
                "ConvTranspose1d",
                "ConvTranspose2d",
                "ConvTranspose3d",
                "DeformConv2d",
                "Linear",
            ];
            let container = self.containers.last().and_then(|name| name.strip_prefix("Struct:"));
            let Some(((last, layer), _)) =
                self.path.split_last().zip(container.filter(|name| LAYERS.contains(name)))
            else {
                return;
            };
            match last.as_str() {
                "weight" => {
                    let kind = container.unwrap_or_default();
                    let transposed = kind.starts_with("ConvTranspose");
                    let mut shape = param.lazy_shape().to_vec();
                    if transposed || kind == "Linear" {
                        shape.swap(0, 1);
                    }
                    self.found.push((layer.join("."), transposed, shape));
                }
                "bias" => {
                    self.biases.insert(layer.join("."), param.lazy_shape().num_elements());
                }
                _ => {}
            }
        }
    }
    let mut layers = Layers {
        path: Vec::new(),
        containers: Vec::new(),
        found: Vec::new(),
        biases: HashMap::new(),
    };
    module.visit(&mut layers);
    let Layers { found, biases, .. } = layers;
    let shapes = found.into_iter().map(|(path, transposed, weight)| {
        let bias = biases.get(&path).copied();
        let size = (weight.len() == 2).then_some(1);
        LayerShape {
            name: module.pytorch_name(&path),
            bias: bias.unwrap_or(0),
            transposed,
            output_channels: if transposed { bias } else { Some(weight[0]) },
            output_size: size,
            input_size: size,
            weight,
            reads_images: false,
        }
    });
    shapes.collect()
}
