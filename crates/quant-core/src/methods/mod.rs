//! The methods, one file each: formula and source, shapes, range, gradients, initial values, and
//! where the reference implementation differs from the paper.
//!
//! Throughout, n = levels - 1, R rounds half to even with gradient 1, and a tensor falls into
//! groups that share a clipping value ([`crate::Granularity`]).

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};

use crate::{
    calibrate::{Calibration, GroupSamples},
    capability::Capability,
    codes::Codes,
    config::{Levels, Normalization, QuantizerConfig, Range},
    gradient::GradientScaleRule,
    host::values,
    method::{Method, Role},
    ops::estimated,
    parameter::Parameter,
    per_group::multiply_per_group,
    site::{Grouping, Site},
    staircase::Staircase,
};

pub mod apot;
pub mod dorefa;
pub mod fatnn;
pub mod lq_nets;
pub mod lsq;
pub mod lsq_plus;
pub mod lsq_step;
pub mod n2uq;
pub mod own;
pub mod pact;
pub mod ttq;
pub mod xnor;

pub use own::{OwnMethod, OwnQuantizer, register};

/// The second line of each method: the file with its facts and formula, and its modules. The facts
/// are those of its options where it has any, else those of the file's `Facts`.
macro_rules! methods {
    ($($variant:ident $(($options:ident))? => $file:ident: $($module:ident),+;)*) => {
        /// The methods with their parameters.
        #[derive(Module, Debug)]
        pub enum MethodModule {
            $($(
                /// See the method's page.
                $module($file::$module),
            )+)*
            /// A method of a program's own.
            Own(OwnQuantizer),
        }

        /// What is known of a method beside its formula.
        pub(crate) fn facts(method: &Method) -> &dyn MethodFacts {
            match method {
                $(methods!(@pattern facts $variant $($options)?) =>
                    methods!(@facts facts $file $($options)?),)*
                Method::Own(own) => own,
            }
        }

        /// `body` for the method's own module, whichever it is.
        macro_rules! each_method {
            ($self:expr, $quantizer:ident => $body:expr) => {
                match $self {
                    $($($crate::methods::MethodModule::$module($quantizer) => $body,)+)*
                    $crate::methods::MethodModule::Own($quantizer) => $body,
                }
            };
        }
        pub(crate) use each_method;
    };
    (@pattern $facts:ident $variant:ident) => { Method::$variant };
    (@pattern $facts:ident $variant:ident $options:ident) => { Method::$variant($facts) };
    (@facts $facts:ident $file:ident) => { &$file::Facts };
    (@facts $facts:ident $file:ident $options:ident) => { $facts };
}

methods! {
    Lsq => lsq: Lsq;
    LsqStep => lsq_step: LsqStep;
    LsqPlus => lsq_plus: LsqPlus;
    Dorefa => dorefa: DorefaActivation, DorefaWeight;
    Pact => pact: Pact;
    Xnor(XnorOptions) => xnor: SignActivation, SignWeight;
    Fatnn(FatnnOptions) => fatnn: Fatnn;
    LqNets(LqNetsOptions) => lq_nets: LqNets;
    Ttq(TtqOptions) => ttq: Ttq;
    Apot => apot: Apot;
    N2uq => n2uq: N2uqActivation, N2uqWeight;
}

/// What is known of a method beside its formula. Everything that depends on the method, and is not
/// computed, is read from here.
pub(crate) trait MethodFacts {
    /// What it offers in a role and range; `None` where they do not go together.
    fn capability(&self, role: Role, range: Range) -> Option<Capability>;

    /// The module of a quantizer whose configuration is valid.
    fn module(
        &self,
        config: &QuantizerConfig,
        site: &Site,
        grouping: Grouping,
        device: &Device,
    ) -> MethodModule;

    /// The range of outputs by default.
    fn output_range(&self, _levels: Levels) -> Range {
        Range::Unsigned
    }

    /// The gradient scale by default.
    fn gradient_scale(&self) -> GradientScaleRule {
        GradientScaleRule::None
    }

    /// The normalisation by default.
    fn normalization(&self, _role: Role) -> Normalization {
        Normalization::None
    }

    /// Why a quantizer that trains cannot go on with another number of levels, where it cannot.
    fn fixed_levels(&self, _role: Role) -> Option<&'static str> {
        None
    }

    /// Whether a quantizer of this configuration has values per group, so that groups change
    /// anything.
    fn is_grouped(&self, _config: &QuantizerConfig) -> bool {
        true
    }

    /// Whether the boundary is a part of the formula, rather than an initial value.
    fn has_fixed_boundary(&self) -> bool {
        false
    }

    /// What a zero becomes, whatever was learned, where that is known.
    fn zero(&self, _config: &QuantizerConfig) -> Option<f32> {
        None
    }

    /// The method that serves a role which this one does not have.
    fn alternative(&self) -> Method {
        Method::LsqStep
    }
}

/// Why levels are fixed of methods whose number of parameters depends on them.
const BY_LEVELS: &str = "its parameters belong to its levels; start anew";

/// Whether the levels start at 0 and gradients are those of a plain clamp: zeros then stay zeros and
/// learn nothing.
fn keeps_zeros(config: &QuantizerConfig) -> bool {
    config.range == Range::Unsigned && config.estimator == crate::Estimator::Clipped
}

