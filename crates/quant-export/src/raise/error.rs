//! What can go wrong when a model becomes a network.

use quant_nn::NetworkError;

use crate::error::LowerError;

/// A model that cannot become a trainable network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RaiseError {
    /// The structure is none of those that the configurations of networks describe.
    #[error(
        "the structure is none of the trainable networks: {node} is {is}, and the nearest of them, \
         {nearest}, has {} there",
        expected.as_deref().unwrap_or("nothing")
    )]
    Structure {
        /// The first node that does not fit.
        node: String,
        /// What kind of layer the node is, with the sizes that do not fit.
        is: String,
        /// The network that has most of the structure.
        nearest: String,
        /// What this network has in place of the node.
        expected: Option<String>,
    },
    /// The images, or the whole, are not what a network has.
    #[error("no trainable network: {reason}")]
    Image {
        /// What of the model no network has.
        reason: String,
    },
    /// A layer has numbers that no quantizer has.
    #[error("{layer}: {reason}")]
    Layer {
        /// The name of the layer.
        layer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The network cannot be built.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The network cannot be lowered again.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The model is not valid.
    #[error(transparent)]
    Model(#[from] quant_infer::Error),
}
