//! Models become networks that can be trained: the inverse of [`lower`](crate::lower()).

mod candidates;
mod error;
mod facts;
mod inputs;
mod layers;
mod of_model;
mod of_network;
mod operation;
mod options;
mod pairs;
mod products;
mod quantizers;
mod search;
mod verify;
mod weights;

use std::collections::BTreeMap;

use burn::tensor::Device;
use quant_infer::model::{Input, Model};
use quant_nn::{Network, StateDict, network::Submodule, state::Entry};

pub use self::{
    error::RaiseError,
    options::{RaiseOptions, Statistics},
    search::describe,
    verify::Verified,
};
use self::{
    layers::{RaisedLayer, Raising},
    of_model::of_model,
    quantizers::{quantized, set_quantizers, set_static_norms},
};

/// A network that was made from a model.
#[derive(Debug, Clone)]
pub struct Raised {
    /// The network, which can be evaluated and trained.
    pub network: Network,
    /// How the pixels of its images become numbers.
    pub input: Input,
    /// What differs from the model, and why.
    pub notes: Vec<String>,
    /// How the scores and codes of the network and of the model differ on images of noise.
    pub verified: Verified,
}

/// Makes a network of a model whose structure is that of a configuration of `quant-nn`: ResNets,
/// MobileNets, VGG-small and NiN, with any order of layers that these configurations have.
///
/// Quantizers get the method whose thresholds and values those of the model are: LSQ where that
/// fits, which it does for LSQ, DoReFa, PACT and the weights of XNOR-Net as well; LSQ's other form,
/// LSQ+, signs, APoT, LQ-Nets, FATNN, N2UQ and TTQ otherwise. A weight becomes the values of its
/// codes.
///
/// A model has no statistics of batch norms. Norms for which [`RaiseOptions::statistics`] has none
/// get a mean of 0 and a variance of 1, and the network's norm is then
/// [`NormKind::Static`](quant_nn::layers::norm::NormKind::Static), which computes in training what
/// it computes in evaluation.
///
/// # Errors
/// [`RaiseError`] with the first node that no such network has, or the layer whose numbers no
/// method has.
pub fn raise(model: &Model, options: &RaiseOptions) -> Result<Raised, RaiseError> {
    model.check()?;
    let theirs = of_model(model, options.leave_out_quantizers)?;
    let mut notes: Vec<String> = (theirs.left_out.iter())
        .map(|name| format!("{name}: its quantizer was left out, because a sum or a pool reads it"))
        .collect();
    let found = search::search(model, &theirs.operations)?;
    let device = Device::default();
    let raw = model.input.scale.iter().all(|scale| *scale == 1.0)
        && model.input.shift.iter().all(|shift| *shift == 0.0);
    let input = match &options.input {
        Some(input) if raw && input.scale.len() == model.input.scale.len() => {
            Input { size: model.input.size, ..input.clone() }
        }
        _ => model.input.clone(),
    };
    let skeleton = found.config.init(&device)?;
    let raising =
        Raising { model, input: &input, options, device: &device, theirs: &theirs.operations };
    let mut layers: Vec<RaisedLayer> = Vec::new();
    let mut entries: Vec<(String, Entry)> = Vec::new();
    let mut all_statistics = true;
    for (our, their) in &found.pairs {
        let Some(index) = found.operations[*our].source else { continue };
        let name = skeleton.submodule_name(index);
        let operation = &theirs.operations[*their];
        match &skeleton.pieces[index] {
            Submodule::Conv(_) | Submodule::Linear(_) => {
                layers.push(raising.layer(name, operation, &mut entries)?);
            }
            Submodule::Norm(_) => {
                all_statistics &= raising.norm(name, operation, &mut entries);
            }
            Submodule::Activation(_) | Submodule::Scalar(_) => {
                raising.numbers(name, operation, &mut entries);
            }
        }
    }
    let mut config = found.config;
    if !all_statistics {
        set_static_norms(&mut config);
    }
    let mut network = quantized(config, &layers, &device)?;
    set_quantizers(&mut network, &mut layers, &mut notes)?;
    let mut state: BTreeMap<String, Entry> = StateDict::of(&network)
        .entries()
        .map(|(name, entry)| (name.to_owned(), entry.clone()))
        .collect();
    for (name, entry) in entries {
        if let Some(own) = state.get_mut(&name)
            && own.values.len() == entry.values.len()
        {
            own.values = entry.values;
        } else {
            let reason = format!("its network has no {name} of {} numbers", entry.values.len());
            return Err(RaiseError::Layer { layer: name, reason });
        }
    }
    let (network, _) = StateDict::from_entries(state).load_into(network);
    let pairs: Vec<(usize, String)> = layers.iter().map(|l| (l.node, l.name.clone())).collect();
    let verified = verify::verify(model, &network, &input, &pairs)?;
    Ok(Raised { network, input, notes, verified })
}
