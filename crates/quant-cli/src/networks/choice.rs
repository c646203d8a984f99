//! The network that a command is for, as the command line names it.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use quant_train::WeightsFile;

use super::description::Description;
use crate::recipes::library::is_known;

/// How a file of weights is read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WeightsArguments {
    /// Key in the file under which the weights are, such as state_dict_ema; by default the key
    /// whose entries fit the network
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// File of renaming rules, one per line: `old new` renames, `old -` removes a prefix, and
    /// `!old` drops entries; lists are written as in conv{1,2} layer.{0,1}
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
}

impl WeightsArguments {
    /// Returns the file at `path`, to be read with these options.
    pub fn file(&self, path: &Path) -> WeightsFile {
        WeightsFile { path: path.to_owned(), key: self.key.clone(), map: self.map.clone() }
    }
}

/// The network that a command is for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NetworkArguments {
    /// The network: keywords, a run folder, a recipe, or a file of weights.
    #[command(flatten)]
    pub description: Description,
    /// With a file that does not describe its network: recipe that describes it
    #[arg(long)]
    pub recipe: Option<String>,
    /// With a run, a recipe or a file: the phase; by default the last phase or, with a file, the
    /// last phase whose network the file fits
    #[arg(long)]
    pub phase: Option<String>,
    /// With a file: how it is read.
    #[command(flatten)]
    pub reading: WeightsArguments,
}

impl NetworkArguments {
    /// Returns whether nothing is given but the first argument.
    pub(crate) fn is_named_alone(&self) -> bool {
        let Self { description, recipe, phase, reading } = self;
        let WeightsArguments { key, map } = reading;
        description.is_empty()
            && [recipe, phase, key].iter().all(|option| option.is_none())
            && map.is_none()
    }
}

/// What the first argument is.
pub(super) enum Subject {
    Keywords,
    Run(PathBuf),
    Recipe(String),
    File(PathBuf),
}

impl Subject {
    /// Returns what an argument is.
    ///
    /// # Errors
    /// If the argument looks like a path but nothing is there.
    pub(super) fn find(text: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let Some(text) = text else { return Ok(Self::Keywords) };
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Self::Run(path.to_owned()));
        }
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        match (path.exists(), is_toml || is_known(text)) {
            (_, true) => Ok(Self::Recipe(text.to_owned())),
            (true, false) => Ok(Self::File(path.to_owned())),
            _ if path.components().count() > 1 || path.extension().is_some() => {
                Err(format!("{text}: there is no such file or run folder").into())
            }
            _ => Ok(Self::Keywords),
        }
    }

    /// Checks that no option is given that has no effect on this subject.
    pub(super) fn refuse_idle(&self, of: &NetworkArguments) -> Result<(), String> {
        let (name, described, file, phase) = match self {
            Self::Keywords => ("keywords", true, false, false),
            Self::Run(_) => ("a run, which has its own recipe and networks", false, false, true),
            Self::Recipe(_) => ("a recipe, which describes its networks", false, false, true),
            Self::File(_) => ("a file", true, true, true),
        };
        let NetworkArguments { description, recipe, phase: chosen, reading } = of;
        let ignored = [
            ("--model", description.model.is_some() && !described),
            ("--keyword", description.keyword.is_some() && !described),
            ("--options", description.options.is_some() && !described),
            ("--recipe", recipe.is_some() && !file),
            ("--phase", chosen.is_some() && !phase),
            ("--key", reading.key.is_some() && !file),
            ("--map", reading.map.is_some() && !file),
        ];
        no_effect(&ignored, name)
    }
}

/// Refuses a packed network, for a command that is for files of weights. `works` says what can be
/// done with it.
pub(super) fn refuse_packed(subject: &Subject, works: &str) -> Result<(), String> {
    match subject {
        Subject::File(path) if is_packed(path) => {
            Err(format!("{}: it is a packed network: {works}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The extension of packed networks.
const EXTENSION: &str = "qnet";

/// Returns whether a path has the extension of packed networks.
pub(crate) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

/// Returns an error for the first of these options that is given. They have no effect with `name`.
pub(crate) fn no_effect(options: &[(&str, bool)], name: &str) -> Result<(), String> {
    match options.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(format!("{option} has no effect with {name}")),
        None => Ok(()),
    }
}
