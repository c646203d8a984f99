//! Reads QTool's quantizer options into [`QuantizerConfig`]: its command line
//! (`--fm_bit 2 --fm_enable --wt_quant_group 1 ...`) and keywords (`dorefa,lsq`).
//!
//! Only this module uses QTool's names (`fm` for activations, `wt` for weights, `ot` for outputs).
//! It reproduces QTool's behaviour: bits are truncated to an integer, a number of groups that does
//! not divide the channels falls back to the default, and gradient scales from 1 to 2 are not
//! applied.

use std::collections::{BTreeMap, BTreeSet};

mod choices;
mod compatibility;

use choices::{GRAD_SCALE, adaptive, grad_type};
pub use compatibility::Compatibility;

use crate::{
    config::{Granularity, Levels, Normalization, QuantizerConfig, Range},
    error::QuantizerError,
    gradient::{Estimator, GradientScale},
    method::{FatnnOptions, LqNetsOptions, Method, Role, SignScale, XnorOptions},
    table::capability,
};

/// The options and keywords of QTool, parsed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QtoolOptions {
    keywords: BTreeSet<String>,
    repeated: BTreeSet<String>,
    options: BTreeMap<String, String>,
}

impl QtoolOptions {
    /// Parses a comma-separated list of keywords and a command line. A later option overrides an
    /// earlier one of the same name.
    ///
    /// # Errors
    /// [`QuantizerError::Option`] for a word that is neither the name of an option nor its value.
    pub fn parse(keywords: &str, command_line: &str) -> Result<Self, QuantizerError> {
        let mut options = BTreeMap::new();
        let mut words = command_line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                return Err(unusable(word, "", "expected --<name> [value]"));
            };
            if let Some((name, value)) = name.split_once('=') {
                options.insert(name.to_owned(), value.to_owned());
                continue;
            }
            let is_value = |word: &&str| !word.starts_with("--");
            let value = words.next_if(is_value).unwrap_or_default();
            options.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self::from_pairs(keywords, options))
    }

    /// Makes the options from a comma-separated list of keywords, and from options whose names have
    /// no dashes.
    pub fn from_pairs(keywords: &str, options: impl IntoIterator<Item = (String, String)>) -> Self {
        let words = keywords.split(',').map(str::trim).filter(|word| !word.is_empty());
        let (mut keywords, mut repeated) = (BTreeSet::new(), BTreeSet::new());
        for word in words {
            if !keywords.insert(word.to_owned()) {
                repeated.insert(word.to_owned());
            }
        }
        Self { keywords, repeated, options: options.into_iter().collect() }
    }

    /// Returns whether a keyword is given.
    pub fn keyword(&self, word: &str) -> bool {
        self.keywords.contains(word)
    }

    /// Returns all keywords.
    pub fn keywords(&self) -> impl Iterator<Item = &str> {
        self.keywords.iter().map(String::as_str)
    }

    /// Returns the keywords that were given more than once.
    pub fn repeated(&self) -> impl Iterator<Item = &str> {
        self.repeated.iter().map(String::as_str)
    }

    /// Returns the names of all options, without their dashes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.options.keys().map(String::as_str)
    }

    /// Returns whether an option is given, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// Returns the value of an option, or `None` where it is not given.
    ///
    /// # Errors
    /// [`QuantizerError::Option`] for a value of the wrong type.
    pub fn get<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, QuantizerError> {
        let Some(value) = self.options.get(name) else {
            return Ok(None);
        };
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(unusable(name, value, "expected a number")),
        }
    }

    /// Returns the configuration of a role's quantizer, or `None` where it is not enabled.
    ///
    /// # Errors
    /// [`QuantizerError::Option`] for values and keywords that no method of this crate supports.
    pub fn quantizer(&self, role: Role) -> Result<Option<QuantizerConfig>, QuantizerError> {
        let tag = tag(role);
        let name = |option: &str| format!("{tag}_{option}");
        if !self.has(&name("enable")) {
            return Ok(None);
        }
        let method = self.method(role, tag)?;
        let scale = self.get(&name("scale"))?.unwrap_or(0.5);
        let method = self.with_options(method, role, scale);
        let defaults = QuantizerConfig::new(method, role, Levels::TERNARY);
        let text = |option: &str| self.text(&name(option));
        let range = match (method, role, self.has(&name("half_range"))) {
            (_, Role::Weight, _) => Range::Signed,
            (Method::Dorefa | Method::Pact, ..) => Range::Unsigned,
            (_, Role::Activation, switched_off) if switched_off => Range::Signed,
            (_, Role::Activation, _) => Range::Unsigned,
            (_, Role::Output, true) => Range::Unsigned,
            (_, Role::Output, false) => Range::Signed,
        };
        let signs = matches!(method, Method::Xnor(_));
        let binary = signs && !self.keyword("xnor");
        let grouped = match (method, role) {
            (Method::Lsq | Method::Fatnn(_) | Method::LqNets(_), _) => true,
            (Method::Xnor(_), Role::Weight) => !binary,
            (_, Role::Weight) => text("adaptive") != "none" || self.gamma(method, role),
            _ => false,
        };
        let granularity = if grouped {
            self.granularity(role, &name("quant_group"))?
        } else {
            Granularity::PerTensor
        };
        let normalization = adaptive(method, role).choose(&name("adaptive"), text("adaptive"))?;
        let config = QuantizerConfig {
            levels: match method {
                // A sign has two levels, whatever the options say.
                Method::Xnor(_) => Levels::BINARY,
                _ => self.levels(&name)?,
            },
            range,
            granularity,
            // QTool's STE-scale counts elements after clamping, so its factor is always 1.
            estimator: if binary {
                Estimator::Identity
            } else {
                grad_type(method, role).choose(&name("grad_type"), text("grad_type"))?
            },
            gradient_scale: GradientScale {
                rule: GRAD_SCALE.choose(&name("grad_scale"), text("grad_scale"))?,
                factor: scale,
            },
            boundary: self.get(&name("boundary"))?.unwrap_or(1.0),
            normalization,
            independent_norm: self.keyword("independent_norm")
                && normalization != Normalization::None,
            gamma: self.gamma(method, role),
            qtool: Compatibility {
                group_fallback: true,
                skip_integer_one: true,
                unused_clipping_value: matches!(method, Method::Fatnn(_)) && role != Role::Weight,
                ..Compatibility::default()
            },
            ..defaults
        };
        // One command line serves all methods, so it may have options that this method does not
        // read.
        Ok(Some(config.without_idle_options()))
    }

    /// Removes the options that the reference implementation reads but that have no effect: options
    /// of a quantizer that is not enabled, and values that the quantizer's method does not know,
    /// because the reference only compares them with the values that it knows. Returns each removed
    /// option with the reason.
    pub fn drop_idle(&mut self) -> Vec<(String, String)> {
        let mut idle = Vec::new();
        for role in Role::ALL {
            let tag = tag(role);
            let name = |option: &str| format!("{tag}_{option}");
            if !self.has(&name("enable")) {
                // Group normalisation reads its number of groups from an option of the quantizers.
                let norm = |option: &str| option == "fm_quant_group" && self.keyword("group-norm");
                let given = self.names().filter(|option| option.starts_with(&name("")));
                let given = given.filter(|option| !norm(option));
                let why = format!("no effect without --{tag}_enable");
                idle.extend(given.map(|option| (option.to_owned(), why.clone())));
                continue;
            }
            // `quantizer` reports the error where no method is given.
            let Ok(method) = self.method(role, tag) else { continue };
            let mut check = |option: &str, refusal: Option<&str>| {
                if let Some(accepted) = refusal {
                    let value = self.text(&name(option));
                    let why = format!("{value:?} has no effect with {method}: {accepted}");
                    idle.push((name(option), why));
                }
            };
            let levels = self.levels(&name);
            if matches!(method, Method::Xnor(_))
                && levels.is_ok_and(|levels| levels != Levels::BINARY)
            {
                let option = if self.has(&name("level")) { "level" } else { "bit" };
                check(option, Some("signs have two levels"));
            }
            check("adaptive", adaptive(method, role).refusal(self.text(&name("adaptive"))));
            check("grad_type", grad_type(method, role).refusal(self.text(&name("grad_type"))));
            let scale = self.text(&name("grad_scale"));
            let range = QuantizerConfig::new(method, role, Levels::TERNARY).range;
            let offer = capability(method, role, range);
            let scaled = offer.is_some_and(|offer| offer.options.contains(&"gradient_scale"));
            let idle =
                (!scaled && scale != "none").then_some("this quantizer has no gradient scale");
            check("grad_scale", GRAD_SCALE.refusal(scale).or(idle));
        }
        for (option, _) in &idle {
            self.options.remove(option);
        }
        idle
    }

    /// Returns the value of an option, or `none`, which may be written in upper case.
    fn text(&self, option: &str) -> &str {
        let value = self.options.get(option).map_or("none", String::as_str);
        if value.eq_ignore_ascii_case("none") { "none" } else { value }
    }

    fn method(&self, role: Role, tag: &str) -> Result<Method, QuantizerError> {
        let given = |word: &str| self.keyword(word) || self.keyword(&format!("{tag}_{word}"));
        let family = self.keyword("dorefa") || self.keyword("pact");
        match () {
            () if self.keyword("lq") => Ok(Method::LQ_NETS),
            () if self.keyword("xnor") => Ok(Method::XNOR),
            () if given("non-uniform") => Ok(Method::FATNN),
            () if given("lsq") => Ok(Method::Lsq),
            () if self.is_binary_weight(role) => Ok(Method::XNOR),
            () if self.keyword("pact") && role != Role::Weight => Ok(Method::Pact),
            () if family => Ok(Method::Dorefa),
            () => Err(unusable("keyword", "", "expected a method: dorefa, pact, lsq, lq or xnor")),
        }
    }

    /// Returns the method with its own options. QTool has one option, `scale`, for the position of
    /// thresholds, the initial slope and the factor of gradients.
    fn with_options(&self, method: Method, role: Role, scale: f64) -> Method {
        let tag = tag(role);
        let custom = self.text(&format!("{tag}_custom"));
        let closed_form = format!("{tag}_closed_form");
        match method {
            Method::Xnor(options) => Method::Xnor(XnorOptions {
                sign_scale: match (role, custom) {
                    (Role::Activation, "channel") => SignScale::OverChannels,
                    (Role::Activation, "resolution") => SignScale::OverResolution,
                    _ => SignScale::None,
                },
                ..options
            }),
            Method::Fatnn(_) => Method::Fatnn(FatnnOptions {
                initial_slope: scale,
                closed_form: self.keyword("closed_form") || self.keyword(&closed_form),
            }),
            Method::LqNets(_) => Method::LqNets(LqNetsOptions {
                threshold_position: scale,
                running_mean_basis: self.keyword("custom-update"),
            }),
            method => method,
        }
    }

    fn gamma(&self, method: Method, role: Role) -> bool {
        match role {
            _ if matches!(method, Method::LqNets(_)) => false,
            Role::Activation => false,
            Role::Weight => {
                self.keyword("wt_gamma") || self.keyword("xnor") && self.keyword("gamma")
            }
            Role::Output => self.keyword("ot_gamma"),
        }
    }

    /// Returns whether the role is that of weights, with the keyword for binary weights and two
    /// levels.
    fn is_binary_weight(&self, role: Role) -> bool {
        let levels = self.levels(&|option: &str| format!("wt_{option}"));
        role == Role::Weight && self.keyword("wt_bin") && levels == Ok(Levels::BINARY)
    }

    fn levels(&self, name: &impl Fn(&str) -> String) -> Result<Levels, QuantizerError> {
        if let Some(levels) = self.get::<i64>(&name("level"))?.filter(|levels| *levels > 0) {
            return Levels::new(usize::try_from(levels).unwrap_or(usize::MAX));
        }
        let bits = self.get::<f64>(&name("bit"))?.unwrap_or(32.0);
        Levels::from_bits(bits as u32)
    }

    fn granularity(&self, role: Role, option: &str) -> Result<Granularity, QuantizerError> {
        Ok(granularity(self.get(option)?.unwrap_or(0), role))
    }
}

