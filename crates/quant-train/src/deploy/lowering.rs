//! Lowering of a network with the images that it was trained with.

use burn::{module::Module, tensor::Device};
use quant_data::Transform;
use quant_export::{LowerError, Lowered, Lowering, Options};
use quant_nn::{Classifier, Network};

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
    let mut options = options(data, name, network.config().input_size());
    if classes.len() == network.config().classes() {
        options.classes = classes.to_vec();
    }
    Ok(quant_export::lower(&on_the_cpu(network.valid()), options)?)
}

/// A function of a program that describes its own network, layer by layer. The image is the node 0,
/// and the node that is added last has the class scores.
pub(crate) type LowerOwn<'a, M> = &'a dyn Fn(&M, &mut Lowering) -> Result<(), LowerError>;

/// Lowers the network of a program, which `lower` describes.
pub(crate) fn lower_own<M: Classifier>(
    network: &M,
    lower: LowerOwn<'_, M>,
    options: Options,
) -> Result<Lowered, LowerError> {
    let network = on_the_cpu(network.valid());
    let device = network.devices().first().cloned().unwrap_or_else(Device::default);
    let mut lowering = Lowering::new(options, &device);
    lower(&network, &mut lowering)?;
    lowering.finish()
}

/// Returns what a packed network says about itself, without names of classes. `size` is the side of
/// its images.
pub(crate) fn options(data: &DataRecipe, name: &str, size: usize) -> Options {
    let (mean, std) = data.normalization();
    let mut input = quant_export::input(size, mean, std);
    input.shorter_side = data.eval().0.iter().rev().find_map(|step| match step {
        Transform::Resize { size } => Some(*size),
        _ => None,
    });
    Options::new(name, input)
}

/// Returns the network on the CPU, if this build computes there, so that the values of quantizers
/// are rounded as everywhere else.
fn on_the_cpu<M: Module>(network: M) -> M {
    #[cfg(feature = "flex")]
    let network = network.to_device(&Device::flex());
    network
}
