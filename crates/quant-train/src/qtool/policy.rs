//! QTool's policy files.

use quant_core::{Normalization, Role, qtool::granularity};

use crate::{
    error::TrainError,
    recipe::policy::{Change, LayerSelection, Policy, Trigger},
};

/// Reads a policy file. It has sections `on <section>: <numbers>`, which contain rules `by_index:
/// ...` and `by_tag: ...` with fields. `without_effect` is called with the line and the reason for
/// everything that has no effect.
///
/// # Errors
/// [`TrainError::Qtool`] with the line.
pub fn policies(
    text: &str,
    mut without_effect: impl FnMut(String),
) -> Result<Vec<Policy>, TrainError> {
    let mut found: Vec<Policy> = Vec::new();
    let (mut triggers, mut rule): (Vec<Trigger>, Rule) = (Vec::new(), Rule::default());
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let fail = |reason: String| TrainError::Qtool {
            place: format!("policy file, line {}", number + 1),
            reason,
        };
        if line.is_empty() {
            continue;
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| fail(format!("{line:?}: expected name: value")))?;
        let (name, value) = (name.trim(), value.trim());
        if let Some(section) = name.strip_prefix("on ") {
            rule.end(&triggers, &mut found);
            triggers = section_triggers(section.trim(), value).map_err(fail)?;
            if triggers.is_empty() {
                without_effect(format!(
                    "line {}: section {section}: norms and element-wise layers have no fields that \
                     a policy can change",
                    number + 1
                ));
            }
            continue;
        }
        match name {
            "by_index" => {
                rule.end(&triggers, &mut found);
                rule.layers = match value {
                    "all" => None,
                    list => {
                        let indices = numbers(list).map_err(fail)?.into_iter();
                        Some(indices.map(LayerSelection::Index).collect())
                    }
                };
            }
            "by_tag" => {
                rule.role = Some(match value {
                    "fm" => Role::Activation,
                    "wt" => Role::Weight,
                    "ot" => Role::Output,
                    other => return Err(fail(format!("tag {other:?}: expected fm, wt or ot"))),
                });
            }
            field => {
                if rule.set(field, value).map_err(fail)? {
                    rule.used = true;
                } else {
                    without_effect(format!("line {}: {field} has no effect here", number + 1));
                }
            }
        }
    }
    rule.end(&triggers, &mut found);
    Ok(found)
}

/// A rule while it is read.
#[derive(Default)]
struct Rule {
    layers: Option<Vec<LayerSelection>>,
    role: Option<Role>,
    change: Change,
    used: bool,
}

impl Rule {
    /// Adds the rule as a policy for each trigger of its section, and starts the next rule.
    fn end(&mut self, triggers: &[Trigger], found: &mut Vec<Policy>) {
        let Rule { layers, role, mut change, used } = std::mem::take(self);
        if !used {
            return;
        }
        // The reference rescales only if `progressive` says so.
        let levels = change.levels.is_some() || change.levels_by.is_some() || change.bits.is_some();
        if levels && change.progressive.is_none() {
            change.progressive = Some(false);
        }
        if change.bits.is_some() && (change.levels.is_some() || change.levels_by.is_some()) {
            change.bits = None;
        }
        found.extend(triggers.iter().map(|at| Policy {
            at: *at,
            layers: layers.clone(),
            role,
            change: change.clone(),
        }));
    }

