//! State dictionaries: the parameters and running statistics of a network under PyTorch's names.
//!
//! | file | what it does |
//! |---|---|
//! | `entry`, `dict` | the entries, and their selection and renaming |
//! | `description` | what a state says about its network and its quantizers |
//! | `bytes`, `safetensors` | states as the bytes of safetensors files |
//! | `collect`, `snapshot` | take the state of a module |
//! | `load`, `prefix`, `report` | loads a state into a module: finds the entries, reports on each |
//! | `quantizers` | compares a network's quantizers with those of a state, and restores them |
//! | `names`, `kinds` | recognise kinds of entries by their names, and of parameters |
//! | `drawing` | lets one thread at a time draw weights |
//! | `codes` | quantized weights as integers |
//!
//! This crate does not read files. `quant_train::WeightsFile` reads states from safetensors files
//! and from PyTorch's checkpoints.

mod bytes;
mod codes;
mod collect;
mod description;
mod dict;
mod drawing;
mod entry;
mod kinds;
mod load;
mod names;
mod prefix;
mod quantizers;
mod report;
mod safetensors;
mod snapshot;

pub use codes::codes_file;
pub use dict::StateDict;
pub use entry::Entry;
pub use report::LoadReport;
pub use snapshot::parameter_names;

pub(crate) use collect::names_of_parameters;
pub(crate) use drawing::drawing;
pub(crate) use kinds::{running_states, trained};
