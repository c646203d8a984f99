//! What every method's module computes, and the parameters that it has.

use burn::{
    module::Param,
    tensor::{FloatDType, Tensor},
};

use crate::{
    calibrate::{Calibration, GroupSamples},
    codes::Codes,
    image_scale::ImageScale,
    parameter::Parameter,
    staircase::Staircase,
};

/// The computations of every method. [`MethodModule`](super::MethodModule) calls those of its
/// method.
pub(crate) trait Quantize {
    /// Returns the quantized values in the type `output`, differentiable. The arithmetic has the
    /// type of x; where a kernel comes last, it writes the other type itself.
    fn forward_as<const D: usize>(&self, x: Tensor<D>, output: FloatDType) -> Tensor<D>;
    /// Returns the quantized values in the type of x, differentiable.
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let output = x.dtype().into();
        self.forward_as(x, output)
    }
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
