//! The command `quant eval`: evaluation of runs, of files of weights and of packed networks.

use std::{
    error::Error,
    fmt::Write,
    path::{Path, PathBuf},
};

use quant_train::{Evaluation, Recipe, Run, RunOptions, ServedOutcome, WeightsFile};

use crate::{
    machine::EvalArguments,
    networks::{WeightsArguments, is_packed, no_effect},
    packed::{self, is_onnx},
    recipes::library::find,
    runs::data_folder,
    score::{score_line, skipped_lines},
};

/// What is evaluated, and on which data.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EvalChoice {
    /// Phase of the run or recipe; by default the last phase or, with a file, the last phase whose
    /// network the file fits
    #[arg(long)]
    pub phase: Option<String>,
    /// With a run: evaluate the best network of the phase instead of the last
    #[arg(long)]
    pub best: bool,
    /// With a file of weights (required): recipe that describes the data, and also the network if
    /// the file does not describe it. With a packed network: recipe that describes the data; by
    /// default they are a folder val with one folder of pictures for each class
    #[arg(long)]
    pub recipe: Option<String>,
    /// With a file of weights: change a field of the recipe (may be repeated)
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub changes: Vec<String>,
    /// With a file of weights: how it is read
    #[command(flatten)]
    pub reading: WeightsArguments,
    /// Folder of the data; with a run, by default the folder that the run was trained on
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Evaluate also by the arithmetic of the packed network, and compare: decisions, and the codes
    /// of each layer's input
    #[arg(long)]
    pub served: bool,
    /// With a packed network: number of threads that run it; 0 takes as many as there are cores
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl EvalChoice {
    /// Checks that no option is given that has no effect on this subject.
    fn refuse_idle(&self, subject: Subject) -> Result<(), String> {
        let (name, run, weights, packed) = match subject {
            Subject::Run => ("a run, which has its own recipe and networks", true, false, false),
            Subject::Weights => ("a file of weights", false, true, false),
            Subject::Packed => ("a packed network", false, false, true),
        };
        let ignored = [
            ("--phase", self.phase.is_some() && packed),
            ("--best", self.best && !run),
            ("--recipe", self.recipe.is_some() && run),
            ("--set", !self.changes.is_empty() && !weights),
            ("--key", self.reading.key.is_some() && !weights),
            ("--map", self.reading.map.is_some() && !weights),
            ("--served", self.served && packed),
            ("--threads", self.threads.is_some() && !packed),
        ];
        no_effect(&ignored, name)
    }
}

/// The kinds of networks that are evaluated.
#[derive(Clone, Copy)]
enum Subject {
    Run,
    Weights,
    Packed,
}

/// The network of a file, and the data that it is evaluated on.
struct Source {
    file: WeightsFile,
    recipe: Recipe,
    phase: Option<String>,
    data: PathBuf,
}

impl Source {
    /// Returns the network of a run, and the run's data.
    fn of_run(
        folder: &Path,
        choice: &EvalChoice,
        options: &RunOptions,
    ) -> Result<Self, Box<dyn Error>> {
        let run = Run::resume(folder, choice.data.as_deref(), options.clone())?;
        let last = run.recipe().phases.last().map(|phase| phase.name.clone());
        let phase = choice.phase.clone().or(last).unwrap_or_default();
        let file = run.trained_file(&phase, choice.best)?;
        run.check_classes()?;
        let (recipe, data) = (run.recipe().clone(), run.data().to_owned());
        Ok(Self { file, recipe, phase: Some(phase), data })
    }

    /// Returns the network of a file of weights, and the data of a recipe.
    fn of_file(path: &Path, choice: &EvalChoice) -> Result<Self, Box<dyn Error>> {
        let recipe = choice.recipe.as_ref();
        if !path.exists() {
            return Err(format!("{}: there is no such file or folder", path.display()).into());
        }
        if is_onnx(path) {
            return Err(packed::to_pack(path).into());
        }
        let recipe = recipe.ok_or("a file needs --recipe, which describes the data")?;
        let (text, recipe_path) = find(recipe)?;
        let recipe = Recipe::parse_with(&text, &recipe_path, &choice.changes)?;
        let data = data_folder(choice.data.as_deref(), &recipe.data)?;
        Ok(Self { file: choice.reading.file(path), recipe, phase: choice.phase.clone(), data })
    }
}

/// Evaluates a run folder, a file of weights or a packed network, and returns the scores as text.
///
/// # Errors
/// If the network or the data cannot be read, or do not fit together; for options that have no
/// effect; and with `served` if the network cannot be packed.
pub fn evaluate(
    network: &Path,
    choice: &EvalChoice,
    machine: &EvalArguments,
) -> Result<String, Box<dyn Error>> {
    let subject = match (network.is_dir(), is_packed(network)) {
        (true, _) => Subject::Run,
        (false, true) => Subject::Packed,
        (false, false) => Subject::Weights,
    };
    choice.refuse_idle(subject)?;
    let options = machine.options()?;
    let source = match subject {
        Subject::Run => Source::of_run(network, choice, &options)?,
        Subject::Weights => Source::of_file(network, choice)?,
        Subject::Packed => {
            let EvalChoice { recipe, data, threads, .. } = choice;
            let (recipe, data) = (recipe.as_deref(), data.as_deref());
            let (score, skipped) = packed::evaluate(network, recipe, data, *threads, &options)?;
            let mut text = skipped_lines(&skipped)?;
            text += &score_line(&score)?;
            return Ok(text);
        }
    };
    let Source { file, recipe, phase, data } = &source;
    if choice.served {
        let ServedOutcome { evaluation, served } =
            Run::evaluate_served(file, recipe, phase.as_deref(), data, &options)?;
        let mut text = evaluation_lines(&evaluation)?;
        writeln!(text, "usual evaluation: {}", score_line(&served.usual)?)?;
        writeln!(text, "served arithmetic: {}", score_line(&served.served)?)?;
        write!(text, "{}", served.comparison)?;
        return Ok(text);
    }
    let evaluation = Run::evaluate(file, recipe, phase.as_deref(), data, &options)?;
    Ok(evaluation_lines(&evaluation)? + &score_line(&evaluation.score)?)
}

/// Returns the lines that stand before the score of a network that was read from a file.
fn evaluation_lines(found: &Evaluation) -> Result<String, Box<dyn Error>> {
    let mut text = skipped_lines(&found.skipped)?;
    if let Some(phase) = &found.phase {
        writeln!(text, "network: phase {phase} of the recipe; {}", found.report)?;
    }
    if let Some((own, given)) = found.other_size {
        writeln!(
            text,
            "warning: the network is for images of {own} pixels, but the recipe gives {given}"
        )?;
    }
    Ok(text)
}
