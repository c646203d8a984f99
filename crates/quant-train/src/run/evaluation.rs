//! Evaluation of a file of weights, which a run, PyTorch or another program has written.

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

impl Run {
    /// Evaluates the weights of a file on the validation data of `recipe` at `data`. If the file
    /// does not describe its network, it is the network of a phase of the recipe: that of `phase`,
    /// or else that of the last phase whose network fits the file.
    ///
    /// # Errors
    /// The errors of the data and of the network's file; [`TrainError::NoPhase`];
    /// [`TrainError::Classes`] where the data have classes that the network does not know.
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
                    reason: format!("it describes another network than that of phase {phase:?}"),
                });
            }
        }
        // If the network has more classes and there are no training data, the meaning of the labels
        // is unknown.
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