fn tag(role: Role) -> &'static str {
    match role {
        Role::Activation => "fm",
        Role::Weight => "wt",
        Role::Output => "ot",
    }
}

/// Returns the granularity that a value of `quant_group` means: n groups for n > 0, groups of -n
/// elements for n < 0, and for 0 one group per channel of a weight and one group for everything
/// else.
pub fn granularity(quant_group: i64, role: Role) -> Granularity {
    let size = usize::try_from(quant_group.unsigned_abs()).unwrap_or(usize::MAX);
    match (quant_group, role) {
        (..=-1, _) => Granularity::GroupsOf(size),
        (1, _) => Granularity::PerTensor,
        (2.., _) => Granularity::Groups(size),
        (0, Role::Weight) => Granularity::PerChannel,
        (0, _) => Granularity::PerTensor,
    }
}

fn unusable(option: &str, value: &str, accepted: &'static str) -> QuantizerError {
    QuantizerError::Option { option: option.to_owned(), value: value.to_owned(), accepted }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::site::Site;

    fn weight(options: &str) -> Result<Option<QuantizerConfig>, QuantizerError> {
        QtoolOptions::parse("dorefa,lsq", options)?.quantizer(Role::Weight)
    }

    #[test]
    fn a_value_follows_a_space_or_an_equals_sign() {
        let spaced = weight("--wt_bit 2 --wt_enable");
        assert_eq!(weight("--wt_bit=2 --wt_enable"), spaced);
        assert!(spaced.is_ok_and(|quantizer| quantizer.is_some()));
    }

    #[test]
    fn a_disabled_quantizer_is_none() {
        assert_eq!(weight("--wt_bit 2"), Ok(None));
    }

    #[test]
    fn fractional_bits_are_truncated() {
        let config = weight("--wt_enable --wt_bit 2.9").unwrap().unwrap();
        assert_eq!(config.levels.count(), 4);
    }

    fn groups(options: &str) -> usize {
        let site = Site::weight("conv", [4, 3, 3, 3]);
        weight(options).unwrap().unwrap().init(&site, &Device::flex()).unwrap().groups()
    }

    #[test]
    fn a_negative_group_is_a_group_size() {
        assert_eq!(groups("--wt_enable --wt_bit 2 --wt_quant_group -6"), 2);
    }

    #[test]
    fn a_group_that_does_not_divide_falls_back_to_channels() {
        assert_eq!(groups("--wt_enable --wt_bit 2 --wt_quant_group 5"), 4);
    }

    #[test]
    fn none_is_written_in_any_capitals() {
        let option = |value: &str| {
            let options =
                format!("--wt_enable --wt_bit 2 --wt_adaptive {value} --wt_grad_type {value}");
            weight(&options).unwrap().unwrap()
        };
        assert_eq!(option("None"), option("none"));
        assert_eq!(option("NONE"), option("none"));
    }

    #[test]
    fn options_that_a_method_does_not_act_on_are_removed_and_named() {
        for (keywords, options, idle) in [
            ("dorefa,lsq", "--wt_enable --wt_bit 2 --wt_grad_type STE", "wt_grad_type"),
            ("dorefa", "--wt_enable --wt_bit 2 --wt_adaptive mean-var", "wt_adaptive"),
            ("dorefa", "--fm_enable --fm_bit 2 --fm_adaptive var-mean", "fm_adaptive"),
            ("lq", "--fm_enable --fm_bit 2 --fm_adaptive mean-var", "fm_adaptive"),
            ("xnor", "--wt_enable --wt_bit 1 --wt_grad_type Triangle", "wt_grad_type"),
            ("lq", "--wt_enable --wt_bit 2 --wt_grad_scale loud", "wt_grad_scale"),
            ("lq", "--wt_enable --wt_bit 2 --fm_bit 3", "fm_bit"),
            ("xnor", "--wt_enable --wt_bit 2", "wt_bit"),
        ] {
            let mut qtool = QtoolOptions::parse(keywords, options).unwrap();
            let named = qtool.drop_idle();
            assert_eq!(named.len(), 1, "{options}: {named:?}");
            assert_eq!(named[0].0, idle, "{options}");
            assert!(!qtool.has(idle));
            let any = Role::ALL.map(|role| qtool.quantizer(role).unwrap().is_some());
            assert!(any.contains(&true), "{options}");
        }
        let acting = "--fm_enable --fm_bit 1 --fm_grad_type Triangle --wt_enable --wt_bit 1";
        assert!(QtoolOptions::parse("xnor", acting).unwrap().drop_idle().is_empty());
    }

    #[test]
    fn binary_weights_have_two_levels() {
        let method = |bits: &str| {
            let options = format!("--wt_enable --wt_bit {bits}");
            let qtool = QtoolOptions::parse("dorefa,wt_bin", &options).unwrap();
            qtool.quantizer(Role::Weight).unwrap().unwrap().method
        };
        assert_eq!((method("1"), method("2")), (Method::XNOR, Method::Dorefa));
    }

    #[test]
    fn a_scale_is_what_the_method_makes_of_it() {
        let config = |keywords: &str| {
            let options = "--fm_enable --fm_level 4 --fm_scale 3 --fm_grad_scale fan-scale";
            let qtool = QtoolOptions::parse(keywords, options).unwrap();
            let config = qtool.quantizer(Role::Activation).unwrap().unwrap();
            config.validate("here").unwrap();
            (config.gradient_scale.factor, config.method)
        };
        assert_eq!(config("dorefa,lsq"), (3.0, Method::Lsq));
        let slopes = FatnnOptions { initial_slope: 3.0, closed_form: false };
        assert_eq!(config("dorefa,non-uniform"), (3.0, Method::Fatnn(slopes)));
    }

    #[test]
    fn an_unknown_gradient_type_is_refused() {
        let error = weight("--wt_enable --wt_bit 2 --wt_grad_type magic").unwrap_err();
        assert!(error.to_string().contains("wt_grad_type"), "{error}");
    }
}
