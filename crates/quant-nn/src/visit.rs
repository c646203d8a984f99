//! One door to a network's convolutional and linear layers, in execution order: summaries,
//! calibration and monitors all go through it.

use burn::{module::Param, tensor::Tensor};
use quant_core::{Calibration, CalibrationInfo, Quantizer, QuantizerError, Role};

use crate::{
    layers::{conv::QuantConv2d, linear::QuantLinear},
    network::NetworkConfig,
    state::{Entry, StateDict, is_running},
};

/// A layer that may be quantized.
#[derive(Debug, Clone, Copy)]
pub enum Layer<'a> {
    /// A convolution.
    Conv(&'a QuantConv2d),
    /// A linear layer.
    Linear(&'a QuantLinear),
}

/// The same, to change.
#[derive(Debug)]
pub enum LayerMut<'a> {
    /// A convolution.
    Conv(&'a mut QuantConv2d),
    /// A linear layer.
    Linear(&'a mut QuantLinear),
}

/// A layer and where it stands.
#[derive(Debug, Clone)]
pub struct Visited<'a> {
    /// Position in execution order, from 0.
    pub index: usize,
    /// PyTorch name, such as `layer1.0.conv1`.
    pub name: String,
    /// The layer.
    pub layer: Layer<'a>,
    /// Side of its input in pixels, for the input size of the network's configuration.
    pub input_size: usize,
}

impl<'a> Layer<'a> {
    /// Its quantizers that exist.
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

    /// Its weight's shape.
    pub fn weight_shape(self) -> Vec<usize> {
        match self {
            Layer::Conv(layer) => layer.weight.lazy_shape().to_vec(),
            Layer::Linear(layer) => layer.weight.lazy_shape().to_vec(),
        }
    }

    /// The codes that `quantizer` gives to the weight, row-major.
    pub fn weight_codes(self, quantizer: &Quantizer) -> Vec<u8> {
        let codes = match self {
            Layer::Conv(layer) => quantizer.codes(layer.weight.val()).codes.into_data(),
            Layer::Linear(layer) => quantizer.codes(layer.weight.val()).codes.into_data(),
        };
        codes.iter::<i64>().map(|code| code as u8).collect()
    }

    /// The weight's values, row-major.
    pub fn weight_values(self) -> Vec<f32> {
        match self {
            Layer::Conv(layer) => layer.weight.val().into_data().iter().collect(),
            Layer::Linear(layer) => layer.weight.val().into_data().iter().collect(),
        }
    }
}

impl<'a> LayerMut<'a> {
    /// Its quantizers that exist.
    pub fn quantizers(self) -> Vec<(Role, &'a mut Quantizer)> {
        let (activation, weight, output) = match self {
            LayerMut::Conv(l) => {
                (&mut l.quant_activation, &mut l.quant_weight, &mut l.quant_output)
            }
            LayerMut::Linear(l) => {
                (&mut l.quant_activation, &mut l.quant_weight, &mut l.quant_output)
            }
        };
        [(Role::Activation, activation), (Role::Weight, weight), (Role::Output, output)]
            .into_iter()
            .filter_map(|(role, quantizer)| Some((role, quantizer.as_mut()?)))
            .collect()
    }
}

/// A network whose layers can be visited.
pub trait QuantizedModule {
    /// Its convolutional and linear layers in execution order.
    fn layers(&self) -> Vec<Visited<'_>>;

    /// The configuration that it was made from, if there is one: it travels with its state.
    fn network_config(&self) -> Option<&NetworkConfig> {
        None
    }

    /// Whether the parameter of this PyTorch name is trained: no running statistic, and not frozen.
    fn is_trained(&self, name: &str) -> bool {
        !is_running(name)
    }

    /// The same layers, to change.
    fn layers_mut(&mut self) -> Vec<LayerMut<'_>>;

    /// Every quantizer, its role and its layer's name, in execution order.
    fn quantizers(&self) -> Vec<(String, Role, &Quantizer)> {
        let layers = self.layers().into_iter();
        let quantizers = layers.flat_map(|Visited { name, layer, .. }| {
            let of_layer = layer.quantizers().into_iter();
            of_layer.map(move |(role, quantizer)| (name.clone(), role, quantizer))
        });
        quantizers.collect()
    }

    /// The same quantizers, to change.
    fn quantizers_mut(&mut self) -> Vec<(Role, &mut Quantizer)> {
        self.layers_mut().into_iter().flat_map(LayerMut::quantizers).collect()
    }

    /// Starts recording the next evaluation of the quantizers that `select` wants, given layer and role.
    fn probe(&self, select: impl Fn(&str, Role) -> bool)
    where
        Self: Sized,
    {
        for (name, role, quantizer) in self.quantizers() {
            if select(&name, role) {
                quantizer.probe();
            }
        }
    }

    /// Ends [`probe`](Self::probe): input, output and parameters of each, as
    /// `<layer>.quant_activation/before-quant` and so on; [`StateDict::to_bytes`] makes a safetensors
    /// file of it.
    fn probed(&self) -> StateDict {
        let quantizers = self.quantizers().into_iter();
        let probes = quantizers.filter_map(|(_, _, quantizer)| quantizer.probed());
        StateDict::from_entries(probes.flat_map(|probe| {
            let layer = probe.layer;
            probe.tensors.into_iter().map(move |(name, data)| {
                let entry = Entry { shape: data.shape().to_vec(), values: data.iter().collect() };
                (format!("{layer}/{name}"), entry)
            })
        }))
    }

    /// The same for evaluation, with weights as their quantizers make them: each is quantized now, and not in every call.
    #[must_use]
    fn folded(&self) -> Self
    where
        Self: Clone,
    {
        fn fold<const D: usize>(weight: &mut Param<Tensor<D>>, quantizer: &mut Option<Quantizer>) {
            if let Some(quantizer) = quantizer.take() {
                let quantized = quantizer.forward(weight.val()).detach();
                *weight = Param::initialized(weight.id, quantized);
            }
        }
        let mut folded = self.clone();
        for layer in folded.layers_mut() {
            match layer {
                LayerMut::Conv(layer) => fold(&mut layer.weight, &mut layer.quant_weight),
                LayerMut::Linear(layer) => fold(&mut layer.weight, &mut layer.quant_weight),
            }
        }
        folded
    }

    /// Starts gathering what reaches the quantizers, which pass it through: what runs meanwhile is
    /// the full-precision network.
    fn observe(&self)
    where
        Self: Sized,
    {
        self.observe_where(|_| true);
    }

    /// The same of the quantizers that `select` wants. The others go on quantizing.
    fn observe_where(&self, select: impl Fn(&Quantizer) -> bool)
    where
        Self: Sized,
    {
        for (_, _, quantizer) in self.quantizers() {
            if select(quantizer) {
                quantizer.observe();
            }
        }
    }

    /// Sets clipping values from what was gathered since [`observe`](Self::observe).
    fn calibrate(&mut self, calibration: Calibration) -> Vec<CalibrationInfo> {
        let quantizers = self.quantizers_mut().into_iter();
        quantizers.filter_map(|(_, quantizer)| quantizer.calibrate(calibration)).collect()
    }

    /// Checks every quantizer's clipping values.
    ///
    /// # Errors
    /// [`QuantizerError::Degenerate`] for the first that is zero, negative or not a number.
    fn check_quantizers(&self) -> Result<(), QuantizerError> {
        let layers = self.layers();
        let mut quantizers = layers.iter().flat_map(|visited| visited.layer.quantizers());
        quantizers.try_for_each(|(_, quantizer)| quantizer.check())
    }
}
