//! The search for the configuration of a network that has the structure of a model.
//!
//! It begins with the usual network of each family, and changes one field after another as long as
//! more of the model's operations are in the network.

use burn::tensor::Device;
use quant_infer::model::{Model, Op};
use quant_nn::{
    Network, NetworkConfig, ResNetConfig,
    resnet::{NameStyle, Stem},
};

use super::{
    RaiseError,
    candidates::{changes, combinations, starts},
    facts::{Facts, facts},
    of_model::ModelNodes,
    of_network::of_network,
    operation::Operation,
    pairs::{Numbering, pairs},
};

/// A network that has the structure of a model.
pub(super) struct Found {
    pub(super) config: NetworkConfig,
    pub(super) operations: Vec<Operation<Option<usize>>>,
    /// Each operation of the network with that of the model.
    pub(super) pairs: Vec<(usize, usize)>,
}

/// A candidate that was compared with the model.
struct Candidate {
    config: NetworkConfig,
    operations: Vec<Operation<Option<usize>>>,
    numbers: Vec<u32>,
    /// How many operations of the model it has.
    score: usize,
}

struct Search<'a> {
    model: &'a Model,
    theirs: &'a [Operation<ModelNodes>],
    their_numbers: Vec<u32>,
    numbering: Numbering,
    device: Device,
}

/// Finds the network that has the structure of a model.
///
/// # Errors
/// [`RaiseError::Structure`] with the first node that the nearest network does not have.
pub(super) fn search(model: &Model, theirs: &[Operation<ModelNodes>]) -> Result<Found, RaiseError> {
    let mut numbering = Numbering::default();
    let their_numbers = numbering.of(theirs);
    let facts = facts(model, theirs)?;
    let device = Device::default();
    let mut search = Search { model, theirs, their_numbers, numbering, device };
    let mut best = search.climbed(starts(&facts, 1), &facts);
    if !best.as_ref().is_some_and(|best| search.is_equal(best)) {
        // Some fields of residual networks only fit together.
        let starts = search.combined(&facts);
        let other = search.climbed(starts, &facts);
        let score = |found: &Option<Candidate>| found.as_ref().map(|found| found.score);
        if score(&other) > score(&best) {
            best = other;
        }
    }
    let Some(best) = best else {
        let reason = format!("its images have {0}x{0} pixels, which suit no network", facts.size);
        return Err(RaiseError::Image { reason });
    };
    if !search.is_equal(&best) {
        return Err(search.error(&best));
    }
    let best = search.named(best);
    let ours = (&best.operations[..], &best.numbers[..]);
    let pairs = pairs(ours, (theirs, &search.their_numbers));
    Ok(Found { config: best.config, operations: best.operations, pairs })
}

