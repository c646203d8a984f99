//! Reads QTool's quantizer options into [`QuantizerConfig`](crate::QuantizerConfig): its command
//! line (`--fm_bit 2 --fm_enable --wt_quant_group 1 ...`) and keywords (`dorefa,lsq`).
//!
//! Only this module uses QTool's names (`fm` for activations, `wt` for weights, `ot` for outputs).
//! It reproduces QTool's behaviour: bits are truncated to an integer, a number of groups that does
//! not divide the channels falls back to the default, and gradient scales from 1 to 2 are not
//! applied.
//!
//! | file | what it does |
//! |---|---|
//! | `options` | parses keywords and options |
//! | `quantizer` | makes the configuration of a quantizer from them |
//! | `choices` | the options that take one of several words |
//! | `idle` | finds options that have no effect |
//! | `compatibility` | the behaviour of QTool that a configuration can ask for |

mod choices;
pub(crate) mod compatibility;
mod idle;
mod options;
mod quantizer;
#[cfg(test)]
mod tests;

pub use compatibility::Compatibility;
pub use options::QtoolOptions;
pub use quantizer::granularity;
