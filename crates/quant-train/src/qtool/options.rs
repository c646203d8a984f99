//! QTool's command line: its options, what each becomes in a recipe, and how Python's argparse
//! reads them.

use std::collections::BTreeSet;

use quant_core::Role;
use quant_nn::keywords::{QUANTIZER_FIELDS, nearest};

use crate::error::TrainError;

/// What each option of the reference becomes in a recipe, without the options of quantizers.
/// `docs/training.md` shows this list.
pub const OPTIONS: &[(&str, &str)] = &[
    ("aa", "data.train: colour jitter and lighting"),
    ("addition_augment", "data.train: colour jitter and lighting"),
    ("arch", "model.name"),
    ("base", "model.options"),
    ("batch_size", "phase.batch_size"),
    ("block_alpha", "model.options"),
    ("case", "name"),
    ("custom_decay", "phase.groups.exceptions"),
    ("custom_decay_list", "phase.groups.exceptions"),
    ("custom_lr", "phase.groups.exceptions"),
    ("custom_lr_list", "phase.groups.exceptions"),
    ("dataset", "data.kind"),
    ("decay_small", "phase.groups.decay_small"),
    ("delay", "no effect: `quant train --after PID` waits"),
    ("device-ids", "no effect: `--device` chooses"),
    ("distill_loss_alpha", "phase.distillation.weight"),
    ("distill_loss_temperature", "phase.distillation.temperature"),
    ("distill_loss_type", "phase.distillation.kind"),
    ("distill_teacher", "phase.distillation.teacher"),
    ("epochs", "phase.epochs"),
    ("eta_min", "phase.schedule.eta_min"),
    ("evaluate", "no effect: `quant eval` evaluates what `--pretrained` names"),
    ("extra_epoch", "phase.extra_epochs"),
    ("focal_alpha", "phase.focal.weight"),
    ("focal_gamma", "phase.focal.gamma"),
    ("fp16", "phase.precision, with --opt_level O1, O2 or O3"),
    ("grad_clip", "phase.clip_norm"),
    ("input_size", "data.input_size"),
    ("iter-size", "phase.accumulate"),
    ("keyword", "model.keywords"),
    ("label_smooth", "phase.label_smoothing, with the keyword label-smooth"),
    ("log_dir", "no effect: a run has its own folder"),
    ("lr", "phase.learning_rate"),
    ("lr_custom_step", "phase.schedule.steps"),
    ("lr_decay", "phase.schedule.factor or power"),
    ("lr_fix_step", "phase.schedule.every"),
    ("lr_policy", "phase.schedule.policy"),
    ("mean", "data.mean"),
    ("mixup_alpha", "phase.mixing.mixup"),
    ("mixup_enable", "phase.mixing"),
    ("model", "model.name"),
    ("momentum", "phase.optimizer.momentum"),
    ("nesterov", "phase.optimizer.nesterov"),
    ("num_classes", "no effect: the data tell"),
    (
        "opt_level",
        "phase.precision, with --fp16: f16 for O1, O2 and O3; 32 bits for O0, the default",
    ),
    ("optimizer", "phase.optimizer"),
    ("order", "model.options"),
    ("padding_after_quant", "phase.quantization.padding_after_quant"),
    ("policy", "phase.policy"),
    ("pretrained", "phase.init"),
    ("probe_index", "no effect: `QuantizedModule::probe` records what quantizers see"),
    ("probe_iteration", "no effect: `QuantizedModule::probe` records what quantizers see"),
    ("probe_list", "no effect: `QuantizedModule::probe` records what quantizers see"),
    ("proxquant_step", "no effect: see phase.quantization.proximal"),
    ("ps", "no effect: QTool documents none"),
    ("re_init", "phase.quantization.recalibrate"),
    ("report_freq", "no effect: every tenth step is reported"),
    ("resume", "no effect: `quant resume` continues a run"),
    ("resume_file", "no effect: `quant resume` continues a run"),
    ("root", "the folder for --data"),
    ("save_freq", "phase.keep_every"),
    ("se_reduction", "model.options"),
    ("seed", "seed"),
    ("stable", "phase.quantization.warm_up.steps"),
    ("stable_epoch", "phase.quantization.warm_up.steps, an epoch's batches for each"),
    ("std", "data.std"),
    ("stem_kernel", "model.options"),
    ("tensorboard", "no effect: every run writes event files"),
    ("unresume_scope", "no effect: entries that do not fit are reported when weights are loaded"),
    ("val_batch_size", "data.eval_batch_size"),
    ("verbose", "no effect: `log.jsonl` has every event"),
    ("wakeup", "phase.ramp_batches"),
    ("wakeup_epoch", "phase.ramp_batches, an epoch's batches for each"),
    ("warmup", "phase.frozen_batches"),
    ("warmup_epoch", "phase.frozen_batches, an epoch's batches for each"),
    ("wd", "phase.groups.weight_decay"),
    ("weight_decay", "phase.groups.weight_decay"),
    ("weights_dir", "no effect: a run has its own folder"),
    ("width_alpha", "model.options"),
    ("workers", "data.workers"),
];

