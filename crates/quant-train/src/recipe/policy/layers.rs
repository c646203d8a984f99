//! The layers that a policy selects, by their indices or by their names.

use quant_core::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A selection of quantized layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected the index or the name of a layer")]
pub enum LayerSelection {
    /// The layer with this index, counted from 0 in the order of `quant summary`.
    Index(#[schemars(range(min = 0, max = 1_000_000))] usize),
    /// The layers with this name. Each `*` in it stands for any text, also for none.
    Name(String),
}

impl LayerSelection {
    /// Returns whether the selection has the layer with this index and this name.
    fn contains(&self, index: usize, name: &str) -> bool {
        match self {
            LayerSelection::Index(wanted) => *wanted == index,
            LayerSelection::Name(pattern) => matches(pattern, name),
        }
    }

    /// Returns why no layer is selected.
    fn refusal(&self) -> String {
        match self {
            LayerSelection::Index(index) => format!("there is no quantized layer {index}"),
            LayerSelection::Name(name) if name.contains('*') => {
                format!("no quantized layer has a name like \"{name}\"")
            }
            LayerSelection::Name(name) => format!("no quantized layer has the name \"{name}\""),
        }
    }

    fn text(&self) -> String {
        match self {
            LayerSelection::Index(index) => index.to_string(),
            LayerSelection::Name(name) => format!("\"{name}\""),
        }
    }
}

/// Returns whether a name is `pattern`, in which each `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut left) = name.strip_prefix(start) else {
        return false;
    };
    // The first occurrence of each text leaves the most for the texts after it.
    for part in middle.split('*') {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

/// The quantizers that a policy is for, in words that follow "policy for".
pub(super) fn described(layers: Option<&[LayerSelection]>, role: Option<Role>) -> String {
    let role = role.map_or(String::new(), |role| format!("{role} "));
    let layers = match layers {
        None => "all layers".to_owned(),
        Some(layers) => {
            let layers: Vec<String> = layers.iter().map(LayerSelection::text).collect();
            format!("layers {}", layers.join(", "))
        }
    };
    format!("the {role}quantizers of {layers}")
}

/// The quantized layers of a network in their order, each with the roles of its quantizers.
#[derive(Default)]
pub(super) struct QuantizedLayers(Vec<(String, Vec<Role>)>);

impl FromIterator<(String, Role)> for QuantizedLayers {
    fn from_iter<T: IntoIterator<Item = (String, Role)>>(quantizers: T) -> Self {
        let mut layers = Self::default();
        for (name, role) in quantizers {
            match layers.0.iter_mut().find(|(other, _)| *other == name) {
                Some((_, roles)) => roles.push(role),
                None => layers.0.push((name, vec![role])),
            }
        }
        layers
    }
}

impl QuantizedLayers {
    /// Returns the names of the selected layers. Without a selection they are all layers.
    ///
    /// # Errors
    /// The reason, if a selection has no layer or no selected layer has a quantizer of `role`.
    pub(super) fn select(
        &self,
        selections: Option<&[LayerSelection]>,
        role: Option<Role>,
    ) -> Result<Vec<String>, String> {
        let layers = || self.0.iter().enumerate();
        let has = |selection: &LayerSelection| {
            layers().any(|(index, (name, _))| selection.contains(index, name))
        };
        if let Some(missing) = selections.unwrap_or_default().iter().find(|s| !has(s)) {
            return Err(format!("{}; {}", missing.refusal(), self.listed()));
        }
        let selected = layers().filter(|(index, (name, _))| {
            selections.is_none_or(|all| all.iter().any(|one| one.contains(*index, name)))
        });
        let selected: Vec<_> = selected.map(|(_, layer)| layer).collect();
        let wanted = |roles: &[Role]| role.is_none_or(|role| roles.contains(&role));
        if !selected.iter().any(|(_, roles)| wanted(roles)) {
            let role = role.map_or(String::new(), |role| format!("{role} "));
            return Err(format!("these layers have no {role}quantizer; {}", self.listed()));
        }
        Ok(selected.into_iter().map(|(name, _)| name.clone()).collect())
    }

    /// Returns the number of layers, and the index and the name of each.
    fn listed(&self) -> String {
        const MOST: usize = 200;
        let count = self.0.len();
        if count == 0 {
            return "the network has no quantized layers".to_owned();
        }
        let named = self.0.iter().take(MOST).enumerate();
        let named: Vec<String> =
            named.map(|(index, (name, _))| format!("{index} {name}")).collect();
        let rest = match count.saturating_sub(MOST) {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        format!("the network has {count} quantized layers: {}{rest}", named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str) -> LayerSelection {
        LayerSelection::Name(pattern.to_owned())
    }

    fn layers() -> QuantizedLayers {
        let names = ["layer1.0.conv1", "layer1.0.conv2", "layer1.10.conv1", "fc"];
        let both = |name: &str| [Role::Activation, Role::Weight].map(|role| (name.into(), role));
        names.into_iter().flat_map(both).collect()
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("conv1", "conv1", true),
            ("conv1", "conv10", false),
            ("*", "", true),
            ("*conv1", "layer1.0.conv1", true),
            ("*conv1", "layer1.0.conv10", false),
            ("layer1.*", "layer1.0.conv1", true),
            ("layer1.*", "layer10.0.conv1", false),
            ("layer*.conv1", "layer2.1.conv1", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "acb", false),
            ("a*bc*bc", "abc", false),
            ("**", "anything", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn indices_and_names_select_in_one_list() {
        let select = |selections: &[LayerSelection]| layers().select(Some(selections), None);
        let chosen = select(&[LayerSelection::Index(3), name("*.0.conv2")]);
        assert_eq!(chosen.unwrap(), ["layer1.0.conv2", "fc"]);
        assert_eq!(select(&[name("*conv1")]).unwrap(), ["layer1.0.conv1", "layer1.10.conv1"]);
        assert_eq!(layers().select(None, Some(Role::Weight)).unwrap().len(), 4);
    }

    #[test]
    fn what_selects_nothing_is_refused_with_the_layers() {
        let all = "the network has 4 quantized layers: 0 layer1.0.conv1, 1 layer1.0.conv2, \
                   2 layer1.10.conv1, 3 fc";
        for (selections, role, reason) in [
            (vec![name("fc"), name("conv1")], None, "no quantized layer has the name \"conv1\""),
            (vec![name("layer2.*")], None, "no quantized layer has a name like \"layer2.*\""),
            (vec![LayerSelection::Index(4)], None, "there is no quantized layer 4"),
            (vec![name("fc")], Some(Role::Output), "these layers have no output quantizer"),
        ] {
            let error = layers().select(Some(&selections), role).unwrap_err();
            assert_eq!(error, format!("{reason}; {all}"));
        }
    }
}
