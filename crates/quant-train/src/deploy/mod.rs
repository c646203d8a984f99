//! Packs trained networks, and evaluates them as they will be served.
//!
//! [`lower`] makes the model that [`Model::save`](quant_infer::model::Model::save) writes as a
//! packed file. [`evaluate_packed`] returns the score of the engine that runs the file.
//! [`evaluate_served`] computes the same arithmetic in the trainer. It returns that score, which
//! must be equal to the engine's, and the score of the usual evaluation.
//!
//! [`Lowering`] takes the layers of a network that a program makes itself
//! ([`Run::execute_own_packed`](crate::Run::execute_own_packed)).

mod lowering;
mod packed;
mod served;
mod tally;

pub use quant_export::{LowerError, Lowering};

pub(crate) use self::lowering::{LowerOwn, lower_own, options};
pub use self::{
    lowering::lower,
    packed::evaluate_packed,
    served::{ServedEvaluation, evaluate_served},
};
