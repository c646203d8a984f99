//! A run's folder: how it is made and found, and what `run.json` says.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::TrainError,
    files::{self, is_partial, partial_folder},
    recipe::Recipe,
    run::{
        lock::{self, Lock},
        seen::Seen,
    },
    training::checkpoint,
};

pub(crate) const RECIPE: &str = "recipe.toml";
pub(crate) const HEADER: &str = "run.json";

/// `run.json`: what a run was started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Folder of its data.
    pub(crate) data: PathBuf,
    /// The folder that paths in its recipe begin at.
    pub(crate) recipe_folder: PathBuf,
    /// Version of the program.
    pub(crate) version: String,
    /// The recipe, which `recipe.toml` has too, where it is read and might be edited.
    pub(crate) recipe: Recipe,
    /// What its data and devices were.
    pub(crate) seen: Seen,
}

impl Header {
    /// Reads that of the run in `folder`.
    ///
    /// # Errors
    /// [`TrainError::NoRun`], with what is missing.
    pub(crate) fn read(folder: &Path) -> Result<Self, TrainError> {
        let missing = |missing: String| TrainError::NoRun { path: folder.to_owned(), missing };
        if !folder.join(RECIPE).is_file() {
            return Err(missing(format!("{RECIPE} is missing")));
        }
        let bytes = fs::read(folder.join(HEADER))
            .map_err(|error| missing(format!("{HEADER} cannot be read: {error}")))?;
        files::unsealed(&bytes).map_err(|reason| missing(format!("{HEADER}: {reason}")))
    }

    /// Writes it, and the recipe beside it.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub(crate) fn write(&self, folder: &Path) -> Result<(), TrainError> {
        // The header counts, and comes last: a recipe that does not go with it is an error that
        // says so.
        files::write(&folder.join(RECIPE), self.recipe.to_toml()?.as_bytes())?;
        files::write(&folder.join(HEADER), &files::sealed(self))
    }
}

/// Makes `<runs>/<name>-<first free number>` with its header, at once.
///
/// # Errors
/// [`TrainError::Io`]; nothing is left then.
pub(crate) fn create(runs: &Path, name: &str, header: &Header) -> Result<PathBuf, TrainError> {
    fs::create_dir_all(runs).map_err(TrainError::io(runs))?;
    remove_abandoned(runs);
    let partial = partial_folder(runs).map_err(TrainError::io(runs))?;
    // As long as this is held, nobody takes the folder for abandoned.
    let _lock = Lock::take(partial.path())?;
    header.write(partial.path())?;
    let mut number = 1;
    loop {
        let folder = runs.join(format!("{name}-{number:03}"));
        // A folder that has appeared in the meantime is not empty, and is not replaced.
        match folder.exists() {
            true => number += 1,
            false => match fs::rename(partial.path(), &folder) {
                Ok(()) => {
                    let _moved_away = partial.keep();
                    files::sync_folder(runs).map_err(TrainError::io(runs))?;
                    return Ok(folder);
                }
                Err(_) if folder.exists() => number += 1,
                Err(error) => return Err(TrainError::io(folder)(error)),
            },
        }
    }
}

/// Removes the folders of runs whose processes were killed before they had a name.
fn remove_abandoned(runs: &Path) {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_partial(&entry.file_name())) {
        let path = entry.path();
        // Who makes a folder has its lock, but for a moment at the beginning.
        let old = || {
            let made = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
            let age = SystemTime::now().duration_since(made).ok()?;
            Some(age > Duration::from_secs(60))
        };
        let abandoned = match path.join(lock::FILE).exists() {
            true => Lock::take(&path).is_ok(),
            false => old().unwrap_or(false),
        };
        if abandoned {
            // What cannot be removed harms nobody.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Whether something in a run's folder can be gone on with.
pub(crate) fn has_progress(folder: &Path, recipe: &Recipe) -> bool {
    recipe.phases.iter().map(|phase| folder.join(&phase.name)).any(|place| {
        place.join("result.json").exists() || checkpoint::exists(&place.join("checkpoints"))
    })
}
