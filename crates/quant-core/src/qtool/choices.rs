//! Options with a fixed set of values that depends on the method and the role.

use super::options::unusable;
use crate::{
    config::Normalization,
    error::QuantizerError,
    gradient::{Estimator, GradientScaleRule},
    method::{Method, Role},
};

/// The values that an option can have for a method and a role.
pub(super) struct Choices<T: 'static> {
    values: &'static [(&'static str, T)],
    accepted: &'static str,
}

impl<T: Copy> Choices<T> {
    /// Returns the choice that a value names.
    pub(super) fn choose(&self, option: &str, value: &str) -> Result<T, QuantizerError> {
        let choice = self.values.iter().find(|(name, _)| *name == value);
        choice.map(|(_, choice)| *choice).ok_or_else(|| unusable(option, value, self.accepted))
    }

    /// Returns the accepted values if this one is not among them.
    pub(super) fn refusal(&self, value: &str) -> Option<&'static str> {
        let known = self.values.iter().any(|(name, _)| *name == value);
        (!known).then_some(self.accepted)
    }
}

/// Returns the values of `--<tag>_adaptive`.
pub(super) fn adaptive(method: Method, role: Role) -> Choices<Normalization> {
    match (method, role) {
        (Method::LqNets(_), Role::Weight) => Choices {
            values: &[
                ("none", Normalization::None),
                ("mean", Normalization::Mean),
                ("var", Normalization::Var),
                ("mean-var", Normalization::MeanVar),
            ],
            accepted: "expected none, mean, var or mean-var",
        },
        (Method::LqNets(_), _) => Choices {
            values: &[
                ("none", Normalization::None),
                ("mean", Normalization::Mean),
                ("var", Normalization::Var),
            ],
            accepted: "expected none, mean or var",
        },
        (_, Role::Weight) => Choices {
            values: &[("none", Normalization::None), ("var-mean", Normalization::VarMean)],
            accepted: "expected none or var-mean",
        },
        _ => Choices { values: &[("none", Normalization::None)], accepted: "expected none" },
    }
}

/// Returns the values of `--<tag>_grad_type`.
pub(super) fn grad_type(method: Method, role: Role) -> Choices<Estimator> {
    match (method, role) {
        (Method::Xnor(_), Role::Weight) => Choices {
            values: &[("none", Estimator::Identity), ("STE", Estimator::Clipped)],
            accepted: "expected none or STE",
        },
        (Method::Xnor(_), _) => Choices {
            values: &[
                ("none", Estimator::Identity),
                ("STE", Estimator::Clipped),
                ("Triangle", Estimator::Triangle),
            ],
            accepted: "expected none, STE or Triangle",
        },
        _ => Choices {
            values: &[("none", Estimator::Clipped), ("STE-scale", Estimator::Clipped)],
            accepted: "expected none or STE-scale",
        },
    }
}

/// The values of `--<tag>_grad_scale`.
pub(super) const GRAD_SCALE: Choices<GradientScaleRule> = Choices {
    values: &[
        ("none", GradientScaleRule::None),
        ("fan-scale", GradientScaleRule::FanScale),
        ("scale-fan", GradientScaleRule::ScaleFan),
        ("element-scale", GradientScaleRule::ElementScale),
        ("scale-element", GradientScaleRule::ScaleElement),
    ],
    accepted: "expected none, fan-scale, scale-fan, element-scale or scale-element",
};