/// The short names and other names of options.
const ALIASES: [(&str, &str); 14] = [
    ("m", "model"),
    ("b", "batch_size"),
    ("v", "val_batch_size"),
    ("j", "workers"),
    ("g", "device-ids"),
    ("e", "evaluate"),
    ("r", "resume"),
    ("s", "save_freq"),
    ("addition_augment", "aa"),
    ("iter_size", "iter-size"),
    ("device_ids", "device-ids"),
    ("train_batch", "batch_size"),
    ("val_batch", "val_batch_size"),
    ("arch", "model"),
];

/// The options without a value.
const FLAGS: [&str; 11] = [
    "aa",
    "decay_small",
    "evaluate",
    "fp16",
    "mixup_enable",
    "nesterov",
    "padding_after_quant",
    "re_init",
    "resume",
    "tensorboard",
    "verbose",
];

/// The fields of quantizers whose options have no value.
const FLAG_FIELDS: [&str; 3] = ["enable", "half_range", "independent_parameter"];

/// The options with several values.
const LISTS: [&str; 1] = ["device-ids"];

/// The content of a command line: the options in their order, by their full names, and warnings
/// about what was not understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) given: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

/// Returns the full name of an option, or of a variable that sets the same, without dashes.
pub(super) fn full_name(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, full)| full)
}

/// Returns what an option becomes, by its full name, or `None` for an option that the reference
/// does not know.
pub(super) fn became(name: &str) -> Option<&'static str> {
    let listed = OPTIONS.iter().find(|(option, _)| *option == name);
    match listed {
        Some((_, became)) => Some(became),
        None => field(name).map(|_| "phase.quantization"),
    }
}

/// Returns the role and the field that an option of a quantizer sets.
fn field(name: &str) -> Option<(Role, &'static str)> {
    let tags = [("fm_", Role::Activation), ("wt_", Role::Weight), ("ot_", Role::Output)];
    let (field, role) =
        tags.into_iter().find_map(|(tag, role)| Some((name.strip_prefix(tag)?, role)))?;
    let field = QUANTIZER_FIELDS.iter().find(|known| **known == field)?;
    Some((role, field))
}

/// Returns all long names, of options and of the fields of quantizers.
fn long_names() -> Vec<String> {
    let others = ALIASES.iter().map(|(alias, _)| *alias).filter(|alias| alias.len() > 1);
    let plain = OPTIONS.iter().map(|(option, _)| *option).chain(others).map(str::to_owned);
    let tags = ["fm_", "wt_", "ot_"].into_iter();
    let fields =
        tags.flat_map(|tag| QUANTIZER_FIELDS.iter().map(move |field| format!("{tag}{field}")));
    plain.chain(fields).collect()
}

