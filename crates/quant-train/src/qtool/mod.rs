//! Reads QTool's training options (optimizer, parameter groups and schedule), its configuration
//! files and its policy files.

pub mod config;
pub mod import;
mod options;
mod outcome;
pub mod policy;
mod settings;
mod training;

#[doc(hidden)]
pub use options::OPTIONS;
#[doc(hidden)]
pub use training::{group_rules, optimizer, schedule};
