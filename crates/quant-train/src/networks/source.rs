//! The sources of a run's networks: its recipe, or a program that makes them.

use burn::tensor::Device;
use quant_export::Lowered;
use quant_nn::{Classifier, Network, NetworkError, Quantization};

pub use crate::error::BuildError;
use crate::{
    deploy::{self, LowerOwn},
    error::TrainError,
    networks::weights::{self, WeightsFile},
    recipe::{Recipe, loss::DistillationRecipe, phase::Phase},
};

/// What a program needs to make its own network: see [`Run::execute_own`](crate::Run::execute_own).
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// The quantizers of the phase. There are none where it trains in full precision.
    pub quantization: Quantization,
    /// The number of classes of the data.
    pub classes: usize,
    /// The side of the images, in pixels.
    pub input_size: usize,
    /// The device, with or without autodiff.
    pub device: &'a Device,
}

/// A source of a run's networks.
pub(crate) trait Networks {
    type Network: Classifier;

    /// Lowers a network that was trained for these classes. Returns `None` if the structure of the
    /// network is not known.
    fn lower(
        &self,
        network: &Self::Network,
        classes: &[String],
    ) -> Option<Result<Lowered, TrainError>>;

    /// Makes a network of a phase, with fresh weights.
    fn init(
        &self,
        phase: &Phase,
        classes: usize,
        device: &Device,
    ) -> Result<Self::Network, TrainError>;

    /// Reads the network of a phase from a file that a run has written.
    fn read(
        &self,
        file: &WeightsFile,
        phase: &Phase,
        classes: usize,
        device: &Device,
    ) -> Result<Self::Network, TrainError>;

    /// Reads the network from which a phase learns. If it is that of an earlier phase of the run,
    /// `earlier` is this phase.
    fn teacher(
        &self,
        distillation: &DistillationRecipe,
        file: &WeightsFile,
        earlier: Option<&Phase>,
        classes: usize,
        device: &Device,
    ) -> Result<Self::Network, TrainError>;
}

impl Networks for Recipe {
    type Network = Network;

    fn lower(&self, network: &Network, classes: &[String]) -> Option<Result<Lowered, TrainError>> {
        Some(deploy::lower(network, &self.data, &self.name, classes))
    }

    fn init(&self, phase: &Phase, classes: usize, device: &Device) -> Result<Network, TrainError> {
        Ok(self.network(phase, classes)?.init(device)?)
    }

    fn read(
        &self,
        file: &WeightsFile,
        phase: &Phase,
        classes: usize,
        device: &Device,
    ) -> Result<Network, TrainError> {
        let candidates = [(phase.name.clone(), self.network(phase, classes)?)];
        Ok(weights::read_network(file, &candidates, device)?.network)
    }

    fn teacher(
        &self,
        distillation: &DistillationRecipe,
        file: &WeightsFile,
        _earlier: Option<&Phase>,
        classes: usize,
        device: &Device,
    ) -> Result<Network, TrainError> {
        Recipe::teacher(self, distillation, file, classes, device)
    }
}

/// The networks that a program makes.
pub(crate) struct Own<'a, F, M> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) make: F,
    /// Describes a network, layer by layer. `None` if the program cannot do so.
    pub(crate) lower: Option<LowerOwn<'a, M>>,
}

impl<F, M> Own<'_, F, M>
where
    F: Fn(&Build<'_>) -> Result<M, BuildError>,
    M: Classifier,
{
    fn build(
        &self,
        quantization: Quantization,
        classes: usize,
        device: &Device,
    ) -> Result<M, TrainError> {
        let input_size = self.recipe.data.input_size;
        let build = Build { quantization, classes, input_size, device };
        let network = (self.make)(&build).map_err(|source| TrainError::OwnNetwork { source })?;
        Ok(quant_core::name_quantizers(network))
    }

    /// Loads the weights of a file into a network, with the quantizers that the network had when
    /// the file was written.
    fn load(&self, file: &WeightsFile, network: M) -> Result<M, TrainError> {
        let state = file.read()?;
        let mut network = network.valid();
        state.restore_quantizers(&mut network)?;
        let (network, report) = weights::load(file, &state, network);
        let refused = |error: NetworkError| TrainError::Weights {
            path: file.path.clone(),
            reason: error.to_string(),
        };
        report.require(false).map_err(refused)?;
        Ok(network)
    }
}

impl<F, M> Networks for Own<'_, F, M>
where
    F: Fn(&Build<'_>) -> Result<M, BuildError>,
    M: Classifier,
{
    type Network = M;

    fn lower(&self, network: &M, classes: &[String]) -> Option<Result<Lowered, TrainError>> {
        let lower = self.lower?;
        let Recipe { data, name, .. } = self.recipe;
        let mut options = deploy::options(data, name, data.input_size);
        options.classes = classes.to_vec();
        Some(deploy::lower_own(network, lower, options).map_err(TrainError::from))
    }

    fn init(&self, phase: &Phase, classes: usize, device: &Device) -> Result<M, TrainError> {
        let quantization = phase.quantization.as_ref().map(|recipe| recipe.typed()).transpose();
        let quantization = quantization.map_err(|error| error.of_phase(&phase.name))?;
        self.build(quantization.unwrap_or_default(), classes, device)
    }

    fn read(
        &self,
        file: &WeightsFile,
        phase: &Phase,
        classes: usize,
        device: &Device,
    ) -> Result<M, TrainError> {
        self.load(file, self.init(phase, classes, device)?)
    }

    fn teacher(
        &self,
        _distillation: &DistillationRecipe,
        file: &WeightsFile,
        earlier: Option<&Phase>,
        classes: usize,
        device: &Device,
    ) -> Result<M, TrainError> {
        let network = match earlier {
            Some(phase) => self.init(phase, classes, device)?,
            None => self.build(Quantization::default(), classes, device)?,
        };
        self.load(file, network)
    }
}
