//! The way out of training: a network is lowered and packed, and evaluated as it will be served.
//!
//! [`lower`] makes the model that [`Model::save`](quant_infer::model::Model::save) writes as a
//! packed file. [`evaluate_packed`] gives the score of the engine that runs the file, and
//! [`evaluate_served`] that of the same arithmetic in the trainer, which must be equal, next to
//! that of the usual evaluation.
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
