//! FATNN's non-uniform quantizers (Chen et al., "FATNN: Fast and Accurate Ternary Neural Networks",
//! ICCV 2021): learned thresholds, integer values.
//!
//! With α_i = |`alpha_i`|, one of each per group, and o_0 = 0, o_i = o_(i-1) + 1/α_(i-1):
//!
//! - unsigned, 2 to 4 levels: y = sum of R(clamp((x - o_i)·α_i, 0, 1)) over i: the integers
//!   0..levels - 1, whose thresholds lie at o_i + 1/(2α_i)
//! - ternary (signed activations and weights): y = R(clamp(x·α_0, -1, 0)) + R(clamp(x·α_1, 0, 1))
//!
//! In the closed form (one group) y is multiplied by a basis: in training the least squares factor
//! Σxy/Σy² of the call itself (the mean of x where y is all zero), in evaluation the last one.
//!
//! **Gradients.** R passes gradients; each clamp does strictly inside its range, so an element moves
//! the piece it lies in: ∂x = g·α_i there, and every α its piece depends on, by its position and by
//! its offset. The sums are multiplied by the [gradient scale](crate::GradientScale) and the sign of
//! `alpha_i`. The basis is a constant.
//!
//! **Shapes.** Any; `alpha_0`.. are `[groups]`.
//!
//! **Initial values.** α = factor/boundary for activations, factor for weights, with the gradient
//! scale's `factor` (0.5); basis 1.
//!
//! **Where the reference differs from the paper.** Its names are `alpha0`, `alpha1`, `alpha2`; a
//! clipping value is kept beside them and never used.

use burn::{
    module::{Module, Param, RunningState},
    tensor::{Device, Tensor},
};

use super::{Parameters, Quantize};
use crate::{
    codes::{Affine, Codes, Decoding},
    config::{QuantizerConfig, Range, Role},
    normalize::normalize_groups,
    site::Grouping,
};

/// Learned thresholds, integer values: see the [module](self).
#[derive(Module, Debug)]
pub struct Fatnn {
    /// Slope of the first piece, `[groups]`.
    pub alpha0: Param<Tensor<1>>,
    /// Slope of the second piece, `[groups]`.
    pub alpha1: Option<Param<Tensor<1>>>,
    /// Slope of the third piece, `[groups]`.
    pub alpha2: Option<Param<Tensor<1>>>,
    /// The closed form's factor, `[1]`.
    pub basis: Option<RunningState<Tensor<1>>>,
    #[module(skip)]
    signed: bool,
    #[module(skip)]
    gradient_scale: f32,
    #[module(skip)]
    normalization: crate::Normalization,
    #[module(skip)]
    grouping: Grouping,
}

impl Fatnn {
    pub(crate) fn new(
        config: &QuantizerConfig,
        grouping: Grouping,
        gradient_scale: f64,
        device: &Device,
    ) -> Self {
        let factor = config.gradient_scale.factor;
        let initial = match config.role {
            Role::Weight => factor,
            Role::Activation | Role::Output => factor / config.boundary,
        };
        let alpha = || Param::from_tensor(Tensor::<1>::full([grouping.groups], initial, device));
        let pieces = config.levels.count() - 1;
        let basis = || RunningState::new(Tensor::<1>::ones([1], device));
        Self {
            alpha0: alpha(),
            alpha1: (pieces > 1).then(alpha),
            alpha2: (pieces > 2).then(alpha),
            basis: config.closed_form.then(basis),
            signed: config.range == Range::Signed,
            gradient_scale: gradient_scale as f32,
            normalization: config.normalization,
            grouping,
        }
    }

    /// |alpha| with its scaled gradient, to multiply `[outer, groups, inner]`.
    fn slope(&self, alpha: &Param<Tensor<1>>) -> Tensor<3> {
        let alpha = alpha.val();
        let fixed = alpha.clone().detach();
        let scaled = fixed.clone() + (alpha - fixed).mul_scalar(self.gradient_scale);
        scaled.abs().reshape([1, self.grouping.groups, 1])
    }

