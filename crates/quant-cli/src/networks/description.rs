//! The description of a network on the command line, by a model name and QTool's keywords.

use std::error::Error;

use burn::tensor::Device;
use quant_core::qtool::QtoolOptions;
use quant_nn::{
    Network,
    keywords::{Explained, Registry},
};

/// The name of the default model, and its default keywords.
const DEFAULT: (&str, &str) = ("resnet20", "cifar10,origin,cbsa,fix,lsq");

/// A network that keywords describe.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Description {
    /// The model, such as resnet20, pytorch-resnet18 or mobilenetv1 [default: resnet20]
    #[arg(long)]
    pub model: Option<String>,
    /// QTool's keywords, such as cifar10,origin,cbsa,fix,lsq (the default of resnet20)
    pub keywords: Option<String>,
    /// The keywords, as QTool's option instead of as an argument
    #[arg(long)]
    pub keyword: Option<String>,
    /// QTool's options, in one pair of quotes, such as "--width_alpha 0.5 --wt_bit 2 --wt_enable"
    #[arg(long, allow_hyphen_values = true)]
    pub options: Option<String>,
}

impl Description {
    /// Returns whether neither a model nor `--keyword` nor options are given.
    pub(super) fn is_empty(&self) -> bool {
        self.model.is_none() && self.keyword.is_none() && self.options.is_none()
    }

    /// Returns the name of the model.
    pub(super) fn model(&self) -> &str {
        self.model.as_deref().unwrap_or(DEFAULT.0)
    }

    /// Returns the configuration of the network, and what each keyword does.
    pub(super) fn read(&self) -> Result<Explained, Box<dyn Error>> {
        let keywords = match (&self.keywords, &self.keyword) {
            (Some(_), Some(_)) => {
                return Err("give keywords once: either as an argument or with --keyword".into());
            }
            (Some(words), None) | (None, Some(words)) => words,
            (None, None) if self.model() == DEFAULT.0 => DEFAULT.1,
            (None, None) => "",
        };
        let qtool = QtoolOptions::parse(keywords, self.options.as_deref().unwrap_or_default())?;
        Ok(Registry::default().read(self.model(), &qtool)?)
    }

    /// Builds the network.
    pub(super) fn network(&self) -> Result<Network, Box<dyn Error>> {
        Ok(self.read()?.config.init(&Device::default())?)
    }
}
