//! The learned parameters of a quantizer: they are read, set, calibrated and validated here.

use burn::{module::Param, tensor::Tensor};

use crate::{
    calibrate::{Calibration, CalibrationInfo, Samples},
    error::QuantizerError,
    method::Role,
    methods::{Parameters, Quantize, each_method, host},
    parameter::{Parameter, ParameterKind},
    quantizer::Quantizer,
};

/// A learned parameter of a quantizer.
#[derive(Debug)]
pub struct Learned<'a> {
    /// The parameter's name in the module tree and in state dictionaries.
    pub name: &'static str,
    /// Which values the parameter may have.
    pub kind: ParameterKind,
    /// The parameter, of shape `[groups]`. N2UQ's intervals are `[n, groups]`, row-major.
    pub value: &'a Param<Tensor<1>>,
    /// The shape of the parameter in PyTorch state dictionaries: `[1]` or `[1, groups, 1, 1]` for
    /// activations and outputs, `[groups, 1, 1, 1]` for weights, `[n, groups]` for N2UQ's
    /// intervals.
    pub pytorch_shape: Vec<usize>,
}

impl Quantizer {
    /// Returns the learned clipping value, `[groups]`, or `None` for methods that have none.
    pub fn clipping_value(&self) -> Option<&Param<Tensor<1>>> {
        let parameters = each_method!(&self.method, method => method.parameters());
        let name = Parameter::CLIPPING_VALUE.name;
        parameters.into_iter().find(|(other, _)| other.name == name).map(|(_, param)| param)
    }

