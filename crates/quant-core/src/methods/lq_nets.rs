//! LQ-Nets (Zhang et al., "LQ-Nets: Learned Quantization for Highly Accurate and Compact Deep
//! Neural Networks", ECCV 2018), whose levels are combinations of a learned basis.
//!
//! A code is a row of digits, 0 or 1 for an unsigned range and -1 or +1 for a signed one. It stands
//! for the value digits·v (equation 3), where the basis v has one value per bit and group. Three
//! levels have one basis value and the digits -1, 0, 1 (signed) or 0, 1, 2 (unsigned). Between
//! neighbouring levels l < u lies the threshold p·l + (1 - p)·u, where p = `threshold_position`
//! (1/2 for the middle, equation 5). In the lower half of a signed range it is (1 - p)·l + p·u, and
//! the middle threshold of a signed range is always half way. y is the level of the interval that x
//! lies in; a value on a threshold takes the lower level.
//!
//! **Learning the basis** (equation 8, quantization-error minimisation). After each training call,
//! with B the digits of all elements, v* = (BᵀB)⁻¹Bᵀx per group and v := 0.9·v + 0.1·v* (or v
//! becomes the running mean of all v*, with `running_mean_basis`). A call uses the basis from
//! before its update. For activations, a zero on the diagonal of BᵀB becomes 1e-5. For weights,
//! v* = (D(BᵀB + 1e-4·I))⁻¹(Bᵀx + 1e-4·v), where D multiplies the diagonal by 1.000001. A system
//! that is still singular gets 1e-4 of its trace on the diagonal. Where inputs are not finite, the
//! basis stays as it is.
//!
//! **Normalisation.** Weights may first be normalised per group (`mean`: w - mean; `var`: w/(std +
//! 1e-5); `mean-var`: both), and activations may be divided by the mean or the std (+ 1e-5) of
//! their image. The normalisation is undone after quantizing.
//!
//! **Gradients.** For activations g where x is below the top level of its group, else 0. For
//! weights g; no surrogate has this derivative. The basis learns by the rule above only.
//!
//! **Shapes.** Any shape; the basis is `[bits, groups]`.
//!
//! **Initial values.** v_i = 2^i·c, where c = 0.6745·2/2^(bits-1) for activations and
//! c = 0.6745·sqrt(2/fan)/2^(bits-1) for weights.
//!
//! **Where the reference differs from the paper.** The initial basis of activations, the
//! regularisation, and one update per call instead of the paper's alternation.
//!
//! **Computed by** `Rule::Table`, which this file calls: on the CPU in
//! `quantize/arithmetic/table.rs` of `quant-kernels`, on GPUs in `quantize/formula.rs` of
//! `quant-cube`. The levels of a basis and its least squares solution are computed on the CPU in
//! `quantize/basis.rs` of `quant-kernels`, on GPUs in `basis` of `quant-cube`.

use burn::{
    module::{Module, RunningState},
    tensor::{FloatDType, Tensor},
};

use super::{BY_LEVELS, MethodFacts, MethodModule, Parameters, Quantize, Setup, keeps_zeros};
use crate::{
    calibrate::GroupSamples,
    capability::{Capability, LevelSet},
    codes::{Codes, Decoding, Table},
    config::{Levels, Normalization, QuantizerConfig, Range},
    host::values,
    image_scale::ImageScale,
    method::{LqNetsOptions, Role},
    normalize::{Restore, normalize},
    ops::{Basis, Elementwise, Rule, basis_levels, count_below, fit_basis, quantize},
    options::field_names,
    parameter::BASIS,
    site::Grouping,
    staircase::Staircase,
};

impl MethodFacts for LqNetsOptions {
    fn capability(&self, role: Role, _range: Range) -> Option<Capability> {
        use Normalization::{Mean, MeanVar, Var};
        Some(Capability {
            levels: LevelSet::TernaryOrPowersOfTwo,
            normalizations: match role {
                Role::Weight => &[Mean, Var, MeanVar],
                Role::Activation | Role::Output => &[Mean, Var],
            },
            options: field_names!(LqNetsOptions: threshold_position, running_mean_basis),
            running: &[BASIS],
            ..Capability::base(role)
        })
    }