/// What every method computes. [`MethodModule`] dispatches to it.
pub(crate) trait Quantize {
    /// The quantized values, differentiable.
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>;
    /// The code of every element, and what it stands for.
    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D>;
    /// What the staircases see of x: normalised, where the method does that.
    fn presented<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        x
    }
    /// Follows the statistics of a training call, before its output is computed.
    fn prepare_training<const D: usize>(&self, _x: &Tensor<D>) {}
    /// The same, after.
    fn observe_training<const D: usize>(&self, _x: &Tensor<D>) {}
}

/// A learned parameter and its name.
pub(crate) type Named<'a> = (Parameter, &'a Param<Tensor<1>>);

/// The same, to change.
pub(crate) type NamedMut<'a> = (Parameter, &'a mut Param<Tensor<1>>);

/// Values found for parameters.
pub(crate) type Found = Vec<(Parameter, Vec<f32>)>;

/// The state that every method names in the same way.
pub(crate) trait Parameters {
    /// Learned parameters by name: `[groups]`, or `[count, groups]` row-major.
    fn parameters(&self) -> Vec<Named<'_>> {
        Vec::new()
    }
    /// The same, to change.
    fn parameters_mut(&mut self) -> Vec<NamedMut<'_>> {
        Vec::new()
    }
    /// Running values by name, row-major.
    fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        Vec::new()
    }
    /// Sets a running value; whether there is one of that name and size.
    fn set_running(&self, _name: &str, _values: &[f32]) -> bool {
        false
    }
    /// What it does to one number of each group. Empty where that depends on the others.
    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        Vec::new()
    }
    /// Initial values of a group's parameters, from samples of what is [presented](Quantize::presented):
    /// one of each, or of `[count, groups]` a column. Empty where nothing is calibrated, or the samples
    /// do not say.
    fn calibrated(&self, _samples: &GroupSamples, _calibration: Calibration) -> Found {
        Vec::new()
    }
    /// Whether [`calibrated`](Self::calibrated) does anything.
    fn calibrates(&self) -> bool {
        false
    }
    /// The parameter that follows a clipping value, and how many of it make one.
    fn clipping(&self) -> Option<(Parameter, f32)> {
        None
    }
}

/// A field that holds a learned parameter, or may hold one.
pub(crate) trait Slot {
    fn param(&self) -> Option<&Param<Tensor<1>>>;
    fn param_mut(&mut self) -> Option<&mut Param<Tensor<1>>>;
}

impl Slot for Param<Tensor<1>> {
    fn param(&self) -> Option<&Param<Tensor<1>>> {
        Some(self)
    }

    fn param_mut(&mut self) -> Option<&mut Param<Tensor<1>>> {
        Some(self)
    }
}

impl Slot for Option<Param<Tensor<1>>> {
    fn param(&self) -> Option<&Param<Tensor<1>>> {
        self.as_ref()
    }

    fn param_mut(&mut self) -> Option<&mut Param<Tensor<1>>> {
        self.as_mut()
    }
}

/// [`Parameters::parameters`] and [`Parameters::parameters_mut`] of these fields.
macro_rules! learned {
    ($($parameter:expr => $field:ident),+) => {
        fn parameters(&self) -> Vec<$crate::methods::Named<'_>> {
            use $crate::methods::Slot;
            let all = [$(($parameter, self.$field.param())),+];
            all.into_iter().filter_map(|(parameter, param)| Some((parameter, param?))).collect()
        }

        fn parameters_mut(&mut self) -> Vec<$crate::methods::NamedMut<'_>> {
            use $crate::methods::Slot;
            let all = [$(($parameter, self.$field.param_mut())),+];
            all.into_iter().filter_map(|(parameter, param)| Some((parameter, param?))).collect()
        }
    };
}
pub(crate) use learned;

/// A parameter read back from the device.
pub(crate) fn host(param: &Param<Tensor<1>>) -> Vec<f32> {
    values(param.val())
}

/// The magnitude of a learned scale, to divide by: at least the smallest normal number, so that
/// zeros stay zeros.
///
/// The gradient is that of |scale|, with 1 as the derivative at 0, where it would otherwise be 0
/// and the scale could never leave: the derivative towards positive scales.
fn magnitude(scale: Tensor<1>) -> Tensor<1> {
    let fixed = scale.clone().detach();
    let negative = fixed.clone().lower_elem(0.0);
    let sign = fixed.ones_like().mask_fill(negative, -1.0);
    estimated(fixed.abs().clamp_min(f32::MIN_POSITIVE), scale, sign)
}

/// A learned factor per group, initially 1, where the configuration asks for it.
fn gamma(
    config: &QuantizerConfig,
    grouping: Grouping,
    device: &Device,
) -> Option<Param<Tensor<1>>> {
    (config.gamma).then(|| Param::from_tensor(Tensor::ones([grouping.groups], device)))
}

/// Multiplies by the learned factor, where there is one.
fn times_gamma<const D: usize>(
    y: Tensor<D>,
    gamma: &Option<Param<Tensor<1>>>,
    grouping: Grouping,
) -> Tensor<D> {
    match gamma {
        None => y,
        Some(gamma) => multiply_per_group(y, &gamma.val(), grouping),
    }
}
