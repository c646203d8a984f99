//! The commands of the `quant` program for recipes. They return the text that the program prints,
//! or train.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt::Write,
    path::{Path, PathBuf},
};

use quant_data::LastBatch;
use quant_train::{
    Recipe, Run, RunOptions, TrainError, files,
    output::{self, plural},
    qtool::{config::ShellConfig, import},
};

pub(crate) mod library;

use library::read;
pub use library::{RECIPES, find};

use crate::{
    machine::{self, MachineArguments},
    networks,
    runs::{self, ResumeArguments, StartArguments},
};

/// Returns a table of the recipes that come with the program, with the published and the expected
/// top-1 accuracy.
///
/// # Errors
/// If a recipe is invalid, which a test rules out.
pub fn list() -> Result<String, Box<dyn Error>> {
    let mut text = format!("{:<34} {:>10} {:>10}  source\n", "recipe", "published", "expected");
    for (name, recipe) in RECIPES {
        let recipe = Recipe::parse(recipe, Path::new(name))?;
        let number = |value: Option<f64>| value.map_or("-".into(), |top1| format!("{top1:.1} %"));
        let published = recipe.published.as_ref();
        let (top1, expected) = (published.map(|p| p.top1), recipe.expected.map(|e| e.top1));
        let source = published.map_or("", |published| &published.source);
        writeln!(text, "{name:<34} {:>10} {:>10}  {source}", number(top1), number(expected))?;
    }
    Ok(text)
}

/// Returns the recipe with every default value written out. With `typed`, networks that keywords
/// describe are written field by field, and comments above the recipe list the keywords that do not
/// change the network.
///
/// # Errors
/// As [`find`] and [`Recipe::parse_with`]; and for keywords that cannot be written as fields.
pub fn show(name: &str, typed: bool, changes: &[String]) -> Result<String, Box<dyn Error>> {
    let (text, path) = find(name)?;
    let recipe = Recipe::parse_with(&text, &path, changes)?;
    if !typed {
        return Ok(recipe.to_toml()?);
    }
    let (recipe, without_effect) = recipe.typed()?;
    let mut shown = String::new();
    for keyword in without_effect {
        writeln!(shown, "# left out, because it does not change the network: keyword {keyword}")?;
    }
    Ok(shown + &recipe.to_toml()?)
}

