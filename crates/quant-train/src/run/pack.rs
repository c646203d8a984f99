//! The packed network of a run.

use std::{sync::Arc, thread::available_parallelism};

use quant_data::Dataset;
use quant_export::Lowered;
use quant_infer::Network as Engine;
use quant_nn::Classifier;

use super::{Run, evaluation::eval_loader};
use crate::{
    batches::upload::ImageNormalizer,
    deploy::{ServedEvaluation, evaluate_packed, evaluate_served},
    error::TrainError,
    events::{Event, Events},
    files,
    networks::source::Networks,
    summary::{Packed, Summary},
};

/// The name of the packed network in the folder of a run.
pub(crate) const PACKED: &str = "packed.qnet";

impl Run {
    /// Packs the last network of the run, if it is quantized and its structure is known, and
    /// evaluates it twice: by the engine that serves it, and by the same arithmetic in the trainer.
    /// The results become parts of `summary`. A network that cannot be packed is a warning, because
    /// the run itself succeeded.
    pub(super) fn pack<N: Networks>(
        &self,
        networks: &N,
        network: &N::Network,
        val: &Arc<dyn Dataset>,
        summary: &mut Summary,
        events: &mut Events,
    ) -> Result<(), TrainError> {
        if !summary.phases.last().is_some_and(|phase| phase.quantized) {
            return Ok(());
        }
        let Some(lowered) = networks.lower(network, val.classes()) else { return Ok(()) };
        let evaluated = lowered.and_then(|lowered| self.pack_and_evaluate(network, &lowered, val));
        let (packed, served) = match evaluated {
            Ok(evaluated) => evaluated,
            Err(error @ (TrainError::Pack(_) | TrainError::Packed(_))) => {
                return events.emit(&Event::Warning { message: error.to_string() });
            }
            Err(error) => return Err(error),
        };
        let codes = || served.comparison.layers.iter();
        events.emit(&Event::Packed {
            file: self.folder.join(PACKED).display().to_string(),
            bytes: packed.bytes,
            packed: packed.score,
            served: served.served,
            same_decisions: served.comparison.same_top1,
            codes: codes().map(|layer| layer.codes).sum(),
            other_codes: codes().map(|layer| layer.differ).sum(),
        })?;
        summary.packed = Some(packed);
        summary.served = Some(served.served);
        Ok(())
    }

    fn pack_and_evaluate<M: Classifier>(
        &self,
        network: &M,
        lowered: &Lowered,
        val: &Arc<dyn Dataset>,
    ) -> Result<(Packed, ServedEvaluation), TrainError> {
        let bytes = lowered.model.to_bytes();
        files::write(&self.folder.join(PACKED), &bytes)?;
        let engine = Engine::from_bytes(&bytes)?;
        let loader = eval_loader(&self.recipe, val.clone(), &self.options)?;
        let threads = available_parallelism().map_or(1, usize::from);
        let score = evaluate_packed(&engine, &loader, threads, |_| {})?;
        let device = &self.options.device;
        let normalizer = ImageNormalizer::new(self.recipe.data.normalization(), device);
        let served = evaluate_served(network, lowered, &loader, &normalizer, device, |_| {})?;
        Ok((Packed { score, bytes: bytes.len() as u64 }, served))
    }
}
