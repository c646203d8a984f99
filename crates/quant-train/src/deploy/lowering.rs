//! Lowering of a network with the images that it was trained with.

use burn::module::Module;
use quant_data::Transform;
use quant_export::{Lowered, Options};
use quant_nn::Network;

use crate::{error::TrainError, recipe::data::DataRecipe};

/// Lowers a network that was trained with the images of `data`: their normalisation and the size to
/// which pictures are brought become parts of the model. `name` is the name of the model, and
/// `classes` are the names of the classes.
///
/// # Errors
/// [`TrainError::Pack`] where the network cannot be lowered.
pub fn lower(
    network: &Network,
    data: &DataRecipe,
    name: &str,
    classes: &[String],
) -> Result<Lowered, TrainError> {
    let (mean, std) = data.normalization();
    let mut input = quant_export::input(network.config().input_size(), mean, std);
    input.shorter_side = data.eval().0.iter().rev().find_map(|step| match step {
        Transform::Resize { size } => Some(*size),
        _ => None,
    });
    let mut options = Options::new(name, input);
    if classes.len() == network.config().classes() {
        options.classes = classes.to_vec();
    }
    Ok(quant_export::lower(&on_the_cpu(network.valid()), options)?)
}

/// Returns the network on the CPU, if this build computes there, so that the values of quantizers
/// are rounded as everywhere else.
fn on_the_cpu(network: Network) -> Network {
    #[cfg(feature = "flex")]
    let network = network.to_device(&burn::tensor::Device::flex());
    network
}
