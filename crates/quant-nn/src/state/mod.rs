//! State dictionaries: a network's parameters and running statistics under PyTorch's names, from
//! PyTorch's checkpoints and safetensors files, and to the latter.

mod codes;
mod description;
mod dict;
mod entry;
mod file;
mod load;
mod names;
mod prefix;
mod pytorch;
mod quantizers;
mod report;
mod safetensors;
mod snapshot;

pub use codes::codes_file;
pub use dict::StateDict;
pub use entry::Entry;
pub use names::is_running;
pub use report::LoadReport;
pub use snapshot::parameter_names;
