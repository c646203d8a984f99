//! Finds the entries of a file that are a network's state.
//!
//! Training programs store a state at the top level of a file or under a key (`state_dict`,
//! `model`, `ema`, ...). Wrappers (`DataParallel`, `torch.compile`, a model inside another) put
//! prefixes before its names. Keys are joined to names by dots, so a key is a prefix, too. The
//! prefix of the state is the one after which the most names in the file are names of the network.

use std::collections::BTreeMap;

/// The keys under which programs store the weights, the most usual first.
const KEYS: [&str; 11] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "net_state_dict",
    "weights",
    "params",
    "student",
    "module",
];

/// The prefixes that wrappers put before every name.
const WRAPPERS: [&str; 5] = ["module", "_orig_mod", "model", "backbone", "net"];

/// The prefix of a state in a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PrefixMatch {
    /// The text before the state's names. It is empty or ends with a dot.
    pub(super) prefix: String,
    /// The number of the network's names that are in the file after this prefix.
    pub(super) matched: usize,
    /// Other prefixes after which equally many of the network's names are in the file.
    pub(super) others: Vec<String>,
}

/// Finds the prefix after which the most of `entries` are names of the network. `is_name` says
/// whether a name is one of the network's. Among equal ones, no prefix comes first, then the usual
/// keys, then other keys, and averaged weights last.
pub(super) fn best_prefix<'a>(
    entries: impl Iterator<Item = &'a str>,
    is_name: impl Fn(&str) -> bool,
) -> PrefixMatch {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries {
        let ends = entry.match_indices('.').map(|(dot, _)| dot + 1);
        for start in std::iter::once(0).chain(ends) {
            if is_name(&entry[start..]) {
                *counts.entry(&entry[..start]).or_default() += 1;
            }
        }
    }
    let matched = counts.values().copied().max().unwrap_or(0);
    let mut best: Vec<&str> =
        counts.iter().filter(|(_, count)| **count == matched).map(|(prefix, _)| *prefix).collect();
    best.sort_by_key(|prefix| rank(prefix));
    let mut best = best.into_iter().map(str::to_owned);
    PrefixMatch { prefix: best.next().unwrap_or_default(), matched, others: best.collect() }
}

/// Returns a value by which prefixes that match equally well are sorted: averaged weights come
/// last, no prefix and the usual keys first, and shorter prefixes before longer ones.
fn rank(prefix: &str) -> (bool, usize, usize) {
    let key = prefix.split('.').next().unwrap_or_default();
    let usual = match key {
        "" => 0,
        key => 1 + KEYS.iter().position(|known| *known == key).unwrap_or(KEYS.len()),
    };
    (is_averaged(prefix), usual, prefix.len())
}

/// Returns whether a prefix is the name of a moving average of the weights.
fn is_averaged(prefix: &str) -> bool {
    let mut words = prefix.split(['.', '_']);
    words.any(|word| ["ema", "swa", "average", "averaged", "avg", "shadow"].contains(&word))
}

/// Finds the prefix of the state without a network to compare the names with: the first usual key
/// that has weights below it, and the wrappers that all names below this key have.
pub(super) fn main_prefix<'a>(entries: impl Iterator<Item = &'a str> + Clone) -> String {
    let holds_weights = |prefix: &str| {
        entries.clone().any(|entry| {
            let rest = entry.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.ends_with(".weight") || rest == "weight")
        })
    };
    let key = KEYS.iter().map(|key| format!("{key}.")).find(|key| holds_weights(key));
    let mut prefix = key.unwrap_or_default();
    loop {
        let mut rest = entries.clone().filter_map(|entry| entry.strip_prefix(prefix.as_str()));
        let shared = WRAPPERS.iter().map(|wrapper| format!("{wrapper}."));
        let shared =
            shared.into_iter().find(|wrapper| rest.clone().all(|r| r.starts_with(wrapper)));
        match shared {
            Some(wrapper) if rest.next().is_some() => prefix.push_str(&wrapper),
            _ => return prefix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(entries: &[&str]) -> PrefixMatch {
        let names = ["conv.weight", "fc.weight", "fc.bias"];
        best_prefix(entries.iter().copied(), |name| names.contains(&name))
    }

    /// The network's names behind each of the prefixes.
    fn under(prefixes: &[&str]) -> PrefixMatch {
        let names = ["conv.weight", "fc.weight", "fc.bias"];
        let entries: Vec<String> =
            prefixes.iter().flat_map(|p| names.map(|name| format!("{p}{name}"))).collect();
        found(&entries.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn keys_and_wrappers_come_off_in_any_order() {
        for prefix in [
            "",
            "state_dict.",
            "net.module.",
            "model._orig_mod.",
            "module._orig_mod.",
            "_orig_mod.module.model.backbone.",
            "checkpoint.anything.",
        ] {
            let fit = under(&[prefix]);
            assert_eq!((fit.prefix.as_str(), fit.matched), (prefix, 3));
            assert!(fit.others.is_empty());
        }
    }

    #[test]
    fn of_several_states_the_usual_one_is_preferred_and_averages_come_last() {
        let fit = under(&["ema.", "model.", "state_dict.", "other.", "state_dict_ema."]);
        assert_eq!(fit.prefix, "state_dict.");
        assert_eq!(fit.others, ["model.", "other.", "ema.", "state_dict_ema."]);
    }

    #[test]
    fn the_fullest_state_wins_over_the_usual_one() {
        let entries = ["state_dict.fc.weight", "x.conv.weight", "x.fc.weight", "x.fc.bias"];
        assert_eq!(found(&entries).prefix, "x.");
    }

    #[test]
    fn nothing_in_common_is_no_match() {
        assert_eq!(found(&["a.b", "optimizer.state.0.step"]), PrefixMatch::default());
    }

    #[test]
    fn without_a_network_usual_keys_and_shared_wrappers_come_off() {
        let prefix = |entries: &[&str]| main_prefix(entries.iter().copied());
        assert_eq!(prefix(&["state_dict.module.fc.weight", "epoch"]), "state_dict.module.");
        assert_eq!(prefix(&["module.fc.weight", "module.fc.bias"]), "module.");
        assert_eq!(prefix(&["fc.weight", "fc.bias"]), "");
        assert_eq!(prefix(&["model.backbone.fc.weight", "model.head.weight"]), "model.");
        // A key of the usual name that holds something else is passed over.
        assert_eq!(prefix(&["model.step", "net.fc.weight"]), "net.");
    }
}
