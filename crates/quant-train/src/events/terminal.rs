//! The terminal display: progress bars, and lines for what should stay visible.

use indicatif::{ProgressBar, ProgressStyle};
use quant_core::{CalibrationInfo, number::significant};

use super::event::Event;
use crate::{
    measure::evaluate::skipped_note,
    output::{self, plural},
};

/// The terminal display. If the output is not a terminal, only the lines appear.
#[derive(Default)]
pub(super) struct Terminal {
    bar: Option<ProgressBar>,
}

impl Terminal {
    pub(super) fn show(&mut self, event: &Event) {
        match event {
            Event::RunStarted { name, device, train_images, val_images, classes, resumed } => {
                let verb = if *resumed { "resumed" } else { "started" };
                self.line(&format!(
                    "{name} {verb} on {device}: {train_images} training and {val_images} \
                     validation images, {}",
                    plural(classes.len(), "class", "classes")
                ));
            }
            Event::Changed { changes } => {
                self.line(&format!("changed:\n  {}", changes.join("\n  ")));
            }
            Event::PhaseStarted { phase, step, summary, .. } => {
                self.line(&format!("phase {phase}, from step {step}\n{summary}"));
            }
            Event::WeightsLoaded { phase, path, report } => {
                self.line(&format!("{phase} starts from {path}: {report}"));
            }
            Event::Calibrated { quantizers, kept, untouched, .. } => {
                if !kept.is_empty() {
                    let count = kept.len();
                    let them = plural(count, "quantizer keeps", "quantizers keep");
                    self.line(&format!("{them} the parameters from the weights"));
                }
                if !quantizers.is_empty() {
                    self.line(&calibration_table(quantizers));
                }
                if !untouched.is_empty() {
                    let names = untouched.join(", ");
                    self.line(&format!("quantizers with default parameters: {names}"));
                }
            }
            Event::Progress { epoch, batch, batches, loss, images_per_second, .. } => {
                let bar = self.bar.get_or_insert_with(|| progress_bar(*batches as u64));
                bar.set_position(*batch as u64);
                bar.set_message(format!(
                    "epoch {}: loss {loss:.3}, {images_per_second:.0} images/s",
                    epoch + 1
                ));
            }
            Event::EpochFinished {
                phase,
                epoch,
                epochs,
                train_loss,
                train_top1,
                val,
                loss_scale,
            } => {
                self.finish_bar();
                if let Some(scale) = loss_scale {
                    let (scale, skipped) = (scale.scale, scale.skipped);
                    self.line(&format!("loss scale {scale}, {skipped} steps skipped so far"));
                }
                self.line(&format!(
                    "{phase} {}/{epochs}: train loss {train_loss:.3}, top-1 {train_top1:.1} %; \
                     validation loss {:.3}, top-1 {:.2} %, top-5 {:.2} %{}",
                    epoch + 1,
                    val.loss,
                    val.top1,
                    val.top5,
                    skipped_note(val)
                ));
            }
            Event::Packed {
                file,
                bytes,
                packed,
                served,
                same_decisions,
                codes,
                other_codes,
            } => self.line(&format!(
                "packed: {file}, {bytes} bytes; top-1 {:.2} % by the engine that serves it, {:.2} \
                 % by the same arithmetic in the trainer\ncompared with the usual evaluation: \
                 {same_decisions} of {} decisions are the same, {other_codes} of {codes} codes \
                 differ",
                packed.top1, served.top1, packed.images
            )),
            Event::QuantizerHealth { .. } | Event::WeightHistogram { .. } => {}
            Event::PolicyApplied { phase, step, policy, layers } => self.line(&format!(
                "{phase}, step {step}: policy {} changed {} quantizers",
                policy + 1,
                layers.len()
            )),
            Event::ImageSkipped { reason } => self.line(&format!("skipped: {reason}")),
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            Event::PhaseFinished { phase, last, best_epoch, best } => self.line(&format!(
                "{phase}: top-1 {:.2} % at the end{}, best {:.2} % after epoch {}",
                last.top1,
                skipped_note(last),
                best.top1,
                best_epoch + 1
            )),
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) if !bar.is_hidden() => bar.println(text),
            _ => output::tell(text),
        }
    }

    fn finish_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn progress_bar(batches: u64) -> ProgressBar {
    let bar = ProgressBar::new(batches);
    let template = "{msg} [{bar:30}] {pos}/{len}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// Returns the results of calibration as a table with one line for each quantizer.
fn calibration_table(quantizers: &[CalibrationInfo]) -> String {
    let mut table = format!(
        "calibrated {} quantizers\n{:<42} {:>9} {:>9} {:>13} {:>12}",
        quantizers.len(),
        "quantizer",
        "before",
        "after",
        "error before",
        "after"
    );
    for info in quantizers {
        let mean = |values: &[f32]| {
            let sum: f64 = values.iter().copied().map(f64::from).sum();
            sum / values.len().max(1) as f64
        };
        table.push_str(&format!(
            "\n{:<42} {:>9} {:>9} {:>13} {:>12}",
            info.layer,
            significant(mean(&info.before), 3),
            significant(mean(&info.after), 3),
            significant(info.error_before, 2),
            significant(info.error_after, 2)
        ));
    }
    table
}
