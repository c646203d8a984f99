//! Burn's terminal dashboard: curves of loss and accuracy, while a run goes on.

use std::sync::Arc;

use burn_train::{
    Interrupter,
    logger::TrainingProgressLogger,
    metric::{
        MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
        SerializedEntry,
    },
    renderer::{
        MetricState, MetricsRenderer, MetricsRendererTraining, tui::TuiMetricsRendererWrapper,
    },
};

use super::Event;
use crate::stop::Stop;

/// The dashboard. Its "stop" asks the run to stop as a signal does; its "kill" panics.
pub(super) struct Dashboard {
    renderer: TuiMetricsRendererWrapper,
    interrupter: Interrupter,
    stop: Stop,
    /// Epochs of the phase, once one has ended.
    epochs: usize,
}

/// Name, unit, and whether more is better.
const METRICS: [(&str, Option<&str>, bool); 5] = [
    ("Loss", None, false),
    ("Top-1", Some("%"), true),
    ("Top-5", Some("%"), true),
    ("Learning rate", None, false),
    ("Images/s", None, true),
];

impl Dashboard {
    pub(super) fn new(stop: Stop) -> Self {
        let interrupter = Interrupter::new();
        let mut renderer = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
        for (name, unit, higher_is_better) in METRICS {
            renderer.register_metric(MetricDefinition {
                metric_id: id(name),
                name: Arc::new(name.to_owned()),
                description: None,
                attributes: MetricAttributes::Numeric(NumericAttributes {
                    unit: unit.map(str::to_owned),
                    higher_is_better,
                }),
            });
        }
        Self { renderer, interrupter, stop, epochs: 0 }
    }

    pub(super) fn show(&mut self, event: &Event) {
        if self.interrupter.should_stop() {
            self.stop.ask();
        }
        match event {
            Event::Progress {
                phase,
                epoch,
                batch,
                batches,
                loss,
                learning_rate,
                images_per_second,
                ..
            } => {
                self.renderer.start(self.epochs.max(epoch + 1), *epoch, None, Some(phase));
                self.renderer.start_split("train", *batches);
                self.renderer.update_split(*batch);
                let values = [("Loss", f64::from(*loss)), ("Learning rate", *learning_rate)];
                for (name, value) in values.into_iter().chain([("Images/s", *images_per_second)]) {
                    self.renderer.update_train(state(name, value));
                }
            }
            Event::EpochFinished { phase, epoch, epochs, train_top1, val, .. } => {
                self.epochs = *epochs;
                self.renderer.start(*epochs, epoch + 1, None, Some(phase));
                self.renderer.update_train(state("Top-1", *train_top1));
                let values = [("Loss", val.loss), ("Top-1", val.top1), ("Top-5", val.top5)];
                for (name, value) in values {
                    self.renderer.update_valid(state(name, value));
                }
            }
            Event::PhaseStarted { .. } => self.epochs = 0,
            Event::Warning { message } => self.renderer.log_event_training(message.clone()),
            _ => {}
        }
    }
}

fn id(name: &str) -> MetricId {
    MetricId::new(Arc::new(name.to_owned()))
}

fn state(name: &str, value: f64) -> MetricState {
    let text = format!("{value:.4}");
    let entry = SerializedEntry { formatted: text.clone(), serialized: text };
    MetricState::Numeric(MetricEntry::new(id(name), entry), Some(NumericEntry::Value(value)))
}
