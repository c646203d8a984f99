//! The part of a recipe that describes the network.

use quant_core::qtool::QtoolOptions;
use quant_nn::{
    NetworkConfig, Quantization, ResNetConfig,
    resnet::{Depth, DownsampleKind, Stem},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{error::TrainError, fields::choices::Choice, quantization::QuantizationRecipe};

/// The network, but for its classes, which the data tell, and its quantizers, which the phases do.
/// Either `depth` and `stem`, with what goes with them, or `name`, with keywords and options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// How many blocks of which kind, of a residual network in torchvision's order. `resnet18` is
    /// the usual start; `resnet20` is for images of 32 pixels.
    #[schemars(with = "Option<Choice<Depth>>")]
    pub depth: Option<Depth>,
    /// What stands before the blocks: `imagenet` for images of 64 pixels and more, `cifar` for
    /// smaller ones.
    #[schemars(with = "Option<Choice<Stem>>")]
    pub stem: Option<Stem>,
    /// Factor on the numbers of channels: the first stage has int(64·`width_alpha`). Numbers below
    /// 1 are for quick trials and small devices.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 16))]
    pub width_alpha: f64,
    /// How the skip branch meets a smaller block output.
    #[serde(default)]
    #[schemars(with = "Choice<DownsampleKind>")]
    pub downsample: DownsampleKind,
    /// Whether blocks start as identities: the weight of their last batch norm starts at 0. It
    /// helps deep networks in long runs.
    #[serde(default)]
    pub zero_init_residual: bool,
    /// Instead of `depth`, `stem` and what goes with them: a model that keywords describe, such as
    /// `resnet20` or `mobilenetv1`. Use it for structures that the other fields do not have. `quant
    /// explain` says what keywords do.
    pub name: Option<String>,
    /// The keywords of `name`, such as `cifar10,origin,cbsa,fix`. By default there are none.
    pub keywords: Option<String>,
    /// The options of `name`, such as `--base 3 --stem_kernel 1`. By default there are none.
    pub options: Option<String>,
    /// Instead of all other fields: the name of a network that a program of your own brings
    /// (`Run::execute_own`). `quant` cannot train it.
    pub own: Option<String>,
}

fn one() -> f64 {
    1.0
}

impl Default for ModelRecipe {
    fn default() -> Self {
        Self {
            depth: None,
            stem: None,
            width_alpha: one(),
            downsample: DownsampleKind::default(),
            zero_init_residual: false,
            name: None,
            keywords: None,
            options: None,
            own: None,
        }
    }
}

impl ModelRecipe {
    /// Checks that a program's own network is described by its name alone.
    pub(super) fn check_own(&self) -> Result<(), TrainError> {
        let alone = Self { own: self.own.clone(), ..Self::default() };
        match *self == alone {
            true => Ok(()),
            false => Err(TrainError::Field {
                field: "model".into(),
                value: "`own` and other fields".into(),
                accepted: "`own` alone: the program makes the network",
            }),
        }
    }

    /// The network, with quantizers, for images of `size` pixels a side.
    ///
    /// # Errors [`TrainError::Field`] where fields are missing or exclude each other, and the
    /// quantizers' errors.
    pub fn network(
        &self,
        quantization: Option<&QuantizationRecipe>,
        classes: usize,
        size: usize,
    ) -> Result<NetworkConfig, TrainError> {
        let quantization = quantization.map(QuantizationRecipe::typed).transpose()?;
        let quantization = quantization.unwrap_or_default();
        let field = |field: &str, accepted| TrainError::Field {
            field: format!("model.{field}"),
            value: "none".into(),
            accepted,
        };
        let typed = self.depth.is_some() || self.stem.is_some() || self.zero_init_residual;
        let typed = typed || self.width_alpha != 1.0 || self.downsample != Default::default();
        let described = self.keywords.is_some() || self.options.is_some();
        if typed && self.name.is_some() || described && self.name.is_none() {
            return Err(TrainError::Field {
                field: "model".into(),
                value: "fields of both kinds".into(),
                accepted: "either depth, stem, width_alpha, downsample and zero_init_residual, or name, \
                           keywords and options",
            });
        }
        if let Some(own) = &self.own {
            return Err(TrainError::Field {
                field: "model.own".into(),
                value: own.clone(),
                accepted: "the program whose network it is, in place of `quant`",
            });
        }
        if let Some(name) = &self.name {
            let words = self.keywords.as_deref().unwrap_or_default();
            let options = self.options.as_deref().unwrap_or_default();
            let qtool =
                QtoolOptions::parse(words, options).map_err(quant_nn::NetworkError::from)?;
            let mut config = quant_nn::keywords::network(name, &qtool)?;
            config.set_data(classes, size);
            let said = config.quantization().clone();
            if said.activation.is_some() || said.weight.is_some() || said.output.is_some() {
                return Err(TrainError::Field {
                    field: "model.options".into(),
                    value: options.to_owned(),
                    accepted: "no quantizers: they belong to a phase, in [phase.quantization]",
                });
            }
            *config.quantization_mut() = Quantization {
                first_last: quantization.first_last || said.first_last,
                real_downsample: quantization.real_downsample || said.real_downsample,
                padding_after_quant: quantization.padding_after_quant || said.padding_after_quant,
                ..quantization
            };
            return Ok(config);
        }
        let accepted = "a depth and a stem, or a name with keywords";
        let depth = self.depth.ok_or_else(|| field("depth", accepted))?;
        let stem = self.stem.ok_or_else(|| field("stem", accepted))?;
        Ok(NetworkConfig::ResNet(ResNetConfig {
            width_alpha: self.width_alpha,
            downsample: self.downsample,
            zero_init_residual: self.zero_init_residual,
            quantization,
            ..ResNetConfig::new(depth, stem, classes, size)
        }))
    }
}
