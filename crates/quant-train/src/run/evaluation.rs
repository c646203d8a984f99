//! Evaluation of a file of weights, which a run, PyTorch or another program has written.

use std::{path::Path, sync::Arc};

use quant_data::{Dataset, LastBatch, Loader, LoaderConfig, Share};
use quant_nn::LoadReport;

use crate::{
    batches::upload::ImageNormalizer,
    classes,
    deploy::{ServedEvaluation, evaluate_packed, evaluate_served, lower},
    error::TrainError,
    measure::evaluate::{Score, evaluate},
    networks::weights::{self, Loaded, WeightsFile},
    recipe::Recipe,
    run::{
        Run,
        options::{RunOptions, workers},
    },
};

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The score of the network.
    pub score: Score,
    /// The phase of the recipe whose network the file has, or `None` if the file itself describes
    /// its network.
    pub phase: Option<String>,
    /// The side of the images for which the network is configured, and the side of the images that
    /// it got, if these differ.
    pub other_size: Option<(usize, usize)>,
    /// What was done with the entries of the file.
    pub report: LoadReport,
    /// The images that could not be used, each with the reason.
    pub skipped: Vec<String>,
}

/// The result of an evaluation by the served arithmetic.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedOutcome {
    /// The score by the usual evaluation, in floats.
    pub evaluation: Evaluation,
    /// The evaluation by the served arithmetic, next to the usual one.
    pub served: ServedEvaluation,
}

/// A network and the validation data that it is evaluated on.
struct Opened {
    loaded: Loaded,
    val: Arc<dyn Dataset>,
    loader: Loader,
    normalizer: ImageNormalizer,
}

impl Run {
    /// Evaluates the weights of a file on the validation data of `recipe` at `data`. If the file
    /// does not describe its network, it is the network of a phase of the recipe: that of `phase`,
    /// or else that of the last phase whose network fits the file.
    ///
    /// # Errors
    /// The errors of the data and of the network's file; [`TrainError::NoPhase`];
    /// [`TrainError::Classes`] and [`TrainError::OtherClasses`] where the classes of the data are
    /// not those of the network, as far as the file knows them.
    pub fn evaluate(
        file: &WeightsFile,
        recipe: &Recipe,
        phase: Option<&str>,
        data: &Path,
        options: &RunOptions,
    ) -> Result<Evaluation, TrainError> {
        let opened = Opened::new(file, recipe, phase, data, options)?;
        let Opened { loaded, loader, normalizer, .. } = &opened;
        let mut skipped = Vec::new();
        let tell = |reason| skipped.push(reason);
        let score = evaluate(&loaded.network, loader, normalizer, &options.device, tell)?;
        Ok(opened.evaluation(score, skipped, recipe))
    }

    /// Evaluates the weights of a file as [`evaluate`](Self::evaluate) does, and by the served
    /// arithmetic: that of the packed network.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), and [`TrainError::Pack`] where the network cannot be
    /// packed.
    pub fn evaluate_served(
        file: &WeightsFile,
        recipe: &Recipe,
        phase: Option<&str>,
        data: &Path,
        options: &RunOptions,
    ) -> Result<ServedOutcome, TrainError> {
        let opened = Opened::new(file, recipe, phase, data, options)?;
        let Opened { loaded, loader, normalizer, val } = &opened;
        let lowered = lower(&loaded.network, &recipe.data, &recipe.name, val.classes())?;
        let mut skipped = Vec::new();
        let tell = |reason| skipped.push(reason);
        let device = &options.device;
        let served = evaluate_served(&loaded.network, &lowered, loader, normalizer, device, tell)?;
        let evaluation = opened.evaluation(served.usual, skipped, recipe);
        Ok(ServedOutcome { evaluation, served })
    }

    /// Evaluates a packed network on the validation data of `recipe` at `data`. The network itself
    /// normalises the images.
    ///
    /// # Errors
    /// The errors of the data; [`TrainError::Packed`] where the network does not take the images;
    /// [`TrainError::Classes`] and [`TrainError::OtherClasses`] where the classes of the data are
    /// not those of the network.
    pub fn evaluate_packed(
        file: &Path,
        network: &quant_infer::Network,
        recipe: &Recipe,
        data: &Path,
        threads: usize,
        options: &RunOptions,
        skipped: impl FnMut(String),
    ) -> Result<Score, TrainError> {
        let val = options.open_val(&recipe.data, data)?;
        // A network that was packed from a file of weights may not know the names of its classes.
        let known = (file, network.classes(), network.outputs());
        classes::check_labels(known, (data, recipe.data.kind, val.classes()))?;
        let loader = eval_loader(recipe, val, options)?;
        evaluate_packed(network, &loader, threads, skipped)
    }
}

impl Opened {
    fn new(
        file: &WeightsFile,
        recipe: &Recipe,
        phase: Option<&str>,
        data: &Path,
        options: &RunOptions,
    ) -> Result<Self, TrainError> {
        let val = options.open_val(&recipe.data, data)?;
        let classes = val.classes().len();
        let candidates = recipe.candidates(phase, classes)?;
        let loaded = weights::read_network(file, &candidates, &options.device)?;
        weights::check_finite(file, &loaded.network)?;
        let known = loaded.network.config().classes();
        if let (Some(phase), None, [(_, wanted)]) = (phase, &loaded.candidate, &candidates[..]) {
            let own = loaded.network.config();
            let mut wanted = wanted.clone();
            wanted.set_data(own.classes(), own.input_size());
            if wanted != *own {
                return Err(TrainError::Weights {
                    path: file.path.clone(),
                    reason: format!("it describes another network than that of phase {phase:?}"),
                });
            }
        }
        let known = (file.path.as_path(), &loaded.classes[..], known);
        classes::check_labels(known, (data, recipe.data.kind, val.classes()))?;
        let loader = eval_loader(recipe, val.clone(), options)?;
        let normalizer = ImageNormalizer::new(recipe.data.normalization(), &options.device);
        Ok(Self { loaded, val, loader, normalizer })
    }

    fn evaluation(self, score: Score, skipped: Vec<String>, recipe: &Recipe) -> Evaluation {
        let (own, given) = (self.loaded.network.config().input_size(), recipe.data.input_size);
        Evaluation {
            score,
            phase: self.loaded.candidate,
            other_size: (own != given).then_some((own, given)),
            report: self.loaded.report,
            skipped,
        }
    }
}

/// Returns a loader of all validation images of a recipe, in order.
pub(super) fn eval_loader(
    recipe: &Recipe,
    val: Arc<dyn Dataset>,
    options: &RunOptions,
) -> Result<Loader, TrainError> {
    let config = LoaderConfig {
        batch_size: recipe.data.eval_batch_size,
        training: false,
        last_batch: LastBatch::Keep,
        seed: recipe.seed,
        workers: workers(options.workers.unwrap_or(recipe.data.workers)),
        prefetch: recipe.data.prefetch,
        share: Share::ALL,
        max_broken: recipe.data.max_broken,
    };
    Ok(Loader::new(val, recipe.data.eval(), config)?)
}
