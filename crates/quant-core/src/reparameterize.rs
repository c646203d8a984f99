//! Quantized weights for stock Burn layers, in one call.

use burn::{
    module::{Module, Param, Reparameterization, Reparameterizer},
    tensor::{Device, Tensor},
};

use crate::{
    calibrate::Calibration, config::QuantizerConfig, error::QuantizerError, quantizer::Quantizer,
    site::Site,
};

impl Reparameterization for Quantizer {
    const NAME: &'static str = "quant_weight";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        self.forward(base)
    }
}

/// Attaches a weight quantizer to the weights of `model` that `select` names.
///
/// From then on `layer.weight.val()` returns quantized weights, wherever Burn's layers read them;
/// the quantizers' parameters are trained, saved and grouped with the model's, under
/// `<weight>.quant_weight`. `model.materialize()` folds them in.
///
/// `select` is given the path of every parameter with two or more dimensions, such as `conv1.weight`.
/// A two-dimensional weight is taken as Burn's `Linear` stores it, `[in, out]`: its channels are the
/// second dimension; of others, the first. Clipping values are calibrated on the weights.
///
/// # Errors
/// Those of [`QuantizerConfig::init`], for the first layer that the configuration does not fit.
///
/// ```
/// use burn::{nn::{Linear, LinearConfig}, tensor::Device};
/// use quant_core::{Levels, Method, QuantizerConfig, Role, quantize_weights};
///
/// let layer = LinearConfig::new(8, 4).init(&Device::flex());
/// let config = QuantizerConfig::new(Method::Lsq, Role::Weight, Levels::from_bits(2)?);
/// let layer = quantize_weights(layer, &config, |path| path == "weight")?;
/// let mut values: Vec<f32> = layer.weight.val().into_data().iter().collect();
/// values.sort_by(f32::total_cmp);
/// values.dedup();
/// assert!(values.len() <= 4);
/// # Ok::<(), quant_core::QuantizerError>(())
/// ```
pub fn quantize_weights<M: Module>(
    model: M,
    config: &QuantizerConfig,
    select: impl Fn(&str) -> bool,
) -> Result<M, QuantizerError> {
    let mut failure = None;
    let model = model.apply_reparameterization(Attach { config, select, failure: &mut failure });
    match failure {
        None => Ok(model),
        Some(error) => Err(error),
    }
}

struct Attach<'a, F> {
    config: &'a QuantizerConfig,
    select: F,
    failure: &'a mut Option<QuantizerError>,
}

impl<F: Fn(&str) -> bool> Reparameterizer for Attach<'_, F> {
    type Reparam = Quantizer;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Quantizer>) {
        if D < 2 || self.failure.is_some() || !(self.select)(path) {
            return (param, None);
        }
        let weight = param.val();
        let device: Device = weight.device();
        let mut site = Site::weight(path, weight.dims().to_vec());
        site.channel_axis = usize::from(D == 2);
        match self.config.init(&site, &device) {
            Ok(mut quantizer) => {
                quantizer.calibrate_on(weight.detach(), Calibration::default());
                (param, Some(quantizer))
            }
            Err(error) => {
                *self.failure = Some(error);
                (param, None)
            }
        }
    }
}
