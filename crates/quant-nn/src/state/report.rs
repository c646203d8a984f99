//! What became of every entry and parameter when a state was loaded.

use std::fmt;

use super::names::is_quantizers;
use crate::error::NetworkError;

/// What became of every entry and parameter when a state was loaded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadReport {
    /// Parameters that were set.
    pub loaded: Vec<String>,
    /// Of those: parameters whose shape in the state was another one with as many elements (state,
    /// network), such as `[64]` for `[64, 1, 1, 1]`.
    pub reshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Parameters of the network that the state lacks.
    pub missing: Vec<String>,
    /// Entries of the state that the network lacks, bookkeeping (`num_batches_tracked` and the
    /// like) left aside.
    pub unused: Vec<String>,
    /// Entries of integers that the network lacks, such as the switches of PyTorch's fake
    /// quantizers. Networks learn none, so nothing trained is lost with them.
    pub unused_integers: Vec<String>,
    /// Parameters whose shape in the state is another one (state, network); they were not set.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Quantizers that compute something else than those that were in force when the state was
    /// taken, with the difference: other levels, granularity or method.
    pub other_quantizers: Vec<(String, String)>,
    /// What the names of quantizers' parameters begin with, in the network and in the state.
    pub quantizer_prefixes: Vec<String>,
    /// What stood before the names of the entries that were taken: the key of a nested dictionary,
    /// wrappers such as `module.`, or nothing.
    pub prefix: String,
    /// Where else the file has a state that fits as well, such as averaged weights.
    pub also_fit: Vec<String>,
    /// Whether the entries had torchvision's names, and the network has those of keyword networks.
    pub from_torchvision: bool,
}

impl LoadReport {
    /// Whether the parameter of this name belongs to a quantizer, of the network or of the state.
    pub fn is_quantizers(&self, name: &str) -> bool {
        is_quantizers(name) || self.quantizer_prefixes.iter().any(|start| name.starts_with(start))
    }

    /// Whether every parameter was set, every entry used, and every quantizer is what it was.
    pub fn is_complete(&self) -> bool {
        let parameters = self.missing.is_empty() && self.mismatched.is_empty();
        parameters && self.unused.is_empty() && self.other_quantizers.is_empty()
    }

    /// # Errors
    /// [`NetworkError::State`] unless [complete](Self::is_complete), quantizers and their
    /// parameters aside where `quantizers_may_differ`: a full-precision state has none, and other
    /// quantizers have others.
    pub fn require(&self, quantizers_may_differ: bool) -> Result<(), NetworkError> {
        let counts = |name: &&String| !(quantizers_may_differ && self.is_quantizers(name));
        let kept = |names: &[String]| names.iter().filter(counts).cloned().collect::<Vec<_>>();
        let mismatched = self.mismatched.iter().filter(|(name, ..)| counts(&name));
        let rest = LoadReport {
            missing: kept(&self.missing),
            unused: kept(&self.unused),
            mismatched: mismatched.cloned().collect(),
            other_quantizers: if quantizers_may_differ {
                Vec::new()
            } else {
                self.other_quantizers.clone()
            },
            ..self.clone()
        };
        if rest.is_complete() {
            return Ok(());
        }
        Err(NetworkError::State { report: rest.to_string() })
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let few = |names: &[String]| {
            let shown: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
            let more = names.len() - shown.len();
            shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
        };
        write!(f, "{} loaded", self.loaded.len())?;
        if !self.prefix.is_empty() {
            write!(f, " from {}*", self.prefix)?;
        }
        if self.from_torchvision {
            write!(f, ", torchvision's names translated")?;
        }
        if let Some((name, theirs, ours)) = self.reshaped.first() {
            let count = self.reshaped.len();
            write!(f, ", {count} reshaped ({name} from {theirs:?} to {ours:?})")?;
        }
        if !self.missing.is_empty() {
            write!(f, ", {} missing ({})", self.missing.len(), few(&self.missing))?;
        }
        if !self.unused.is_empty() {
            write!(f, ", {} unused ({})", self.unused.len(), few(&self.unused))?;
        }
        if let Some((name, theirs, ours)) = self.mismatched.first() {
            let count = self.mismatched.len();
            write!(f, ", {count} of another shape ({name} is {theirs:?}, expected {ours:?})")?;
        }
        if let Some((name, difference)) = self.other_quantizers.first() {
            let count = self.other_quantizers.len();
            write!(f, ", {count} of other quantizers ({name}: {difference})")?;
        }
        if !self.also_fit.is_empty() {
            write!(f, "; these fit as well: {}", few(&self.also_fit))?;
        }
        Ok(())
    }
}