    /// The integer value of every element, differentiable.
    fn integers<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = x.shape();
        let x = x.reshape(self.grouping.view(&shape));
        let slopes: Vec<Tensor<3>> =
            [Some(&self.alpha0), self.alpha1.as_ref(), self.alpha2.as_ref()]
                .into_iter()
                .flatten()
                .map(|alpha| self.slope(alpha))
                .collect();
        let y = if self.signed {
            let below = piece(x.clone() * slopes[0].clone(), -1.0, 0.0);
            below + piece(x * slopes[slopes.len() - 1].clone(), 0.0, 1.0)
        } else {
            let mut y = piece(x.clone() * slopes[0].clone(), 0.0, 1.0);
            let mut offset = slopes[0].clone().recip();
            for slope in &slopes[1..] {
                y = y + piece((x.clone() - offset.clone()) * slope.clone(), 0.0, 1.0);
                offset = offset + slope.clone().recip();
            }
            y
        };
        y.reshape(shape)
    }

    fn affine(&self, device: &Device) -> Affine {
        let offset = if self.signed { -1.0 } else { 0.0 };
        let scale = match &self.basis {
            Some(basis) => basis.value_sync().to_device(device),
            None => Tensor::ones([1], device),
        };
        let grouping = self.grouping;
        Affine { steps: 1.0, multiplier: 1.0, offset, scale, gamma: None, grouping }
    }
}

/// R(clamp(u, low, high)), passing the gradient strictly inside.
fn piece(u: Tensor<3>, low: f32, high: f32) -> Tensor<3> {
    let fixed = u.clone().detach();
    let value = fixed.clone().clamp(low, high).round();
    let inside = fixed.clone().greater_elem(low).bool_and(fixed.clone().lower_elem(high));
    value + (u - fixed) * inside.float()
}

impl Quantize for Fatnn {
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let x = normalize_groups(x, self.normalization, self.grouping);
        let y = self.integers(x);
        if self.basis.is_none() {
            return y;
        }
        let scale = self.affine(&y.device()).scale;
        y * scale.reshape([1; D])
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let decoding = self.affine(&x.device());
        let x = normalize_groups(x, self.normalization, self.grouping);
        let codes = self.integers(x.detach()).sub_scalar(decoding.offset).int();
        Codes { codes, decoding: Decoding::Affine(decoding) }
    }

    fn prepare_training<const D: usize>(&self, x: &Tensor<D>) {
        if let Some(basis) = &self.basis {
            let x = x.clone().detach();
            let x = normalize_groups(x, self.normalization, self.grouping);
            let y = self.integers(x.clone()).detach();
            let squares = (y.clone() * y.clone()).sum();
            let none = squares.clone().equal_elem(0.0);
            let factor = (x.clone() * y).sum() / squares;
            basis.update(factor.mask_where(none, x.mean()).detach());
        }
    }
}

impl Parameters for Fatnn {
    fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<1>>)> {
        let all = [
            ("alpha0", Some(&self.alpha0)),
            ("alpha1", self.alpha1.as_ref()),
            ("alpha2", self.alpha2.as_ref()),
        ];
        all.into_iter().filter_map(|(name, alpha)| Some((name, alpha?))).collect()
    }

    fn parameters_mut(&mut self) -> Vec<(&'static str, &mut Param<Tensor<1>>)> {
        let all = [
            ("alpha0", Some(&mut self.alpha0)),
            ("alpha1", self.alpha1.as_mut()),
            ("alpha2", self.alpha2.as_mut()),
        ];
        all.into_iter().filter_map(|(name, alpha)| Some((name, alpha?))).collect()
    }

    fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        self.basis.iter().map(|basis| ("basis", basis.value_sync())).collect()
    }

    fn set_running(&self, name: &str, values: &[f32]) -> bool {
        match &self.basis {
            Some(basis) if name == "basis" && values.len() == 1 => {
                let device = basis.value_sync().device();
                basis.update(Tensor::from_floats(values, &device));
                true
            }
            _ => false,
        }
    }
}
