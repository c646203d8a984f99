//! Evaluation of a file of weights: a run's, PyTorch's, anybody's.

use std::path::Path;

use quant_data::{LastBatch, Loader, LoaderConfig, Share};
use quant_nn::LoadReport;

use crate::{
    batches::upload::Normalizer,
    error::TrainError,
    measure::evaluate::{Score, evaluate},
    networks::weights::{self, WeightsFile},
    recipe::Recipe,
    run::{
        Run,
        options::{RunOptions, workers},
    },
};

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// How good the network is.
    pub score: Score,
    /// The phase of the recipe whose network it is; none where the file says itself what it is of.
    pub phase: Option<String>,
    /// Sides of the images that the network is configured for and that it was given, where they
    /// differ.
    pub other_size: Option<(usize, usize)>,
    /// What became of the file's entries.
    pub report: LoadReport,
    /// Images that could not be used, and why.
    pub skipped: Vec<String>,
}

impl Run {
    /// Evaluates the weights of a file on the validation data of `recipe` at `data`. A file that
    /// does not say what network it is of has that of a phase of the recipe: `phase`, or the last
    /// one whose network it fits.
    ///
    /// # Errors
    /// Those of data and of the network's file; [`TrainError::NoPhase`]; [`TrainError::Classes`]
    /// where the data have classes that the network does not know.
    pub fn evaluate(
        file: &WeightsFile,
        recipe: &Recipe,
        phase: Option<&str>,
        data: &Path,
        options: &RunOptions,
    ) -> Result<Evaluation, TrainError> {
        let val = recipe.data.open_val(data, &options.cache)?;
        let classes = val.classes().len();
        let candidates = recipe.candidates(phase, classes)?;
        let loaded = weights::read_network(file, &candidates, &options.device)?;
        let known = loaded.network.config().classes();
        if let (Some(phase), None, [(_, wanted)]) = (phase, &loaded.candidate, &candidates[..]) {
            let own = loaded.network.config();
            let mut wanted = wanted.clone();
            wanted.set_data(own.classes(), own.input_size());
            if wanted != *own {
                return Err(TrainError::Weights {
                    path: file.path.clone(),
                    reason: format!(
                        "it says itself that it is not of the network of phase {phase:?}"
                    ),
                });
            }
        }
        // Without training data nothing says which of more classes the labels stand for.
        if known < classes || known > classes && recipe.data.lacks_training(data) {
            let path = file.path.clone();
            return Err(TrainError::Classes { path, network: known, data: classes });
        }
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
        let loader = Loader::new(val, recipe.data.eval(), config)?;
        let normalizer = Normalizer::new(recipe.data.normalization(), &options.device);
        let (network, device) = (&loaded.network, &options.device);
        let mut skipped = Vec::new();
        let tell = |reason| skipped.push(reason);
        let score = evaluate(network, &loader, &normalizer, device, tell)?;
        let (own, given) = (network.config().input_size(), recipe.data.input_size);
        Ok(Evaluation {
            score,
            phase: loaded.candidate,
            other_size: (own != given).then_some((own, given)),
            report: loaded.report,
            skipped,
        })
    }
}
