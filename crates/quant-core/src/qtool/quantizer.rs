//! Makes the configuration of a quantizer from QTool's keywords and options.

use super::{
    choices::{GRAD_SCALE, adaptive, grad_type},
    compatibility::Compatibility,
    options::{QtoolOptions, unusable},
};
use crate::{
    config::{Granularity, Levels, Normalization, QuantizerConfig, Range},
    error::QuantizerError,
    gradient::{Estimator, GradientScale},
    method::{FatnnOptions, LqNetsOptions, Method, Role, SignScale, XnorOptions},
};

impl QtoolOptions {
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

    /// Returns the method that the keywords name for a role.
    pub(super) fn method(&self, role: Role, tag: &str) -> Result<Method, QuantizerError> {
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

    /// Returns the number of levels. `name` gives the name of an option of this role.
    pub(super) fn levels(&self, name: &impl Fn(&str) -> String) -> Result<Levels, QuantizerError> {
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

/// Returns QTool's prefix of the options of a role.
pub(super) fn tag(role: Role) -> &'static str {
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
