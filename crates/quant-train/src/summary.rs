//! The result of a run.

use std::{fs, io::ErrorKind, path::Path};

use quant_nn::NetworkSummary;
use serde::{Deserialize, Serialize};

use crate::{error::TrainError, files, measure::evaluate::Score};

/// The result of a run, `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the recipe.
    pub name: String,
    /// Score of the last full-precision phase's last network.
    pub full_precision: Option<Score>,
    /// Score of the last quantized phase's last network.
    pub quantized: Option<Score>,
    /// Bytes of the last network at 32 bits an element.
    pub size_bytes_float: u64,
    /// Bytes of the last network with its weights at their true width.
    pub size_bytes_packed: u64,
    /// The phases.
    pub phases: Vec<PhaseResult>,
}

/// The result of a phase, `<phase>/result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseResult {
    /// The name of the phase.
    pub phase: String,
    /// Whether it had quantizers.
    pub quantized: bool,
    /// Epochs that it was trained for.
    #[serde(default)]
    pub epochs: usize,
    /// Score of its last network.
    pub last: Score,
    /// Epoch, from 0, of its best network.
    pub best_epoch: usize,
    /// Score of its best network.
    pub best: Score,
    /// What the network costs.
    pub network: NetworkSummary,
}

impl Summary {
    /// Of these phases.
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
            phases: results,
        }
    }
}

impl PhaseResult {
    /// That of the phase in the folder `place`; none where it is not done.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] for a damaged file, [`TrainError::Io`].
    pub fn read(place: &Path) -> Result<Option<Self>, TrainError> {
        let path = place.join("result.json");
        match fs::read(&path) {
            Ok(bytes) => {
                let result = match files::is_sealed(&bytes) {
                    true => files::unsealed(&bytes),
                    false => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
                };
                result.map(Some).map_err(|reason| TrainError::Checkpoint { path, reason })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TrainError::io(path)(error)),
        }
    }

    /// Writes it into the folder `place`, with its checksum.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn write(&self, place: &Path) -> Result<(), TrainError> {
        files::write(&place.join("result.json"), &files::sealed(self))
    }
}