/// Checks a recipe, and returns a description of its phases and their networks. `data` is the
/// folder of the data, with which the recipe is checked too if it is given.
///
/// # Errors
/// As [`find`], [`Recipe::parse_with`] and [`Run::check_data`]; if a network cannot be built; and
/// if weights that a phase starts from do not fit its network. Weights that do not exist yet are a
/// warning in the text.
pub fn check(
    name: &str,
    changes: &[String],
    data: Option<&Path>,
) -> Result<String, Box<dyn Error>> {
    let (text, path) = find(name)?;
    let recipe = Recipe::parse_with(&text, &path, changes)?;
    let device = burn::tensor::Device::default();
    let found = match data {
        Some(_) => {
            let folder = runs::data_folder(data, &recipe.data)?;
            let options = RunOptions { cache: machine::cache(), ..RunOptions::new(device.clone()) };
            Some(Run::check_data(&recipe, &folder, &options)?)
        }
        None => None,
    };
    let found = found.as_ref().map(|(train, val)| (train.classes(), train.len(), val.len()));
    let mut lines = format!(
        "{}: data of the kind {} at {} pixels\n",
        recipe.name,
        recipe.data.kind.name(),
        recipe.data.input_size
    );
    if let Some((classes, train, val)) = found {
        writeln!(
            lines,
            "{train} training and {val} validation images in {}",
            plural(classes.len(), "class", "classes")
        )?;
    }
    let classes = found.map_or(recipe.data.usual_classes(), |(classes, _, _)| classes.len());
    let images = found.map(|(_, train, _)| train).or_else(|| recipe.data.train_images());
    for (index, phase) in recipe.phases.iter().enumerate() {
        let network = recipe.network(phase, classes)?.init(&device)?;
        let summary = quant_nn::summarize(&network, &quant_nn::StateDict::of(&network));
        writeln!(
            lines,
            "phase {}: {}, batch size {}, learning rate {}; {} parameters, {} bytes at 32 bits, {} \
             bytes packed ({})",
            phase.name,
            plural(phase.all_epochs(), "epoch", "epochs"),
            phase.batch_size * phase.batches_per_step(),
            phase.learning_rate,
            summary.parameters,
            summary.size_bytes_float,
            summary.size_bytes_packed,
            plural(classes, "class", "classes")
        )?;
        let batches = images.map(|images| match phase.last_batch {
            LastBatch::Drop => images / phase.batch_size,
            LastBatch::Keep => images.div_ceil(phase.batch_size),
        });
        if let Some(remark) = networks::remark(network.config()) {
            writeln!(lines, "note: {remark}")?;
        }
        let idle = phase.too_short_for(batches).into_iter().chain(phase.idle_exceptions(&network));
        for message in idle.chain(phase.few_values(&network, 1)) {
            writeln!(lines, "warning: {message}")?;
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let fits = match found {
            Some((classes, _, _)) => recipe.check_start(index, folder, classes, &device),
            None => recipe.check_phase(index, folder, None, &device),
        };
        match fits {
            // The file may exist on the machine on which the recipe will be run.
            Err(error @ TrainError::Absent { .. }) => writeln!(lines, "warning: {error}")?,
            other => other?,
        }
    }
    Ok(lines)
}

/// Converts a configuration file of QTool into a recipe, which is written to `to`. Returns a text
/// that says what each setting became, and the command to use next.
///
/// # Errors
/// If a file cannot be read or written, and for settings that a recipe cannot have. No recipe is
/// written after an error.
pub fn import(from: &Path, to: &Path) -> Result<String, Box<dyn Error>> {
    let outside: BTreeMap<String, String> =
        std::env::var("FASTDIR").map(|value| ("FASTDIR".to_owned(), value)).into_iter().collect();
    let config = ShellConfig::parse(&read(from)?, &outside);
    let folder = from.parent().unwrap_or(Path::new(""));
    let imported = import::import(&config, |file| {
        let path = folder.join(file);
        std::fs::read_to_string(&path).map_err(|source| TrainError::Io { path, source })
    })?;
    let mut text = String::new();
    for outcome in &imported.outcomes {
        let setting = format!("{} {}", outcome.setting, outcome.value);
        writeln!(text, "{setting:<40} {}", outcome.became)?;
    }
    for warning in &imported.warnings {
        writeln!(text, "warning: {warning}")?;
    }
    files::write(to, imported.recipe.to_toml()?.as_bytes())?;
    writeln!(text, "written to {}", to.display())?;
    text.push_str(&next_command(&imported, to));
    Ok(text)
}

/// Returns the command that does with the recipe what QTool does with the configuration.
fn next_command(imported: &import::Import, to: &Path) -> String {
    let to = to.display();
    let data = imported.data.as_deref().unwrap_or("<folder>");
    let weights = imported.recipe.phases.iter().find_map(|phase| phase.init.as_deref());
    match (imported.evaluates, weights) {
        (true, Some(weights)) => {
            format!("to evaluate: quant eval {weights} --recipe {to} --data {data}")
        }
        (true, None) => format!(
            "to evaluate a network (the configuration does not name its file): \
             quant eval <file> --recipe {to} --data {data}"
        ),
        (false, _) => format!("to train: quant train {to} --data {data}"),
    }
}

/// Runs a recipe, and compares its last top-1 accuracy with the expected one.
///
/// # Errors
/// If the recipe has no expected score, if the difference is larger than the tolerance, and the
/// errors of the run.
pub fn verify(
    name: &str,
    start: &StartArguments,
    machine: &MachineArguments,
) -> Result<(), Box<dyn Error>> {
    let (text, path) = find(name)?;
    let expected = Recipe::parse_with(&text, &path, &start.changes)?.expected;
    let expected =
        expected.ok_or("the recipe has no [expected] score, because no run has measured one")?;
    let tolerance = expected.tolerance()?;
    machine.execute(runs::stop_on_signals()?, |options| {
        let run = runs::create(&text, &path, start, options)?;
        let last = run.execute()?.phases.last().ok_or("the recipe has no phase")?.last;
        let difference = (last.top1 - expected.top1).abs();
        let line = format!(
            "top-1 {:.2} %, expected {}, within {tolerance:.2} points",
            last.top1,
            expected.text()
        );
        if difference > tolerance {
            return Err(line.into());
        }
        if run.reports() {
            output::print(&line)?;
        }
        Ok(())
    })
}

/// Runs recipes one after another. A run that fails is resumed at most `retries` times.
///
/// # Errors
/// If a recipe cannot be read, before any is run; if the user stops a run; and after the last run,
/// the list of recipes that failed.
pub fn queue(
    names: &[String],
    retries: usize,
    start: &StartArguments,
    machine: &MachineArguments,
) -> Result<(), Box<dyn Error>> {
    if retries > 0 && machine.devices > 1 {
        return Err(
            "--retries needs --devices 1; quant resume continues a run of several devices".into()
        );
    }
    // All recipes are read before the first is run, so that a mistake is noticed at once.
    let found: Vec<_> = names.iter().map(|name| find(name)).collect::<Result<_, _>>()?;
    let mut made = 0;
    for (text, path) in &found {
        let recipe = Recipe::parse_with(text, path, &start.changes)?;
        made += usize::from(recipe.data.is_made());
    }
    if start.data.is_some() && made == found.len() {
        return Err("--data has no effect: the data of all recipes are made by the program".into());
    }
    let stop = runs::stop_on_signals()?;
    machine.execute(stop, |options| run_all(&found, retries, start, &options))
}

fn run_all(
    found: &[(String, PathBuf)],
    retries: usize,
    start: &StartArguments,
    options: &RunOptions,
) -> Result<(), Box<dyn Error>> {
    let mut failed = Vec::new();
    for (text, path) in found {
        let attempt = || -> Result<(), Box<dyn Error>> {
            // The folder is for those recipes of the queue whose data are not made.
            let recipe = Recipe::parse_with(text, path, &start.changes)?;
            let data = start.data.clone().filter(|_| !recipe.data.is_made());
            let start = &StartArguments { data, ..start.clone() };
            let run = runs::create(text, path, start, options.clone())?;
            let mut result = runs::execute(&run);
            for left in (0..retries).rev() {
                match &result {
                    Err(error) if !runs::is_stop(error.as_ref()) => {
                        output::tell(&format!(
                            "{}: {error}; trying again (retries left after this: {left})",
                            path.display()
                        ));
                        result = runs::resume(
                            run.folder(),
                            &ResumeArguments::default(),
                            options.clone(),
                        );
                    }
                    _ => break,
                }
            }
            result
        };
        match attempt() {
            Err(error) if runs::is_stop(error.as_ref()) => return Err(error),
            Err(error) => {
                output::tell(&format!("error: {}: {error}", path.display()));
                failed.push(path.display().to_string());
            }
            Ok(()) => {}
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("{} of {} failed: {}", failed.len(), found.len(), failed.join(", ")).into())
    }
}
