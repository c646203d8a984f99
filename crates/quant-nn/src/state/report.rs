//! The report of loading a state into a network.

use std::fmt;

use super::names::is_quantizers;
use crate::error::NetworkError;

/// The report of loading a state into a network: it lists what was done with every entry of the
/// state and with every parameter of the network.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadReport {
    /// The parameters that were set.
    pub loaded: Vec<String>,
    /// Those of the `loaded` parameters whose shape in the state differs in dimensions of size 1,
    /// such as `[64]` for `[64, 1, 1, 1]`: the name, the shape in the state, and the shape in the
    /// network.
    pub reshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// The parameters of the network that the state does not have.
    pub missing: Vec<String>,
    /// The entries of the state that the network does not have, apart from counters such as
    /// `num_batches_tracked`, and from integers.
    pub unused: Vec<String>,
    /// The entries of integers that the network does not have, such as the switches of PyTorch's
    /// fake quantizers. Training does not change integers, so no trained value is lost.
    pub unused_integers: Vec<String>,
    /// The parameters that were not set because the shapes do not fit: the name, the shape in the
    /// state, and the shape in the network.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// The quantizers that compute other values than those that the network had when the state was
    /// taken, each with the difference: other levels, another granularity or another method.
    pub other_quantizers: Vec<(String, String)>,
    /// The beginnings of the names of quantizers' parameters, in the network and in the state.
    pub quantizer_prefixes: Vec<String>,
    /// The text before the names of the entries that were used: the key of a nested dictionary,
    /// wrappers such as `module.`, or nothing.
    pub prefix: String,
    /// Other prefixes under which the file has a state that fits equally well, such as averaged
    /// weights.
    pub also_fit: Vec<String>,
    /// Whether the entries had torchvision's names, which were translated to those of networks that
    /// keywords make.
    pub from_torchvision: bool,
}

impl LoadReport {
    /// Returns whether the parameter with this name belongs to a quantizer of the network or of the
    /// state.
    pub fn is_quantizers(&self, name: &str) -> bool {
        is_quantizers(name) || self.quantizer_prefixes.iter().any(|start| name.starts_with(start))
    }

    /// Returns whether every parameter was set, every entry was used, and every quantizer computes
    /// what it computed when the state was taken.
    pub fn is_complete(&self) -> bool {
        let parameters = self.missing.is_empty() && self.mismatched.is_empty();
        parameters && self.unused.is_empty() && self.other_quantizers.is_empty()
    }

    /// Checks that the report [is complete](Self::is_complete). If `quantizers_may_differ`,
    /// quantizers and their parameters do not count: a full-precision state has none, and other
    /// quantizers have other parameters.
    ///
    /// # Errors
    /// [`NetworkError::State`] if it is not complete.
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
