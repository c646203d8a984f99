//! Changes of quantizers during training: other levels, granularity or normalisation.

use burn::{
    module::{Param, ParamId},
    tensor::Device,
};

use crate::{
    config::{Levels, QuantizerConfig},
    error::QuantizerError,
    methods::{Parameters, Setup, each_method, facts, host},
    parameter::ParameterKind,
    quantizer::Quantizer,
    signature::Signature,
    site::Grouping,
};

/// The result of changing a quantizer during training.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizerChange {
    /// Name of the layer.
    pub layer: String,
    /// The number of levels before.
    pub from: usize,
    /// The number of levels after.
    pub to: usize,
    /// The parameters that were rescaled. Their momentum has the old scale and should be reset.
    pub rescaled: Vec<Rescaled>,
    /// The names of the parameters that start again because their old values did not fit.
    pub fresh: Vec<&'static str>,
}

/// A parameter that was multiplied by a factor.
#[derive(Debug, Clone, PartialEq)]
pub struct Rescaled {
    /// The name of the parameter.
    pub name: &'static str,
    /// The identity of the parameter in optimizers.
    pub id: ParamId,
    /// The factor that the parameter was multiplied by.
    pub factor: f32,
}

impl Quantizer {
    /// Continues with another number of levels, which is known as progressive quantization.
    /// Clipping values are multiplied by (new - 1)/(old - 1), which keeps their step size. Step
    /// sizes stay, and so does the clipping value of APoT, whose levels are not evenly spaced. All
    /// other learned values stay.
    ///
    /// # Errors
    /// [`QuantizerError::LevelChange`] for methods whose number of parameters depends on the
    /// levels, and where the new configuration would be invalid.
    pub fn set_levels(&mut self, levels: Levels) -> Result<QuantizerChange, QuantizerError> {
        let refused = |reason: String| QuantizerError::LevelChange {
            layer: self.site.name.clone(),
            method: self.config.method.name(),
            from: self.config.levels.count(),
            to: levels.count(),
            reason,
        };
        if let Some(reason) = facts(&self.config.method).fixed_levels(self.config.role) {
            return Err(refused(reason.into()));
        }
        let config = QuantizerConfig { levels, ..self.config.clone() };
        config.validate(&self.site.name).map_err(|error| refused(error.to_string()))?;
        self.reconfigure(&config, true)
    }

    /// Continues with another configuration, in the same role. Parameters that fit by name and size
    /// keep their values, and a single value is repeated for several groups. All other parameters
    /// start as the configuration says. With `rescale`, clipping values are multiplied as in
    /// [`set_levels`](Self::set_levels).
    ///
    /// # Errors
    /// The errors of [`QuantizerConfig::init`]. The quantizer is then unchanged.
    pub fn reconfigure(
        &mut self,
        config: &QuantizerConfig,
        rescale: bool,
    ) -> Result<QuantizerChange, QuantizerError> {
        let config = QuantizerConfig { role: self.config.role, ..config.clone() };
        config.validate(&self.site.name)?;
        let (groups, fallback) = self.site.groups(&config)?;
        let grouping = Grouping { groups, ..self.grouping };
        let factor = if rescale && config.method.is(&self.config.method) {
            config.levels.steps() / self.config.levels.steps()
        } else {
            1.0
        };
        let kept: Vec<_> = self.learned().into_iter().map(|l| (l.name, l.value.clone())).collect();
        let device = kept.first().map_or_else(Device::default, |(_, param)| param.val().device());
        let (from, to) = (self.config.levels.count(), config.levels.count());
        self.changed = true;
        let setup = Setup { config: &config, site: &self.site, grouping, device: &device };
        self.method = facts(&config.method).module(&setup);
        self.signature = Signature::new(&config, groups, &device);
        (self.config, self.grouping, self.fallback) = (config, grouping, fallback);
        let (mut rescaled, mut fresh, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        for (parameter, param) in each_method!(&mut self.method, method => method.parameters_mut())
        {
            let (name, size) = (parameter.name, param.lazy_shape().num_elements());
            let rescales = parameter.kind == ParameterKind::ClippingValue;
            let factor = if rescales { factor } else { 1.0 };
            let old = kept.iter().find(|(other, _)| *other == name).map(|(_, old)| old);
            match old.map(|old| (old, old.lazy_shape().num_elements())) {
                Some((old, count)) if count == size => {
                    *param = old.clone();
                    if factor != 1.0 {
                        rescaled.push(Rescaled { name, id: old.id, factor });
                    }
                }
                Some((old, 1)) => repeated.push((name, vec![host(old)[0] * factor; size])),
                _ => fresh.push(name),
            }
        }
        for (name, values) in repeated {
            self.set_learned(name, &values);
            fresh.push(name);
        }
        for Rescaled { name, factor, .. } in &rescaled {
            let values = self.learned_values(name).unwrap_or_default();
            let values = values.into_iter().map(|value| value * factor);
            self.set_learned(name, &values.collect::<Vec<f32>>());
        }
        Ok(QuantizerChange { layer: self.site.name.clone(), from, to, rescaled, fresh })
    }

    /// Gives a learned parameter a new identity, so that optimizers treat it as a new parameter and
    /// its momentum starts again.
    pub fn reset_optimizer_state(&mut self, name: &str) {
        let parameters = each_method!(&mut self.method, method => method.parameters_mut());
        for (_, param) in parameters.into_iter().filter(|(other, _)| other.name == name) {
            let (value, learned) = (param.val().detach(), param.val().is_require_grad());
            let (_, _, mapper) = param.clone().consume();
            let value = value.set_require_grad(learned);
            *param = Param::from_mapped_value(ParamId::new(), value, mapper);
        }
    }

    /// Returns whether the quantizer quantizes. Otherwise it passes its input through unchanged.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Sets whether the quantizer quantizes.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
        self.changed = true;
    }

    /// Returns whether the quantizer was changed since its layer was made.
    pub fn is_changed(&self) -> bool {
        self.changed
    }
}
