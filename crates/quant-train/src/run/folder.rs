//! The folder of a run: how it is made and found, and the content of `run.json`.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::TrainError,
    files::{self, is_partial, partial_folder},
    lock::{self, Lock},
    recipe::{Recipe, phase::Phase},
    run::seen::Seen,
    training::checkpoint,
};

pub(crate) const RECIPE: &str = "recipe.toml";
pub(crate) const HEADER: &str = "run.json";

/// The content of `run.json`, which describes how a run was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The folder of the data.
    pub(crate) data: PathBuf,
    /// The folder at which relative paths in the recipe begin.
    pub(crate) recipe_folder: PathBuf,
    /// The name of the program, which is empty if it is not known.
    #[serde(default)]
    pub(crate) program: String,
    /// The version of the program.
    pub(crate) version: String,
    /// The recipe. It is also in `recipe.toml`, where users read it and may edit it.
    pub(crate) recipe: Recipe,
    /// The data and the devices of the run.
    pub(crate) seen: Seen,
}

impl Header {
    /// Reads the header of the run in `folder`.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] with what is missing.
    pub(crate) fn read(folder: &Path) -> Result<Self, TrainError> {
        let missing = |missing: String| TrainError::NoRun { path: folder.to_owned(), missing };
        if !folder.is_dir() {
            let reason = if folder.exists() { "it is a file" } else { "there is no such folder" };
            return Err(missing(reason.into()));
        }
        let recipe = folder.join(RECIPE);
        if let Err(error) = files::check_regular(&recipe) {
            let reason = match error.kind() {
                ErrorKind::NotFound => format!("{RECIPE} is missing{}", runs_inside(folder)),
                _ => format!("{RECIPE} cannot be read: {error}"),
            };
            return Err(missing(reason));
        }
        let bytes = files::read(&folder.join(HEADER))
            .map_err(|error| missing(format!("{HEADER} cannot be read: {error}")))?;
        files::unsealed(&bytes).map_err(|reason| {
            // Only the program that registers a method of its own can read a recipe that names it.
            #[derive(Deserialize)]
            struct Program {
                program: String,
            }
            let program = files::unsealed(&bytes).map(|Program { program }| program);
            let advice = match program.as_deref() {
                Ok("" | "quant") => String::new(),
                Err(_) => format!(
                    "; put it back from a copy, or start anew with `quant train {}`",
                    recipe.display()
                ),
                Ok(program) => format!(
                    "; {program} wrote this run, and may define what is unknown here: use its own \
                     commands: {program} eval {0}, and likewise report, summary and codes, or \
                     --resume {0}",
                    folder.display()
                ),
            };
            missing(format!("{HEADER}: {reason}{advice}"))
        })
    }

    /// Writes the header, and the recipe in a file beside it.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub(crate) fn write(&self, folder: &Path) -> Result<(), TrainError> {
        // The header is written last. If the process is killed between the two files, the recipe
        // differs from the header, which is reported as an error.
        files::write(&folder.join(RECIPE), self.recipe.to_toml()?.as_bytes())?;
        files::write_sealed(&folder.join(HEADER), self)
    }
}

/// Names the runs in a folder that is not a run itself, for its error.
fn runs_inside(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let runs = entries.map(|entry| entry.path()).filter(|path| path.join(HEADER).is_file());
    let mut names: Vec<String> = runs.map(|path| path.display().to_string()).collect();
    names.sort();
    match &names[..] {
        [] => String::new(),
        [.., last] => format!("; it has runs inside, such as {last}"),
    }
}

/// Makes the folder `<runs>/<name>-<first free number>` with its header. It appears complete.
///
/// # Errors
/// [`TrainError::Io`]. No folder is then left.
pub(crate) fn create(runs: &Path, name: &str, header: &Header) -> Result<PathBuf, TrainError> {
    fs::create_dir_all(runs).map_err(TrainError::io(runs))?;
    remove_abandoned(runs);
    let partial = partial_folder(runs).map_err(TrainError::io(runs))?;
    // While this process holds the lock, other processes do not take the folder for abandoned.
    let _lock = Lock::take(partial.path())?;
    header.write(partial.path())?;
    let mut number = 1;
    loop {
        let folder = runs.join(format!("{name}-{number:03}"));
        // A folder that has appeared in the meantime is not empty, so it is not replaced.
        if folder.exists() {
            number += 1;
        } else {
            match fs::rename(partial.path(), &folder) {
                Ok(()) => {
                    let _moved_away = partial.keep();
                    files::sync_folder(runs).map_err(TrainError::io(runs))?;
                    return Ok(folder);
                }
                Err(_) if folder.exists() => number += 1,
                Err(error) => return Err(TrainError::io(folder)(error)),
            }
        }
    }
}

/// Removes incomplete folders of runs whose processes were killed while they made the folder.
fn remove_abandoned(runs: &Path) {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_partial(&entry.file_name())) {
        let path = entry.path();
        // A process that makes a folder locks it, except for a moment at the beginning.
        let old = || {
            let made = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
            let age = SystemTime::now().duration_since(made).ok()?;
            Some(age > Duration::from_secs(60))
        };
        let abandoned = if path.join(lock::FILE).exists() {
            Lock::take(&path).is_ok()
        } else {
            old().unwrap_or(false)
        };
        if abandoned {
            // An error is ignored, because a folder that remains does no harm.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Returns whether the folder of a run has a checkpoint or a result from which the run can
/// continue.
pub(crate) fn has_progress(folder: &Path, recipe: &Recipe) -> bool {
    recipe.phases.iter().any(|phase| has_begun(folder, phase))
}

/// Returns whether the folder of a run has a checkpoint or the result of a phase.
pub(crate) fn has_begun(folder: &Path, phase: &Phase) -> bool {
    let phase = folder.join(&phase.name);
    phase.join("result.json").exists() || checkpoint::exists(&phase.join("checkpoints"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_another_program_wrote_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(RECIPE), "").unwrap();
        let refusal = |program: &str| {
            let header = serde_json::json!({ "program": program, "recipe": "unknown here" });
            fs::write(folder.path().join(HEADER), files::sealed(&header).unwrap()).unwrap();
            Header::read(folder.path()).unwrap_err().to_string()
        };
        let error = refusal("own_method");
        let command = format!("own_method eval {}", folder.path().display());
        assert!(error.contains("own_method wrote this run") && error.contains(&command), "{error}");
        assert!(!refusal("quant").contains("wrote this run"));
    }
}
