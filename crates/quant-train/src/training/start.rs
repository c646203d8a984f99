//! The start of a phase: its network, weights from a file or from the phase before it, and the
//! initial parameters of the quantizers.

use burn::tensor::Tensor;
use quant_core::{Quantizer, QuantizerConfig, calibrate_in_training, calibrate_where};
use quant_nn::{Classifier, LoadReport, StateDict};

use crate::{
    batches::upload::DeviceBatch,
    classes,
    error::TrainError,
    events::{Event, Events},
    networks::weights::{self, WeightsFile, not_finite},
    recipe::{phase::Phase, policy::Trigger, quantization::QuantizationRecipe},
    training::trainer::Trainer,
};

/// Applies the policies of the start, loads the weights of `from`, and calibrates the quantizers
/// whose parameters are still missing.
///
/// Quantizers keep parameters that come with the weights if they were trained with the same method,
/// levels, range, granularity and normalisation. The other quantizers are calibrated.
pub(crate) fn start<M: Classifier>(
    phase: &Phase,
    mut network: M,
    from: Option<&WeightsFile>,
    trainer: &Trainer<'_, M>,
    events: &mut Events,
) -> Result<M, TrainError> {
    network = fresh(phase, network)?;
    let mut kept = Vec::new();
    if let Some(file) = from {
        let state = file.read()?;
        let report;
        (network, report) = weights::load(file, &state, network);
        check_fits(phase, file, &network, &report)?;
        emit_unusual(phase, file, &network, &report, events)?;
        warn_of_other_classes(phase, file, &state, trainer.train.dataset().classes(), events)?;
        kept = matching_quantizers(&network, &state, &report);
    }
    match &phase.quantization {
        Some(quantization) => {
            let is_random = from.is_none();
            calibrate((phase, quantization), (network, is_random), kept, trainer, events)
        }
        None => Ok(network),
    }
}

/// Emits a warning if the weights come from a network of other classes, whose classifier is kept.
fn warn_of_other_classes(
    phase: &Phase,
    file: &WeightsFile,
    state: &StateDict,
    classes: &[String],
    events: &mut Events,
) -> Result<(), TrainError> {
    let known = weights::classes_of(state);
    match classes::difference(&known, classes).pop() {
        Some(change) if !known.is_empty() && !phase.fresh_classifier => {
            let message = format!(
                "{}: its network was trained on other classes, and its classifier is kept: \
                 {change}; `fresh_classifier = true` starts a fresh classifier",
                file.path.display()
            );
            events.emit(&Event::Warning { message })
        }
        _ => Ok(()),
    }
}

/// Returns the network of a phase after the policies of its start.
pub(crate) fn fresh<M: Classifier>(phase: &Phase, mut network: M) -> Result<M, TrainError> {
    for policy in phase.policies.iter().filter(|policy| policy.at == Trigger::Start) {
        policy.apply(&mut network)?;
    }
    Ok(network)
}

/// Refuses weights that do not fit the network or that are not finite.
pub(crate) fn check_fits<M: Classifier>(
    phase: &Phase,
    file: &WeightsFile,
    network: &M,
    report: &LoadReport,
) -> Result<(), TrainError> {
    let classifier = weights::other_classifier(network, report);
    let mut rest = report.clone();
    if phase.fresh_classifier {
        rest.mismatched.retain(|(name, ..)| !classifier.contains(name));
        rest.missing.retain(|name| !classifier.contains(name));
    }
    if let Err(error) = rest.require(true) {
        let advice = match classifier.first() {
            Some(name) if !phase.fresh_classifier => format!(
                "; the classifier {name} has other classes: to train a fresh one, give the phase \
                 `fresh_classifier = true` (--set phase.{}.fresh_classifier=true)",
                phase.name
            ),
            _ if report.loaded.is_empty() => "; `quant inspect` lists its names; init_key selects \
                                              the key that they are under, and init_map renames \
                                              them"
                .into(),
            _ if !report.mismatched.iter().all(|(name, ..)| report.is_quantizers(name)) => {
                "; it is of another network than [model] describes".into()
            }
            _ => "; init_map can rename entries and drop them".into(),
        };
        let reason = format!("{error}{advice}");
        return Err(TrainError::Weights { path: file.path.clone(), reason });
    }
    match not_finite(network) {
        None => Ok(()),
        Some(found) => {
            let reason = format!("{found}: nothing can be trained from it");
            Err(TrainError::Weights { path: file.path.clone(), reason })
        }
    }
}