    fn module(&self, setup: &Setup<'_>) -> MethodModule {
        MethodModule::LqNets(LqNets::new(setup, *self))
    }

    fn output_range(&self, _levels: Levels) -> Range {
        Range::Signed
    }

    fn fixed_levels(&self, _role: Role) -> Option<&'static str> {
        Some(BY_LEVELS)
    }

    /// The code 0 stands for a zero, and its digits add nothing to the least squares system.
    fn zero(&self, config: &QuantizerConfig) -> Option<f32> {
        let between = self.threshold_position > 0.0 && self.threshold_position < 1.0;
        let plain = config.normalization == Normalization::None;
        (plain && between && keeps_zeros(config)).then_some(0.0)
    }
}

/// Quantizer with a learned basis: see the [module](self).
#[derive(Module, Debug)]
#[doc(hidden)]
pub struct LqNets {
    /// The basis, `[bits, groups]`.
    pub basis: RunningState<Tensor<2>>,
    /// The number of updates of the basis so far, `[1]`.
    pub iteration: RunningState<Tensor<1>>,
    #[module(skip)]
    rule: Basis,
    #[module(skip)]
    role: Role,
    #[module(skip)]
    running_mean: bool,
    #[module(skip)]
    normalization: Normalization,
    #[module(skip)]
    normalized_together: Grouping,
    #[module(skip)]
    grouping: Grouping,
}

impl LqNets {
    pub(crate) fn new(setup: &Setup<'_>, options: LqNetsOptions) -> Self {
        let Setup { config, site, grouping, device } = *setup;
        let levels = config.levels.count();
        let bits = if levels == 3 { 1 } else { config.levels.bits() as usize };
        let spread = match config.role {
            Role::Weight => (2.0 / site.fan(config.role) as f64).sqrt(),
            Role::Activation | Role::Output => 2.0,
        };
        let base = 0.6745 * spread / f64::powi(2.0, bits as i32 - 1);
        let row = |bit: usize| vec![(f64::powi(2.0, bit as i32) * base) as f32; grouping.groups];
        let basis: Vec<f32> = (0..bits).flat_map(row).collect();
        let basis = Tensor::<1>::from_floats(basis.as_slice(), device);
        Self {
            basis: RunningState::new(basis.reshape([bits, grouping.groups])),
            iteration: RunningState::new(Tensor::zeros([1], device)),
            rule: Basis {
                bits,
                levels,
                signed: config.range == Range::Signed,
                position: options.threshold_position,
                weight: config.role == Role::Weight,
            },
            role: config.role,
            running_mean: options.running_mean_basis,
            normalization: config.normalization,
            normalized_together: if config.independent_norm { Grouping::WHOLE } else { grouping },
            grouping,
        }
    }

    /// Returns, for each group, how much an update of the basis by `x` amplifies rounding errors:
    /// the ratio of the largest to the smallest pivot of its system. Above about 1e6 the
    /// regularisation determines the basis, and not the data.
    pub fn condition<const D: usize>(&self, x: &Tensor<D>) -> Vec<f64> {
        let fitted = self.fitted(x, self.values());
        values(fitted.narrow(1, self.rule.bits, 1)).into_iter().map(f64::from).collect()
    }

    /// Returns the least squares solution for x, and behind it the condition of its system:
    /// `[groups, bits + 1]`.
    fn fitted<const D: usize>(&self, x: &Tensor<D>, old: Tensor<2>) -> Tensor<2> {
        let (x, _) = self.normalized(x.clone().detach());
        let view = self.grouping.view(&x.shape());
        fit_basis(x.inner(), old, self.rule, view)
    }

    /// Returns the basis as `[groups, bits]`, a constant.
    fn values(&self) -> Tensor<2> {
        self.basis.value_sync().inner().transpose()
    }