    /// Returns all learned parameters.
    pub fn learned(&self) -> Vec<Learned<'_>> {
        let pytorch_shape = match (self.config.role, self.grouping.groups) {
            (Role::Weight, groups) => vec![groups, 1, 1, 1],
            (_, 1) => vec![1],
            (_, groups) => vec![1, groups, 1, 1],
        };
        let parameters = each_method!(&self.method, method => method.parameters());
        let learned = parameters.into_iter().map(|(Parameter { name, kind }, value)| {
            let (count, groups) = (value.lazy_shape().num_elements(), self.grouping.groups);
            let pytorch_shape =
                if count == groups { pytorch_shape.clone() } else { vec![count / groups, groups] };
            Learned { name, kind, value, pytorch_shape }
        });
        learned.collect()
    }

    /// Returns, by name, the values that are updated from the data instead of by gradient: LQ-Nets'
    /// basis, `[bits, groups]` row-major, and the factor of FATNN's closed form.
    pub fn running(&self) -> Vec<(&'static str, Tensor<1>)> {
        each_method!(&self.method, method => method.running())
    }

    /// Sets a running value. Returns whether there is one of this name and size.
    pub fn set_running(&self, name: &str, values: &[f32]) -> bool {
        each_method!(&self.method, method => method.set_running(name, values))
    }

    /// Returns the values of the learned parameter `name`, read back from the device, or `None`
    /// where there is no parameter of this name.
    pub fn learned_values(&self, name: &str) -> Option<Vec<f32>> {
        self.learned().into_iter().find(|learned| learned.name == name).map(|l| host(l.value))
    }

    /// Sets clip := (largest + (k - 1)·clip)/k, where `largest` was seen in the k-th call of a
    /// warm-up.
    pub(crate) fn follow(&mut self, largest: Tensor<1>, k: usize) {
        let clipping = each_method!(&self.method, method => method.clipping());
        if let Some((parameter, parts)) = clipping
            && let Some(param) = self.learned_mut(parameter.name)
        {
            let (old, k) = (param.val(), k as f32);
            let value = largest.div_scalar(parts) + old.clone().detach().mul_scalar(k - 1.0);
            set_value(param, value.div_scalar(k), &old);
        }
    }

    /// Sets the clipping value of every group. Methods that learn a step size get the step that
    /// makes this clipping value, `value`/Qp. Returns the name of the parameter that was set, or
    /// `None` for methods that learn neither.
    pub fn set_clipping_value(&mut self, value: f32) -> Option<&'static str> {
        let clipping = each_method!(&self.method, method => method.clipping());
        let (parameter, parts) = clipping.unwrap_or((Parameter::CLIPPING_VALUE, 1.0));
        let values = vec![value / parts; self.groups()];
        self.set_learned(parameter.name, &values).then_some(parameter.name)
    }

    /// Sets the learned parameter `name` to `values`: one value per group, or `[count, groups]`
    /// row-major. Returns whether there is a parameter of this name and size.
    pub fn set_learned(&mut self, name: &str, values: &[f32]) -> bool {
        let Some(param) = self.learned_mut(name) else {
            return false;
        };
        if values.len() != param.lazy_shape().num_elements() {
            return false;
        }
        let old = param.val();
        let value = Tensor::<1>::from_floats(values, &old.device());
        set_value(param, value, &old);
        true
    }

    fn learned_mut(&mut self, name: &str) -> Option<&mut Param<Tensor<1>>> {
        let parameters = each_method!(&mut self.method, method => method.parameters_mut());
        parameters.into_iter().find(|(other, _)| other.name == name).map(|(_, param)| param)
    }

    /// Checks that every learned parameter is finite, and above 0 where its
    /// [kind](crate::ParameterKind) requires it. The parameters are read back from the device.
    ///
    /// A scale at or below 0 still computes and learns: its magnitude is used (PACT uses a tiny
    /// clipping value instead), so that zeros stay zeros.
    ///
    /// # Errors
    /// [`QuantizerError::Degenerate`] with the layer, the group and the value.
    pub fn validate(&self) -> Result<(), QuantizerError> {
        for learned in self.learned() {
            let free = learned.kind == ParameterKind::Free;
            let sound = |value: &f32| value.is_finite() && (free || *value > 0.0);
            let values = host(learned.value);
            if let Some((index, value)) = values.iter().enumerate().find(|(_, v)| !sound(v)) {
                return Err(QuantizerError::Degenerate {
                    layer: self.site.name.clone(),
                    parameter: learned.name,
                    group: index % self.grouping.groups,
                    value: *value,
                    expected: if free { "a finite number" } else { "a finite number above 0" },
                });
            }
        }
        Ok(())
    }

    /// Returns whether [calibration](crate::calibrate()) sets any parameter.
    pub fn calibrates(&self) -> bool {
        each_method!(&self.method, method => method.calibrates())
    }

    /// Sets the parameters from samples of the inputs. Parameters of groups whose samples give no
    /// value (such as zeros) stay as they are. Returns `None` where the quantizer has no learned
    /// parameter.
    pub(crate) fn calibrate_by(
        &mut self,
        samples: &Samples,
        calibration: Calibration,
    ) -> Option<CalibrationInfo> {
        let shown = self.learned().first()?.name;
        let before = self.learned_values(shown)?;
        let stairs = |quantizer: &Self| {
            let method = &quantizer.method;
            each_method!(method, method => method.staircases(&samples.0))
        };
        let error_before = samples.relative_error(&stairs(self));
        self.fit(samples, calibration);
        Some(CalibrationInfo {
            layer: self.site.name.clone(),
            calibration,
            elements: samples.0.iter().map(|group| group.elements).sum(),
            parameter: shown.to_owned(),
            before,
            after: self.learned_values(shown)?,
            error_before,
            error_after: samples.relative_error(&stairs(self)),
        })
    }

    fn fit(&mut self, samples: &Samples, calibration: Calibration) {
        let groups = self.grouping.groups;
        let mut values: Vec<(&'static str, Vec<f32>)> =
            self.learned().iter().map(|learned| (learned.name, host(learned.value))).collect();
        for (group, seen) in samples.0.iter().enumerate() {
            let found = each_method!(&self.method, method => method.calibrated(seen, calibration));
            for (name, column) in found {
                let known = values.iter_mut().find(|(other, _)| *other == name.name);
                let Some((_, values)) = known else { continue };
                for (row, value) in column.into_iter().enumerate() {
                    values[row * groups + group] = value;
                }
            }
        }
        for (name, values) in values {
            self.set_learned(name, &values);
        }
    }

    /// Calibrates on one tensor; for the quantizer of a weight, this is the weight. Returns `None`
    /// for methods that calibrate nothing, and for an empty tensor.
    pub fn calibrate_on<const D: usize>(
        &mut self,
        x: Tensor<D>,
        calibration: Calibration,
    ) -> Option<CalibrationInfo> {
        if x.shape().num_elements() == 0 || !self.calibrates() {
            return None;
        }
        self.check_channels(&x.shape());
        let presented = each_method!(&self.method, method => method.presented(x));
        self.calibrate_by(&Samples::of(&presented, self.grouping), calibration)
    }
}

/// Replaces the value of a parameter, which was `old`, by another on the same device. A parameter
/// that is trained still is, also on a device without autodiff, where its value does not say so.
fn set_value(param: &mut Param<Tensor<1>>, value: Tensor<1>, old: &Tensor<1>) {
    let value = value.detach().set_require_grad(old.is_require_grad());
    *param = param.clone().map(|_| value);
}
