//! What can go wrong.

/// An error of this crate. Messages say what, where and what would work.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// A file that is damaged, or that has something that this crate cannot read at all.
    #[error("the ONNX file {0}")]
    File(String),
    /// A node that this crate cannot turn into a layer.
    #[error("node {node} ({op}) {problem}")]
    Node {
        /// The name of the node, or of its first output where it has none.
        node: String,
        /// The type of the operator, such as `Conv`.
        op: String,
        /// What is wrong with it, and what would work.
        problem: String,
    },
    /// A layer that a format cannot hold.
    #[error("layer {layer} cannot be exported: {problem}")]
    Layer {
        /// The name of the layer.
        layer: String,
        /// What is wrong with it, and what would work.
        problem: String,
    },
    /// A network that is not valid.
    #[error(transparent)]
    Model(#[from] quant_infer::Error),
}

impl OnnxError {
    /// The error of bytes that are not those of an ONNX file.
    pub(crate) fn not_onnx(error: prost::DecodeError) -> Self {
        Self::File(format!("is damaged, or is a file of another kind: {error}"))
    }
}