    /// Returns thresholds, `[groups, levels - 1]`, and levels, `[groups, levels]`, both ascending.
    fn ladders(&self) -> (Tensor<2>, Tensor<2>) {
        let both = basis_levels(self.values(), self.rule);
        let (thresholds, levels) = (self.rule.levels - 1, self.rule.levels);
        (both.clone().narrow(1, 0, thresholds), both.narrow(1, thresholds, levels))
    }

    /// Moves the basis towards the least squares solution for x.
    fn update<const D: usize>(&self, x: &Tensor<D>) {
        let (bits, groups) = (self.rule.bits, self.grouping.groups);
        let old = self.values();
        let solution = self.fitted(x, old.clone()).narrow(1, 0, bits);
        let done = self.iteration.value_sync().inner();
        let next = if self.running_mean {
            let done = done.clone().reshape([1, 1]);
            (old.clone() * done.clone() + solution.clone()) / done.add_scalar(1.0)
        } else {
            old.clone().mul_scalar(0.9) + solution.clone().mul_scalar(0.1)
        };
        // The basis stays where the data give no finite solution.
        let lost = solution.is_finite().bool_not().float().max_dim(1).greater_elem(0.0);
        let next = next.mask_where(lost.expand([groups, bits]), old);
        self.basis.update(next.transpose());
        self.iteration.update(done.add_scalar(1.0));
    }

    fn normalized<const D: usize>(&self, x: Tensor<D>) -> (Tensor<D>, Restore) {
        normalize(x, self.normalization, self.role, self.normalized_together)
    }
}

impl Quantize for LqNets {
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D> {
        let (x, restore) = self.normalized(x);
        let (thresholds, levels) = self.ladders();
        let groups = self.grouping.groups;
        let everywhere = |value: f32| Tensor::full([groups, 1], value, &levels.device());
        let highest = match self.role {
            Role::Weight => everywhere(f32::INFINITY),
            Role::Activation | Role::Output => levels.clone().narrow(1, self.rule.levels - 1, 1),
        };
        let bounds = vec![everywhere(1.0), everywhere(f32::NEG_INFINITY), highest];
        let parameters = [bounds, vec![thresholds, levels]].concat();
        let rule = Rule::Table { thresholds: self.rule.levels - 1 };
        let operation = Elementwise { rule, view: self.grouping.view(&x.shape()) };
        let written = restore.written(&x, output, &None);
        let y = quantize(x, Tensor::cat(parameters, 1), operation, 1.0, written);
        restore.apply(y).cast(output)
    }

    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D> {
        let shape = x.shape();
        let (x, restore) = self.normalized(x.detach());
        let (thresholds, values) = self.ladders();
        let codes = count_below(x.reshape(self.grouping.view(&shape)), thresholds).int();
        let table = Table { values, restore, grouping: self.grouping };
        Codes { codes: codes.reshape(shape), decoding: Decoding::Table(table) }
    }

    fn observe_training<const D: usize>(&self, x: &Tensor<D>) {
        self.update(x);
    }
}

impl Parameters for LqNets {
    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        let (thresholds, levels) = self.ladders();
        let (thresholds, levels) = (values(thresholds), values(levels));
        let count = self.rule.levels;
        let groups = levels.chunks(count).zip(thresholds.chunks(count - 1));
        groups.map(|(l, t)| Staircase::new(l.to_vec(), t.to_vec())).collect()
    }

    fn take_image_scale(&mut self) -> Option<ImageScale> {
        let scale = match (self.role, self.normalization) {
            (Role::Activation | Role::Output, Normalization::Mean) => ImageScale::Mean,
            (Role::Activation | Role::Output, Normalization::Var) => ImageScale::Deviation,
            _ => return None,
        };
        self.normalization = Normalization::None;
        Some(scale)
    }

    fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        vec![(BASIS, self.basis.value_sync().flatten(0, 1))]
    }

    fn set_running(&self, name: &str, values: &[f32]) -> bool {
        let old = self.basis.value_sync();
        if name != BASIS || values.len() != old.shape().num_elements() {
            return false;
        }
        self.basis.update(Tensor::<1>::from_floats(values, &old.device()).reshape(old.shape()));
        true
    }
}
