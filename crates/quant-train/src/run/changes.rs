//! Changes of the recipe of a run that has begun: the fields that differ, and which of them may
//! differ.

use std::{collections::BTreeMap, path::Path};

use crate::{
    error::TrainError,
    output::plural,
    recipe::{Recipe, phase::Phase},
    run::folder::has_begun,
    summary::PhaseResult,
    training::checkpoint,
};

/// The fields of a phase that may change after the phase has begun, because the content of a
/// checkpoint does not depend on their values.
const OF_PHASE: [&str; 9] = [
    "epochs",
    "extra_epochs",
    "learning_rate",
    "schedule",
    "clip_norm",
    "label_smoothing",
    "checkpoint_steps",
    "keep_every",
    "keep_at_steps",
];

/// Other fields that may change at any time, because no weight depends on them.
const ANYWHERE: [&str; 6] = [
    "expected",
    "published",
    "data.workers",
    "data.prefetch",
    "data.max_broken",
    "data.eval_batch_size",
];

/// A field that differs between two recipes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// The path of the field, such as `phase.quantized.epochs`.
    pub(crate) field: String,
    /// The value before, as TOML, or `None` if the field had no value.
    pub(crate) before: Option<String>,
    /// The value now, as TOML, or `None` if the field has no value.
    pub(crate) now: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not given".into());
        write!(f, "{}: {} before, {} now", self.field, text(&self.before), text(&self.now))
    }
}

/// Returns the fields in which two recipes differ, in the order of their paths.
pub(crate) fn differences(before: &Recipe, now: &Recipe) -> Result<Vec<Difference>, TrainError> {
    let (before, now) = (fields(before)?, fields(now)?);
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let differing = names.into_iter().filter(|name| before.get(*name) != now.get(*name));
    let differing = differing.map(|name| Difference {
        field: name.clone(),
        before: before.get(name).cloned(),
        now: now.get(name).cloned(),
    });
    Ok(differing.collect())
}

/// Returns every value of a recipe by its path. The paths of phases contain the names of the
/// phases.
fn fields(recipe: &Recipe) -> Result<BTreeMap<String, String>, TrainError> {
    let table: toml::Value = toml::from_str(&recipe.to_toml()?).map_err(|error| {
        TrainError::Recipe { path: "<memory>".into(), message: error.to_string() }
    })?;
    let mut found = BTreeMap::new();
    gather("", &table, &mut found);
    Ok(found)
}

fn gather(path: &str, value: &toml::Value, found: &mut BTreeMap<String, String>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        // A schedule is compared as a whole, because each kind of schedule has other fields.
        toml::Value::Table(table) if !path.ends_with(".schedule") => {
            table.iter().for_each(|(name, value)| gather(&below(name), value, found));
        }
        toml::Value::Array(items) if path == "phase" => {
            for item in items {
                let name = item.get("name").and_then(toml::Value::as_str).unwrap_or_default();
                gather(&below(name), item, found);
            }
        }
        value => {
            found.insert(path.to_owned(), value.to_string());
        }
    }
}

/// Checks that the run in `folder`, which has the recipe `before`, can continue with the recipe
/// `now`.
///
/// # Errors
/// [`TrainError::Unchangeable`] with every field that cannot change, and why.
pub(crate) fn check_possible(
    folder: &Path,
    before: &Recipe,
    now: &Recipe,
    changes: &[Difference],
) -> Result<(), TrainError> {
    let mut refused = Vec::new();
    for change in changes {
        if let Some(reason) = refusal(folder, before, &change.field) {
            refused.push(format!("{change}: {reason}"));
        }
    }
    for phase in &now.phases {
        let of_phase = folder.join(&phase.name);
        let changed = changes
            .iter()
            .any(|change| change.field.starts_with(&format!("phase.{}.", phase.name)));
        let epochs = phase.all_epochs();
        match PhaseResult::read(&of_phase).ok().flatten() {
            Some(result) if changed && result.epochs >= epochs => refused.push(format!(
                "phase.{}: it has ended after {}, and continues only with more epochs",
                phase.name,
                plural(result.epochs, "epoch", "epochs")
            )),
            Some(_) => {}
            None => {
                let done = checkpoint::epochs_done(&of_phase.join("checkpoints")).unwrap_or(0);
                if done > epochs {
                    refused.push(format!(
                        "phase.{}.epochs: {epochs} is less than the {done} epochs that are done",
                        phase.name
                    ));
                }
            }
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(TrainError::Unchangeable { changes: refused }) }
}

/// Returns why a field cannot change, or `None` if it can.
fn refusal(folder: &Path, recipe: &Recipe, field: &str) -> Option<String> {
    let is = |known: &str| field == known || field.starts_with(&format!("{known}."));
    if ANYWHERE.into_iter().any(is) {
        return None;
    }
    let begun = |phase: &Phase| has_begun(folder, phase);
    let phases = recipe.phases.iter().enumerate();
    let mut of_phase = phases.filter_map(|(index, phase)| {
        Some((index, phase, field.strip_prefix(&format!("phase.{}.", phase.name))?))
    });
    let Some((index, phase, rest)) = of_phase.next() else {
        return Some("what has been trained depends on it".into());
    };
    if let Some(later) = recipe.phases[index + 1..].iter().find(|later| begun(later)) {
        return Some(format!("phase {} has begun with the weights of this phase", later.name));
    }
    if !begun(phase) {
        return (rest == "name").then(|| "the files of the run have this name".into());
    }
    let name = rest.split('.').next().unwrap_or_default();
    let known = OF_PHASE.contains(&name);
    (!known).then(|| {
        format!("the phase has begun; of its fields {} can still change", OF_PHASE.join(", "))
    })
}

impl Phase {
    /// Returns the phase with fixed values for the fields that may change after it has begun.
    pub(crate) fn lasting(&self) -> Self {
        Self {
            epochs: 0,
            extra_epochs: 0,
            learning_rate: 0.0,
            schedule: crate::optimize::schedule::Schedule::Fix,
            clip_norm: None,
            label_smoothing: 0.0,
            checkpoint_steps: None,
            keep_every: None,
            keep_at_steps: false,
            ..self.clone()
        }
    }
}