impl CommandLine {
    /// Reads options of the forms `--name value` and `--name=value`, options without a value, short
    /// options with or without a blank before the value (`-j 4`, `-j4`), and abbreviated long
    /// options (`--lr_p fix`) if only one option begins with the abbreviation. What the parsers of
    /// the reference ignore gives a warning.
    ///
    /// # Errors
    /// [`TrainError::Qtool`] for an ambiguous abbreviation and for a missing value. The reference
    /// stops at these too.
    pub(super) fn parse(line: &str) -> Result<Self, TrainError> {
        let mut words = line.split_whitespace().peekable();
        let mut read = Self::default();
        let mut unknown_words = BTreeSet::new();
        while let Some(word) = words.next() {
            let (name, glued) = match split(word)? {
                Split::Option { name, value } => (name, value),
                Split::Flags(flags) => {
                    let flags = flags.into_iter().map(|flag| (flag, String::new()));
                    read.given.extend(flags);
                    continue;
                }
                Split::Unknown => {
                    let mut value = Vec::new();
                    while let Some(word) = words.next_if(|word| is_value(word)) {
                        value.push(word);
                    }
                    // A variable that repeats itself can repeat a word thousands of times.
                    if unknown_words.insert(word) {
                        read.warnings.push(unknown(word, &value));
                    }
                    continue;
                }
                Split::Stray => {
                    read.warnings
                        .push(format!("{word:?} in the options does not belong to any option"));
                    continue;
                }
            };
            let mut values: Vec<String> = glued.into_iter().collect();
            let most = match () {
                () if is_flag(&name) => 0,
                () if LISTS.contains(&name.as_str()) => usize::MAX,
                () => 1,
            };
            while values.len() < most
                && let Some(word) = words.next_if(|word| is_value(word))
            {
                values.push(word.to_owned());
            }
            if values.is_empty() && most > 0 {
                let reason = "a value is missing: QTool stops here too".to_owned();
                return Err(TrainError::Qtool { place: format!("--{name}"), reason });
            }
            read.given.push((name, values.join(" ")));
        }
        Ok(read)
    }
}

/// The kinds of words of a command line.
enum Split {
    /// An option, with its full name and the value that is in the same word.
    Option { name: String, value: Option<String> },
    /// Short options without a value in one word, with their full names.
    Flags(Vec<String>),
    /// An unknown option.
    Unknown,
    /// A word that is not an option.
    Stray,
}

fn split(word: &str) -> Result<Split, TrainError> {
    if is_value(word) {
        return Ok(Split::Stray);
    }
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        return Ok(match long_name(name)? {
            Some(name) => Split::Option { name, value },
            None => Split::Unknown,
        });
    }
    let mut letters = word.trim_start_matches('-').chars();
    let mut flags = Vec::new();
    while let Some(letter) = letters.next() {
        let letter = letter.to_string();
        let full = full_name(&letter);
        match (full != letter, is_flag(full)) {
            (false, _) => return Ok(Split::Unknown),
            (true, true) => flags.push(full.to_owned()),
            (true, false) if flags.is_empty() => {
                let glued = letters.as_str();
                let glued = glued.strip_prefix('=').unwrap_or(glued);
                let value = (!glued.is_empty()).then(|| glued.to_owned());
                return Ok(Split::Option { name: full.to_owned(), value });
            }
            (true, false) => return Ok(Split::Unknown),
        }
    }
    Ok(Split::Flags(flags))
}

/// Returns the full name of a long option, which may be abbreviated.
fn long_name(name: &str) -> Result<Option<String>, TrainError> {
    let names = long_names();
    if names.iter().any(|known| known == name) {
        return Ok(Some(full_name(name).to_owned()));
    }
    let mut full: Vec<&str> = names
        .iter()
        .filter(|known| !name.is_empty() && known.starts_with(name))
        .map(|known| full_name(known))
        .collect();
    full.sort_unstable();
    full.dedup();
    match full.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).to_owned())),
        several => {
            let several: Vec<String> = several.iter().map(|name| format!("--{name}")).collect();
            let reason = format!("it could be {}: write the full name", several.join(", "));
            Err(TrainError::Qtool { place: format!("--{name}"), reason })
        }
    }
}

fn is_flag(name: &str) -> bool {
    FLAGS.contains(&name) || field(name).is_some_and(|(_, field)| FLAG_FIELDS.contains(&field))
}