impl Search<'_> {
    /// Changes one field after another of each network, and returns the best one. It ends with the
    /// first that is equal.
    fn climbed(&mut self, starts: Vec<NetworkConfig>, facts: &Facts) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        for start in starts {
            let Some(mut candidate) = self.candidate(start) else { continue };
            while let Some(better) = self.improved(&candidate, facts) {
                candidate = better;
            }
            let equal = self.is_equal(&candidate);
            if best.as_ref().is_none_or(|best| candidate.score > best.score) {
                best = Some(candidate);
            }
            if equal {
                break;
            }
        }
        best
    }

    /// Returns the best of all combinations of the fields of residual networks that say how blocks
    /// and the layers around them fit together.
    fn combined(&mut self, facts: &Facts) -> Vec<NetworkConfig> {
        let mut found: Vec<(usize, NetworkConfig)> = Vec::new();
        for branches in &facts.branches {
            let residual = starts(facts, *branches).into_iter().filter_map(|start| match start {
                NetworkConfig::ResNet(config) => Some(config),
                _ => None,
            });
            for start in residual.take(2) {
                for config in combinations(&start, facts, *branches) {
                    if let Some(candidate) = self.candidate(config.into()) {
                        found.push((candidate.score, candidate.config));
                    }
                }
            }
        }
        found.sort_by_key(|(score, _)| usize::MAX - score);
        found.into_iter().take(4).map(|(_, config)| config).collect()
    }

    /// Compares a network with the model. `None` for one that cannot be built.
    fn candidate(&mut self, config: NetworkConfig) -> Option<Candidate> {
        let network: Network = config.init(&self.device).ok()?;
        let operations = of_network(&network);
        let numbers = self.numbering.of(&operations);
        let has = |number: &&u32| numbers.contains(number);
        let score = self.their_numbers.iter().filter(has).count();
        Some(Candidate { config, operations, numbers, score })
    }

    /// Returns the change of a field that makes more of the model's operations those of the
    /// network.
    fn improved(&mut self, candidate: &Candidate, facts: &Facts) -> Option<Candidate> {
        if self.is_equal(candidate) {
            return None;
        }
        let mut best: Option<Candidate> = None;
        for config in changes(&candidate.config, facts) {
            let Some(changed) = self.candidate(config) else { continue };
            let least = best.as_ref().map_or(candidate.score, |best| best.score);
            if self.is_equal(&changed) {
                return Some(changed);
            }
            if changed.score > least {
                best = Some(changed);
            }
        }
        best
    }

    fn is_equal(&self, candidate: &Candidate) -> bool {
        candidate.numbers.last() == self.their_numbers.last()
    }

    /// Chooses the names of the network that are those of the model.
    fn named(&mut self, found: Candidate) -> Candidate {
        let NetworkConfig::ResNet(config) = &found.config else { return found };
        let keyword = ResNetConfig { names: NameStyle::Keyword, ..config.clone() };
        match self.candidate(keyword.into()) {
            Some(keyword) if self.is_equal(&keyword) => {
                if self.same_names(&keyword) > self.same_names(&found) { keyword } else { found }
            }
            _ => found,
        }
    }

    /// Returns how many layers have the name of the model's node.
    fn same_names(&self, candidate: &Candidate) -> usize {
        let Ok(network) = candidate.config.init(&self.device) else { return 0 };
        let ours = (&candidate.operations[..], &candidate.numbers[..]);
        let pairs = pairs(ours, (self.theirs, &self.their_numbers));
        let same = |(our, their): &(usize, usize)| {
            let Some(index) = candidate.operations[*our].source else { return false };
            let name = network.submodule_name(index);
            let mut nodes = self.theirs[*their].source.nodes.iter();
            nodes.any(|at| self.model.nodes[*at].name == name)
        };
        pairs.iter().filter(|pair| same(pair)).count()
    }

    /// Names the first operation that the nearest network does not have.
    fn error(&self, nearest: &Candidate) -> RaiseError {
        let is_ours = |at: &usize| nearest.numbers.contains(&self.their_numbers[*at]);
        let first = (0..self.theirs.len()).find(|at| !is_ours(at));
        let Some(operation) = first.map(|at| &self.theirs[at]) else {
            let reason = "its scores are those of a part of a network".to_owned();
            return RaiseError::Image { reason };
        };
        // What the nearest network does with the same values.
        let wanted: Vec<u32> =
            operation.inputs.iter().map(|input| self.their_numbers[*input]).collect();
        let reads = |other: &&Operation<Option<usize>>| {
            let inputs: Vec<u32> =
                other.inputs.iter().map(|input| nearest.numbers[*input]).collect();
            inputs.iter().any(|input| wanted.contains(input))
                && !inputs.is_empty()
                && other.kind != operation.kind
        };
        let expected: Vec<String> = nearest
            .operations
            .iter()
            .filter(reads)
            .map(|operation| operation.kind.text())
            .collect();
        let nodes = operation.source.nodes.iter().chain(operation.source.bias_of.as_ref());
        let node = nodes.map(|at| &self.model.nodes[*at]).next();
        RaiseError::Structure {
            node: node.map_or_else(String::new, |node| node.name.clone()),
            is: match node.map(|node| &node.op) {
                Some(Op::Conv(_)) if operation.source.bias_of.is_some() => {
                    "a bias of a convolution".to_owned()
                }
                _ => operation.kind.text(),
            },
            nearest: describe(&nearest.config),
            expected: expected.first().cloned(),
        }
    }
}

/// Names a network for people.
pub fn describe(config: &NetworkConfig) -> String {
    match config {
        NetworkConfig::ResNet(config) => {
            let stem = match config.stem {
                Stem::Cifar => "the stem for small images",
                Stem::ImageNet => "ImageNet's stem",
                _ => "a stem of squares",
            };
            let letters = config.order.letters();
            let channels = (64.0 * config.width_alpha) as usize;
            format!(
                "a {depth:?} with {stem}, {channels} channels in its first stage and the order \
                 {letters}",
                depth = config.depth,
            )
        }
        NetworkConfig::MobilenetV1(_) => "MobileNet v1".to_owned(),
        NetworkConfig::MobilenetV2(_) => "MobileNet v2".to_owned(),
        NetworkConfig::VggSmall(_) => "VGG-small".to_owned(),
        NetworkConfig::Nin(_) => "NiN".to_owned(),
    }
}
