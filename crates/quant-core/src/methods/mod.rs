//! The methods, with one file each: formula and source, shapes, range, gradients, initial values,
//! and the differences between the reference implementation and the paper.
//!
//! In all files n = levels - 1, R rounds half to even with the gradient 1, and the elements of a
//! tensor fall into groups that share a clipping value ([`crate::Granularity`]). The gradient of
//! the loss by a quantized value is g, and ∂x stands for the gradient by x. The paths under
//! "Computed by" start at the folder `src` of this crate or, where it says so, of `quant-kernels`.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

use crate::{
    calibrate::{Calibration, GroupSamples},
    capability::Capability,
    codes::Codes,
    config::{Levels, Normalization, QuantizerConfig, Range},
    gradient::GradientScaleRule,
    host::values,
    image_scale::ImageScale,
    method::{Method, Role},
    ops::estimated,
    parameter::Parameter,
    per_group::multiply_per_group,
    site::Grouping,
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
mod setup;
pub mod ttq;
pub mod xnor;

pub use own::{OwnMethod, OwnQuantizer, register};
pub(crate) use setup::Setup;

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

/// The computations of every method. [`MethodModule`] calls those of its method.
pub(crate) trait Quantize {
    /// Returns the quantized values, differentiable.
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>;
    /// Returns the code of every element, and how to decode it.
    fn codes<const D: usize>(&self, x: Tensor<D>) -> Codes<D>;
    /// Returns x as the staircases see it: normalised, where the method normalises.
    fn presented<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        x
    }
    /// Updates the statistics in a training call, before its output is computed.
    fn prepare_training<const D: usize>(&self, _x: &Tensor<D>) {}
    /// Updates the statistics in a training call, after its output was computed.
    fn observe_training<const D: usize>(&self, _x: &Tensor<D>) {}
}

/// A learned parameter, with its name and kind.
pub(crate) type Named<'a> = (Parameter, &'a Param<Tensor<1>>);

/// A learned parameter that can be changed, with its name and kind.
pub(crate) type NamedMut<'a> = (Parameter, &'a mut Param<Tensor<1>>);

/// The values that calibration found for parameters.
pub(crate) type Found = Vec<(Parameter, Vec<f32>)>;

/// The parameters and running values of a method, with the same names in every use.
pub(crate) trait Parameters {
    /// Returns the learned parameters with their names: `[groups]`, or `[count, groups]` row-major.
    fn parameters(&self) -> Vec<Named<'_>> {
        Vec::new()
    }
    /// Returns the learned parameters with their names, to change them.
    fn parameters_mut(&mut self) -> Vec<NamedMut<'_>> {
        Vec::new()
    }
    /// Returns the running values with their names, row-major.
    fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        Vec::new()
    }
    /// Sets a running value. Returns whether there is one of this name and size.
    fn set_running(&self, _name: &str, _values: &[f32]) -> bool {
        false
    }
    /// Returns the staircase of each group: what is done to one number. The list is empty where
    /// this depends on other elements.
    fn staircases(&self, _seen: &[GroupSamples]) -> Vec<Staircase> {
        Vec::new()
    }
    /// Returns the initial values of the parameters of one group, found from samples of what is
    /// [presented](Quantize::presented): one value for a parameter of shape `[groups]`, a column
    /// for one of `[count, groups]`. The list is empty where nothing is calibrated, or where the
    /// samples do not determine the values.
    fn calibrated(&self, _samples: &GroupSamples, _calibration: Calibration) -> Found {
        Vec::new()
    }
    /// Returns whether [`calibrated`](Self::calibrated) finds anything.
    fn calibrates(&self) -> bool {
        false
    }
    /// Returns the parameter that sets the clipping value, and how many times its value the
    /// clipping value is.
    fn clipping(&self) -> Option<(Parameter, f32)> {
        None
    }
    /// Removes the part that depends on the image from an activation's quantizer, and returns it.
    fn take_image_scale(&mut self) -> Option<ImageScale> {
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

/// Implements [`Parameters::parameters`] and [`Parameters::parameters_mut`] for these fields.
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

/// Implements [`Parameters::calibrated`] for a field that is a [`crate::ops::ClipQuantize`].
macro_rules! calibrated_by {
    ($operation:ident) => {
        fn calibrated(
            &self,
            samples: &$crate::calibrate::GroupSamples,
            calibration: $crate::calibrate::Calibration,
        ) -> $crate::methods::Found {
            self.$operation.calibrated(samples, calibration)
        }

        fn calibrates(&self) -> bool {
            true
        }
    };
}
pub(crate) use calibrated_by;

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
    let negative = fixed.clone().lower_elem(0.0);
    let sign = fixed.ones_like().mask_fill(negative, -1.0);
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