/// Returns whether a word is a value: it does not begin with a dash, or it is a negative number.
fn is_value(word: &str) -> bool {
    !word.starts_with('-') || word == "-" || word.parse::<f64>().is_ok()
}

fn unknown(word: &str, value: &[&str]) -> String {
    let name = word.trim_start_matches('-');
    let name = name.split('=').next().unwrap_or(name);
    let names = long_names();
    let near = nearest(name, names.iter().map(String::as_str));
    let near = near.map_or(String::new(), |near| format!("; did you mean --{near}?"));
    let word = [&[word], value].concat().join(" ");
    format!("{word} is not an option that QTool reads: left out{near}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_is_named_once() {
        let read = CommandLine::parse(&"--not_there 1 ".repeat(5000)).unwrap();
        assert_eq!(read.warnings.len(), 1);
        assert!(read.warnings[0].contains("--not_there 1 is not an option"));
    }

    fn given(line: &str) -> Vec<(String, String)> {
        let read = CommandLine::parse(line).unwrap();
        assert!(read.warnings.is_empty(), "{line}: {:?}", read.warnings);
        read.given
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_read_as_argparse_reads_them() {
        for (line, expected) in [
            ("-j4 -g0 -b256", &[("workers", "4"), ("device-ids", "0"), ("batch_size", "256")][..]),
            (
                "-j 4 -b=8 -g 0 1 2",
                &[("workers", "4"), ("batch_size", "8"), ("device-ids", "0 1 2")],
            ),
            ("-er -e", &[("evaluate", ""), ("resume", ""), ("evaluate", "")]),
            ("--lr=0.1 --wd 1e-4", &[("lr", "0.1"), ("wd", "1e-4")]),
            ("--wt_quant_group -1", &[("wt_quant_group", "-1")]),
            ("--fm_enable --verbose", &[("fm_enable", ""), ("verbose", "")]),
            ("--arch resnet18 --addition_augment", &[("model", "resnet18"), ("aa", "")]),
        ] {
            assert_eq!(given(line), pairs(expected), "{line}");
        }
    }

    #[test]
    fn an_abbreviation_is_the_only_option_that_begins_so_or_an_error() {
        let expected = pairs(&[("lr_policy", "fix"), ("nesterov", ""), ("wt_quant_group", "1")]);
        assert_eq!(given("--lr_p fix --nest --wt_q 1"), expected);
        // A full name is that option, even if other options begin with it.
        assert_eq!(given("--wakeup 3 --lr 1"), pairs(&[("wakeup", "3"), ("lr", "1")]));
        let error = CommandLine::parse("--lr_ 3").unwrap_err().to_string();
        for option in ["lr_custom_step", "lr_decay", "lr_fix_step", "lr_policy"] {
            assert!(error.contains(&format!("--{option}")), "{error}");
        }
    }

    #[test]
    fn what_the_parsers_ignore_is_a_warning() {
        for (line, part) in [
            ("--nonsense 3 4 --lr 1", "--nonsense 3 4"),
            ("--tensorbord --lr 1", "did you mean --tensorboard?"),
            ("--fm_bits 2 --lr 1", "did you mean --fm_bit?"),
            ("--lr 1 stray", "\"stray\""),
            ("--fp16 yes --lr 1", "\"yes\""),
            ("-lr 0.1 --lr 1", "did you mean --lr?"),
        ] {
            let read = CommandLine::parse(line).unwrap();
            assert_eq!(read.warnings.len(), 1, "{line}: {:?}", read.warnings);
            assert!(read.warnings[0].contains(part), "{line}: {:?}", read.warnings);
            assert!(read.given.contains(&("lr".to_owned(), "1".to_owned())), "{line}");
        }
    }

    #[test]
    fn a_missing_value_is_refused() {
        for line in ["--lr --wd 1", "--lr", "-j"] {
            assert!(
                CommandLine::parse(line).unwrap_err().to_string().contains("missing"),
                "{line}"
            );
        }
    }
}
