//! The methods, with one file each: formula and source, shapes, range, gradients, initial values,
//! and the differences between the reference implementation and the paper.
//!
//! In all files n = levels - 1, R rounds half to even with the gradient 1, and the elements of a
//! tensor fall into groups that share a clipping value ([`crate::Granularity`]). The gradient of
//! the loss by a quantized value is g, and ∂x stands for the gradient by x. The paths under
//! "Computed by" start at the folder `src` of this crate or, where it says so, of `quant-kernels`
//! or `quant-cube`.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use crate::{
    capability::Capability,
    config::{Levels, Normalization, QuantizerConfig, Range},
    gradient::GradientScaleRule,
    host::values,
    method::{Method, Role},
    ops::estimated,
    per_group::multiply_per_group,
    site::Grouping,
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
mod setup;
mod traits;
pub mod ttq;
pub mod xnor;

pub use own::{OwnMethod, OwnQuantizer, register};
pub(crate) use setup::Setup;
pub(crate) use traits::{
    Found, Named, NamedMut, Parameters, Quantize, Slot, calibrated_by, learned,
};

/// One line for each method: its file and its modules. (Its other line, the name, is in
/// `method.rs`.) If the method has options, their type implements `MethodFacts`; otherwise the type
/// `Facts` of the file does.
macro_rules! methods {
    ($($variant:ident $(($options:ident))? => $file:ident: $($module:ident),+;)*) => {
        /// The modules of all methods, which hold their parameters.
        #[doc(hidden)]
        #[derive(Module, Debug)]
        pub enum MethodModule {
            $($(
                /// The quantizer; see the documentation of its method's module.
                $module($file::$module),
            )+)*
            /// The quantizer of a method that the program registered.
            Own(OwnQuantizer),
        }

        /// Returns what the rest of the crate needs to know about a method, apart from its formula.
        pub(crate) fn facts(method: &Method) -> &dyn MethodFacts {
            match method {
                $(methods!(@pattern facts $variant $($options)?) =>
                    methods!(@facts facts $file $($options)?),)*
                Method::Own(own) => own,
            }
        }

        /// Evaluates `body` for the module of any method.
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

/// What the rest of the crate needs to know about a method, apart from its formula.
pub(crate) trait MethodFacts {
    /// Returns what the method offers in this role and range, or `None` where it does not support
    /// them.
    fn capability(&self, role: Role, range: Range) -> Option<Capability>;

    /// Makes the module of a quantizer whose configuration is valid.
    fn module(&self, setup: &Setup<'_>) -> MethodModule;

    /// Returns the default range of output quantizers.
    fn output_range(&self, _levels: Levels) -> Range {
        Range::Unsigned
    }

    /// Returns the default rule of the gradient scale.
    fn gradient_scale(&self) -> GradientScaleRule {
        GradientScaleRule::None
    }

    /// Returns the default normalisation.
    fn normalization(&self, _role: Role) -> Normalization {
        Normalization::None
    }

    /// Returns why the number of levels cannot change during training, or `None` where it can.
    fn fixed_levels(&self, _role: Role) -> Option<&'static str> {
        None
    }

    /// Returns whether a quantizer of this configuration has values per group, so that the number
    /// of groups has an effect.
    fn is_grouped(&self, _config: &QuantizerConfig) -> bool {
        true
    }

    /// Returns whether the boundary is a part of the formula, rather than an initial value.
    fn has_fixed_boundary(&self) -> bool {
        false
    }

    /// Returns what a zero is quantized to, where this is known whatever was learned.
    fn zero(&self, _config: &QuantizerConfig) -> Option<f32> {
        None
    }

    /// Returns the method that is suggested for a role that this method does not have.
    fn alternative(&self) -> Method {
        Method::LsqStep
    }
}

/// The reason why methods whose number of parameters depends on the levels cannot change them.
const BY_LEVELS: &str =
    "its number of parameters depends on the number of levels; start a new training run";

/// Returns whether the levels start at 0 and the gradients are those of a plain clamp. Zeros then
/// stay zeros and contribute nothing to the gradients.
fn keeps_zeros(config: &QuantizerConfig) -> bool {
    config.range == Range::Unsigned && config.estimator == crate::Estimator::Clipped
}

/// Returns the values of a parameter, read back from the device.
pub(crate) fn host(param: &Param<Tensor<1>>) -> Vec<f32> {
    values(param.val())
}

/// Returns the magnitude of a learned scale that is divided by. It is at least the smallest normal
/// number, so that zeros stay zeros.
///
/// The gradient is that of |scale|, but with 1 as the derivative at 0, which is the derivative
/// towards positive scales. With the derivative 0 the scale could never leave 0.
fn magnitude(scale: Tensor<1>) -> Tensor<1> {
    let fixed = scale.clone().detach();
    // The sign of 0 is 1 here. Fusion makes one launch of these operations on a GPU.
    let sign = fixed.clone().sign().mul_scalar(2.0).add_scalar(1.0).sign();
    estimated(fixed.abs().clamp_min(f32::MIN_POSITIVE), scale, sign)
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
