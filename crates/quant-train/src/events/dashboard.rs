//! Burn's terminal dashboard, which shows curves of loss and accuracy during a run.

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

use super::event::Event;
use crate::stop::Stop;

/// The dashboard. Each phase gets a new one. Its command "stop" requests that the run stops, as a
/// signal does. Its command "kill" panics.
pub(super) struct Dashboard {
    renderer: Option<TuiMetricsRendererWrapper>,
    interrupter: Interrupter,
    stop: Stop,
}

/// The name and the unit of each metric, and whether higher values are better.
const METRICS: [(&str, Option<&str>, bool); 5] = [
    ("Loss", None, false),
    ("Top-1", Some("%"), true),
    ("Top-5", Some("%"), true),
    ("Learning rate", None, false),
    ("Images/s", None, true),
];

impl Dashboard {
    pub(super) fn new(stop: Stop) -> Self {
        Self { renderer: None, interrupter: Interrupter::new(), stop }
    }

    pub(super) fn show(&mut self, event: &Event) {
        if self.interrupter.should_stop() {
            self.stop.ask();
        }
        match event {
            Event::Progress {
                phase,
                epoch,
                epochs,
                batch,
                batches,
                loss,
                learning_rate,
                images_per_second,
                ..
            } => {
                let renderer = self.renderer.get_or_insert_with(|| renderer(&self.interrupter));
                // The dashboard counts epochs from 1. The progress of earlier epochs is never taken
                // back.
                renderer.start(*epochs, epoch + 1, None, Some(phase));
                renderer.start_split("train", *batches);
                renderer.update_split(*batch);
                let values = [("Loss", f64::from(*loss)), ("Learning rate", *learning_rate)];
                for (name, value) in values.into_iter().chain([("Images/s", *images_per_second)]) {
                    renderer.update_train(state(name, value));
                }
            }
            Event::EpochFinished { train_top1, val, .. } => {
                let Some(renderer) = &mut self.renderer else {
                    return;
                };
                renderer.update_train(state("Top-1", *train_top1));
                let values = [("Loss", val.loss), ("Top-1", val.top1), ("Top-5", val.top5)];
                for (name, value) in values {
                    renderer.update_valid(state(name, value));
                }
            }
            Event::PhaseFinished { .. } => self.renderer = None,
            Event::Warning { message } => {
                if let Some(renderer) = &mut self.renderer {
                    renderer.log_event_training(message.clone());
                }
            }
            _ => {}
        }
    }
}

fn renderer(interrupter: &Interrupter) -> TuiMetricsRendererWrapper {
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
    renderer
}

fn id(name: &str) -> MetricId {
    MetricId::new(Arc::new(name.to_owned()))
}

fn state(name: &str, value: f64) -> MetricState {
    let text = format!("{value:.4}");
    let entry = SerializedEntry { formatted: text.clone(), serialized: text };
    MetricState::Numeric(MetricEntry::new(id(name), entry), Some(NumericEntry::Value(value)))
}
