//! What is known of a model before its structure is.

use quant_infer::model::Model;
use quant_nn::layers::norm::NormKind;

use super::{
    RaiseError,
    of_model::ModelNodes,
    operation::{Kind, Operation},
};

/// What is known of a model before its structure is.
pub(super) struct Facts {
    pub(super) classes: usize,
    pub(super) size: usize,
    /// The channels of the first convolution, and the most that a convolution has.
    pub(super) first: usize,
    pub(super) most: usize,
    pub(super) convs: usize,
    pub(super) norms: Vec<NormKind>,
    /// The numbers of parallel branches that sums may join.
    pub(super) branches: Vec<usize>,
    /// Whether nothing is normalised.
    pub(super) fixup: bool,
}

/// Returns what is known of a model.
///
/// # Errors
/// [`RaiseError::Image`] for a model of other images, or without convolutions.
pub(super) fn facts(model: &Model, theirs: &[Operation<ModelNodes>]) -> Result<Facts, RaiseError> {
    let [height, width] = model.input.size;
    let channels = model.input.scale.len();
    if height != width || channels != 3 {
        let reason = format!(
            "its images have {channels} channels and {height}x{width} pixels; trainable networks \
             take square images of 3 channels"
        );
        return Err(RaiseError::Image { reason });
    }
    let convs: Vec<[usize; 2]> = (theirs.iter())
        .filter_map(|operation| match &operation.kind {
            Kind::Conv(geometry) => Some(geometry.channels),
            _ => None,
        })
        .collect();
    let (Some(first), Some(last)) = (convs.first(), convs.last()) else {
        let reason = "it has no convolution".to_owned();
        return Err(RaiseError::Image { reason });
    };
    let mut norms = vec![NormKind::Batch, NormKind::Instance];
    for operation in theirs {
        if let Kind::GroupNorm(groups) = operation.kind
            && !norms.contains(&NormKind::Group(groups))
            && norms.len() < 8
        {
            norms.push(NormKind::Group(groups));
        }
    }
    let mut branches = vec![1];
    for operation in theirs {
        let count = operation.inputs.len();
        if operation.kind == Kind::Add
            && count > 2
            && !branches.contains(&count)
            && branches.len() < 4
        {
            branches.push(count);
        }
    }
    let most = convs[..convs.len() - 1].iter().map(|[_, outputs]| *outputs).max();
    Ok(Facts {
        classes: last[1],
        size: height,
        first: first[1],
        most: most.unwrap_or(first[1]),
        convs: convs.len(),
        norms,
        branches,
        fixup: !theirs.iter().any(|operation| operation.kind == Kind::Norm),
    })
}
