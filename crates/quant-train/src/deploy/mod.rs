//! The way out of training: a network is lowered and packed, and evaluated as it will be served.
//!
//! [`lower`] makes the model that [`Model::save`](quant_infer::model::Model::save) writes as a
//! packed file. [`evaluate_packed`] gives the score of the engine that runs the file, and
//! [`evaluate_served`] that of the same arithmetic in the trainer, which must be equal, next to
//! that of the usual evaluation.

mod lowering;
mod packed;
mod served;
mod tally;

pub use self::{
    lowering::lower,
    packed::evaluate_packed,
    served::{ServedEvaluation, evaluate_served},
};
