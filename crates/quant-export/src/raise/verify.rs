//! Compares a network that was made from a model with the model.

use std::fmt;

use quant_infer::{
    Image, Network as Engine,
    model::{Input, Model, Op},
};
use quant_nn::Network;

use super::RaiseError;
use crate::lower::{Options, lower};

/// The images of noise on which both are run.
const IMAGES: usize = 4;

/// How the scores and codes of a network, lowered again, and of a model differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verified {
    /// The images of noise on which both were run.
    pub images: usize,
    /// The codes of the inputs of layers that both quantize.
    pub codes: usize,
    /// The number of codes that differ.
    pub differing: usize,
    /// The images for which the best class is the same.
    pub same_best: usize,
    /// The largest difference of a score.
    pub apart: f32,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, codes, differing, same_best, apart } = self;
        write!(
            f,
            "on {images} images of noise, {differing} of {codes} codes differ from the file's, \
             {same_best} best classes are the same, and scores are at most {apart:.1e} apart"
        )
    }
}

/// Runs both. `layers` are the nodes of the model's convolutions, with the names of the network's
/// layers.
pub(super) fn verify(
    model: &Model,
    network: &Network,
    input: &Input,
    layers: &[(usize, String)],
) -> Result<Verified, RaiseError> {
    let lowered = lower(network, Options::new(&*model.name, input.clone()))?.model;
    let quantizes = |op: &Op| matches!(op, Op::Conv(conv) if conv.quantizer.is_some());
    let pairs: Vec<(usize, usize)> = (layers.iter())
        .filter_map(|(their, name)| {
            let same = |node: &quant_infer::model::Node| node.name == *name && quantizes(&node.op);
            let our = lowered.nodes.iter().position(same)?;
            quantizes(&model.nodes[*their].op).then_some((our, *their))
        })
        .collect();
    let (ours, theirs) = (Engine::new(&lowered)?, Engine::new(model)?);
    let (mut our_session, mut their_session) = (ours.session(), theirs.session());
    for (our, their) in &pairs {
        our_session.watch(*our);
        their_session.watch(*their);
    }
    let [height, width] = model.input.size;
    let mut verified = Verified { images: IMAGES, ..Verified::default() };
    // Any numbers do, as long as they are always the same.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for image in 0..IMAGES {
        let blocks = [1, 4, 8, 16][image % 4];
        let bytes = noise(&mut state, [model.input.scale.len(), height, width], blocks);
        let image = Image::planar(&bytes, [height, width]);
        let our_scores = our_session.run(&image)?.to_vec();
        let their_scores = their_session.run(&image)?.to_vec();
        for (our, their) in &pairs {
            let (our, their) = (our_session.codes(*our), their_session.codes(*their));
            let (our, their) = (our.unwrap_or_default(), their.unwrap_or_default());
            verified.codes += our.len().max(their.len());
            let same = our.iter().zip(their).filter(|(our, their)| our == their).count();
            verified.differing += our.len().max(their.len()) - same;
        }
        let best = |scores: &[f32]| {
            (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)))
        };
        verified.same_best += usize::from(best(&our_scores) == best(&their_scores));
        for (our, their) in our_scores.iter().zip(&their_scores) {
            verified.apart = verified.apart.max((our - their).abs());
        }
    }
    Ok(verified)
}

/// Returns an image of squares of random bytes.
fn noise(state: &mut u64, [channels, height, width]: [usize; 3], side: usize) -> Vec<u8> {
    let mut bytes = vec![0; channels * height * width];
    for channel in 0..channels {
        for row in (0..height).step_by(side) {
            for column in (0..width).step_by(side) {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                let byte = (*state >> 40) as u8;
                for y in row..(row + side).min(height) {
                    for x in column..(column + side).min(width) {
                        bytes[(channel * height + y) * width + x] = byte;
                    }
                }
            }
        }
    }
    bytes
}