/// Emits events for what is unusual about the weights that were loaded.
fn emit_unusual<M: Classifier>(
    phase: &Phase,
    file: &WeightsFile,
    network: &M,
    report: &LoadReport,
    events: &mut Events,
) -> Result<(), TrainError> {
    let path = file.path.display();
    let classifier = weights::other_classifier(network, report);
    if phase.fresh_classifier {
        for (name, theirs, ours) in &report.mismatched {
            if classifier.contains(name) {
                let message = format!(
                    "{name} is not taken from {path} but starts with fresh values: its shape is \
                     {theirs:?} there and {ours:?} here"
                );
                events.emit(&Event::Warning { message })?;
            }
        }
    }
    // The parameters of quantizers are reported after calibration.
    let mut reported = report.clone();
    reported.missing.retain(|name| !report.is_quantizers(name));
    reported.other_quantizers.clear();
    let (phase, path, report) = (phase.name.clone(), path.to_string(), reported.to_string());
    events.emit(&Event::WeightsLoaded { phase, path, report })
}

/// Returns the names of the quantizers whose parameters the state has, if they were trained with
/// the same configuration.
fn matching_quantizers<M: Classifier>(
    network: &M,
    state: &StateDict,
    report: &LoadReport,
) -> Vec<String> {
    let matching = network.quantizers().into_iter().filter(|(layer, role, quantizer)| {
        let parameters = format!("{}.", quantizer.name());
        let of_it = |list: &[String]| list.iter().any(|other| other.starts_with(&parameters));
        let other_shape =
            report.mismatched.iter().any(|(other, ..)| other.starts_with(&parameters));
        let complete = of_it(&report.loaded) && !of_it(&report.missing) && !other_shape;
        // For a file that does not describe its quantizers, the configurations are taken to be
        // those of the recipe.
        let same = !state.describes_quantizers() || {
            let theirs = state.quantizer(layer, *role);
            theirs.is_some_and(|(theirs, _)| mean_the_same(theirs, quantizer.config()))
        };
        complete && same
    });
    matching.map(|(_, _, quantizer)| quantizer.name().to_owned()).collect()
}

/// Returns whether learned parameters have the same meaning in two quantizers.
fn mean_the_same(a: &QuantizerConfig, b: &QuantizerConfig) -> bool {
    (a.method, a.levels, a.range, a.granularity) == (b.method, b.levels, b.range, b.granularity)
        && a.normalization == b.normalization
}

/// Calibrates the quantizers that are not in `kept` on the first batches of training. The running
/// statistics of a network with random weights fit nothing yet, so the statistics of the batches
/// are used for it.
fn calibrate<M: Classifier>(
    (phase, quantization): (&Phase, &QuantizationRecipe),
    (network, is_random): (M, bool),
    kept: Vec<String>,
    trainer: &Trainer<'_, M>,
    events: &mut Events,
) -> Result<M, TrainError> {
    let kept = if quantization.calibrates_always() { Vec::new() } else { kept };
    let is_kept = |quantizer: &Quantizer| kept.iter().any(|name| name == quantizer.name());
    let plain = trainer.device.clone().without_autodiff();
    // Processes that share statistics would wait for those that have no image in a batch.
    let of_batches = is_random && trainer.shared.is_none();
    let mut batches = trainer.train.epoch(0, 0).take(quantization.calibration_batches);
    let mut seen = Ok(());
    let calibration = quantization.calibration.method();
    let wanted = |quantizer: &Quantizer| !is_kept(quantizer);
    let run = |network: &M| {
        seen = batches.try_for_each(|batch| {
            let batch = DeviceBatch::new(batch?, &plain);
            if batch.count > 0 {
                let images = trainer.normalizer.images(&batch);
                network.forward(if of_batches {
                    trainer.check_variance(network, batch.count, batch.count as f64)?;
                    Tensor::from_inner(images)
                } else {
                    images
                });
            }
            Ok::<_, TrainError>(())
        });
    };
    let (network, quantizers) = if of_batches {
        calibrate_in_training(network, wanted, calibration, run)
    } else {
        calibrate_where(network, wanted, calibration, run)
    };
    seen?;
    let untouched = network.quantizers().into_iter().filter(|(_, _, quantizer)| {
        let calibrated = quantizers.iter().any(|info| info.layer == quantizer.name());
        !quantizer.learned().is_empty() && !is_kept(quantizer) && !calibrated
    });
    let untouched = untouched.map(|(_, _, quantizer)| quantizer.name().to_owned()).collect();
    let phase = phase.name.clone();
    events.emit(&Event::Calibrated { phase, quantizers, kept, untouched })?;
    Ok(network)
}