    /// Sets a field. Returns whether the field has an effect.
    fn set(&mut self, field: &str, value: &str) -> Result<bool, String> {
        let change = &mut self.change;
        let unusable = || format!("{field}: {value:?} is not usable");
        let flag = || match value.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(unusable()),
        };
        let number = || value.parse::<f64>().map_err(|_| unusable());
        match field {
            "enable" => change.enabled = Some(flag()?),
            // The reference truncates the number of bits.
            "bit" => change.bits = Some(number()? as u32),
            "level_num" | "num_levels" | "level" => match number()? as i64 {
                by @ ..=0 => change.levels_by = Some(by as i32),
                levels => change.levels = Some(levels as usize),
            },
            "progressive" => change.progressive = Some(flag()?),
            "boundary" => change.boundary = Some(number()?),
            "clip_val" => change.clipping_value = Some(number()? as f32),
            "adaptive" => {
                change.normalization = Some(match value {
                    "none" | "None" => Normalization::None,
                    "var" => Normalization::Var,
                    "mean" => Normalization::Mean,
                    "mean-var" => Normalization::MeanVar,
                    "var-mean" => Normalization::VarMean,
                    _ => return Err(unusable()),
                });
            }
            "adaptive_restore" => change.restore_normalization = Some(flag()?),
            "quant_group" => {
                let groups = number()? as i64;
                let role = match (groups, self.role) {
                    (0, None) => {
                        return Err("quant_group 0 depends on the tag: give by_tag first".into());
                    }
                    (_, role) => role.unwrap_or(Role::Weight),
                };
                change.granularity = Some(granularity(groups, role));
            }
            "gamma" => change.gamma = Some(flag()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn section_triggers(section: &str, value: &str) -> Result<Vec<Trigger>, String> {
    match section {
        "init" => Ok(vec![Trigger::Start]),
        "epoch" => Ok(numbers(value)?.into_iter().map(Trigger::Epoch).collect()),
        "iteration" => Ok(numbers(value)?.into_iter().map(Trigger::Batch).collect()),
        "norm" | "eltwise" => Ok(Vec::new()),
        other => {
            Err(format!("section {other:?}: expected init, epoch, iteration, norm or eltwise"))
        }
    }
}

fn numbers(list: &str) -> Result<Vec<usize>, String> {
    let words = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| format!("{word:?} is not a number"))).collect()
}

#[cfg(test)]
mod tests {
    use quant_core::Granularity;

    use super::*;

    #[test]
    fn sections_rules_and_fields_become_policies() {
        let text = "on init:\n  by_index: all\n  by_tag: fm\n  enable: False # not yet\n\n\
                    on epoch: 3, 5\nby_index: 0, 2\nlevel_num: -2\nprogressive: True\n\
                    by_index: all\nby_tag: wt\nbit: 2.8\n\
                    on norm:\nby_index: 1\nfrozen: 1\n\
                    on iteration: 7\nby_index: all\nclip_val: 0.5\n";
        let mut notes = Vec::new();
        let policies = policies(text, |note| notes.push(note)).unwrap();
        let at: Vec<Trigger> = policies.iter().map(|policy| policy.at).collect();
        let expected = [
            Trigger::Start,
            Trigger::Epoch(3),
            Trigger::Epoch(5),
            Trigger::Epoch(3),
            Trigger::Epoch(5),
            Trigger::Batch(7),
        ];
        assert_eq!(at, expected);
        assert_eq!(
            (policies[0].role, policies[0].change.enabled),
            (Some(Role::Activation), Some(false))
        );
        assert_eq!(policies[1].layers, Some([0, 2].map(LayerSelection::Index).to_vec()));
        assert_eq!(
            (policies[1].change.levels_by, policies[1].change.progressive),
            (Some(-2), Some(true))
        );
        assert_eq!(
            (policies[3].change.bits, policies[3].change.progressive),
            (Some(2), Some(false))
        );
        assert_eq!((policies[3].layers.clone(), policies[3].role), (None, Some(Role::Weight)));
        assert_eq!(policies[5].change.clipping_value, Some(0.5));
        assert_eq!(notes.len(), 2, "{notes:?}");
    }

    #[test]
    fn groups_mean_what_the_options_mean() {
        let read = |tag: &str, groups: i64| {
            let text = format!("on init:\nby_index: all\nby_tag: {tag}\nquant_group: {groups}");
            policies(&text, |_| {}).unwrap()[0].change.granularity.unwrap()
        };
        assert_eq!(
            (read("fm", 0), read("wt", 0)),
            (Granularity::PerTensor, Granularity::PerChannel)
        );
        assert_eq!(
            (read("wt", 4), read("wt", -4)),
            (Granularity::Groups(4), Granularity::GroupsOf(4))
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (text, part) in [
            ("on init:\nby_index: x", "line 2"),
            ("enable", "expected name: value"),
            ("on start: 1", "section"),
            ("on init:\nby_tag: fw", "fm, wt or ot"),
            ("on init:\nby_index: all\nbit: two", "bit"),
            ("on init:\nby_index: all\nquant_group: 0", "by_tag"),
        ] {
            let error = policies(text, |_| {}).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
