//! The result of a run.

use std::{io::ErrorKind, path::Path};

use quant_nn::NetworkSummary;
use serde::{Deserialize, Serialize};

use crate::{error::TrainError, files, measure::evaluate::Score};

/// The result of a run, as in `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The name of the recipe.
    pub name: String,
    /// The score of the last network of the last phase in full precision.
    pub full_precision: Option<Score>,
    /// The score of the last network of the last quantized phase.
    pub quantized: Option<Score>,
    /// The size of the last network in bytes, with 32 bits for each element.
    pub size_bytes_float: u64,
    /// The size of the last network in bytes, with its quantized weights at their number of bits.
    pub size_bytes_packed: u64,
    /// The packed network `packed.qnet`, and its score by the engine that serves it. `None` if the
    /// last phase has no quantizers, if the network is a program's own, or if it cannot be packed.
    /// Of several processes, only the first has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packed>,
    /// The score of the packed network's arithmetic in the trainer, which equals that of `packed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Score>,
    /// The results of the phases.
    pub phases: Vec<PhaseResult>,
}

/// A packed network, and its score by the engine that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    /// The score on the validation images.
    #[serde(flatten)]
    pub score: Score,
    /// The size of the file in bytes.
    pub bytes: u64,
}

/// The result of a phase, as in `<phase>/result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseResult {
    /// The name of the phase.
    pub phase: String,
    /// Whether the phase had quantizers.
    pub quantized: bool,
    /// The number of epochs that the phase was trained for.
    #[serde(default)]
    pub epochs: usize,
    /// The score of the phase's last network.
    pub last: Score,
    /// The epoch of the phase's best network, counted from 0.
    pub best_epoch: usize,
    /// The score of the phase's best network.
    pub best: Score,
    /// The layers of the network, with their sizes and numbers of operations.
    pub network: NetworkSummary,
}

impl Summary {
    /// Returns the result of a run with these phases.
    pub fn new(name: &str, results: Vec<PhaseResult>) -> Self {
        let last = |quantized| {
            let matching = results.iter().rev().find(|result| result.quantized == quantized);
            matching.map(|result| result.last)
        };
        let (full_precision, quantized) = (last(false), last(true));
        let network = results.last().map(|result| &result.network);
        Self {
            name: name.to_owned(),
            full_precision,
            quantized,
            size_bytes_float: network.map_or(0, |network| network.size_bytes_float),
            size_bytes_packed: network.map_or(0, |network| network.size_bytes_packed),
            packed: None,
            served: None,
            phases: results,
        }
    }

    /// Reads `summary.json` of the run in `folder`. Returns `None` where there is none that can be
    /// read.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&files::read(&folder.join("summary.json")).ok()?).ok()
    }
}

impl PhaseResult {
    /// Reads the result of the phase whose folder is `folder`. Returns `None` where the phase is
    /// not finished.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] for a damaged file; [`TrainError::Io`].
    pub fn read(folder: &Path) -> Result<Option<Self>, TrainError> {
        let path = folder.join("result.json");
        match files::read(&path) {
            Ok(bytes) => {
                let result = if files::is_sealed(&bytes) {
                    files::unsealed(&bytes)
                } else {
                    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
                };
                result.map(Some).map_err(|reason| TrainError::Checkpoint { path, reason })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TrainError::io(path)(error)),
        }
    }

    /// Writes the result, with a checksum, into the folder `folder`.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        files::write_sealed(&folder.join("result.json"), self)
    }
}
