//! Where everything is stored for images of one size.

use alloc::{format, vec, vec::Vec};

use super::{
    conv::{Constants, OperandSize, Places},
    network::Network,
    plan::Form,
    step::Producer,
};
use crate::{Error, model::MAX_ELEMENTS};

/// The places and sizes for images of one size.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Height and width of the images.
    pub(super) size: [usize; 2],
    /// The sizes of the nodes' values.
    pub(super) shapes: Vec<[usize; 3]>,
    /// The size of each storage. Those of integers count words.
    pub(super) sizes: Vec<OperandSize>,
    /// The bits of the index of a row that say where the row lies in each storage. All of them
    /// count, unless only the last rows are kept.
    pub(super) row_masks: Vec<usize>,
    /// The buffer of each storage, among those of its kind.
    pub(super) buffers: Vec<usize>,
    /// The lengths of the buffers for floats, and of those for words of integers.
    pub(super) lengths: [Vec<usize>; 2],
    /// What each step's convolution reads.
    pub(super) places: Vec<Places>,
    /// The sums of each step's convolution that do not depend on the image.
    pub(super) constants: Vec<Constants>,
}

/// The number of sums that a step computes before it goes on with them, about.
const STRIP: usize = 16 * 1024;

/// Returns the number of positions whose sums a step computes before it goes on with them: so few
/// that the sums stay in the cache, but enough that weights are read from the cache for many
/// positions.
pub(super) fn strip(sums: usize, positions: usize) -> usize {
    let most = (STRIP / sums).clamp(48, 288);
    // All strips have about the same length, since a short one reads the weights again for little.
    let strips = (positions * 3).div_ceil(most * 4);
    positions.div_ceil(strips.max(1)).next_multiple_of(6).min(positions)
}

impl Layout {
    pub(super) fn new(network: &Network, size: [usize; 2]) -> Result<Self, Error> {
        let shapes = network.model.shapes(size)?;
        let mut row_masks = vec![usize::MAX; network.storages.len()];
        let mut sizes: Vec<OperandSize> = (network.storages.iter())
            .map(|storage| {
                let [channels, height, width] = shapes[storage.shape];
                let channels = match storage.form {
                    Form::Floats(_) => channels,
                    Form::Integers(_, packing) => packing.words_of(channels),
                };
                let [rows, columns] = storage.padding;
                let (height, width) = (height + 2 * rows, width + 2 * columns);
                OperandSize { height, width, channels, padding: storage.padding }
            })
            .collect();
        for (storage, rows) in rolling(network, &shapes) {
            row_masks[storage] = rows - 1;
            sizes[storage].height = rows;
        }
        let (buffers, lengths) = assign_buffers(network, &sizes);
        let again: Option<usize> = (network.steps.iter())
            .map(|step| match &step.producer {
                Producer::Integer { conv, operand } => {
                    let [_, height, width] = shapes[step.shape];
                    let size = conv.unrolled_size(&sizes[*operand], [height, width]);
                    let terms = terms(&network.storages[*operand].form);
                    size.map_or(Some(0), |size| size.elements().checked_mul(terms))
                }
                _ => Some(0),
            })
            .try_fold(0, |most, words| Some(words?.max(most)));
        let total =
            lengths.iter().flatten().sum::<usize>().saturating_add(again.unwrap_or(usize::MAX));
        if total > 2 * MAX_ELEMENTS {
            return Err(Error::Image(format!(
                "has {} x {} pixels, for which the network needs {total} numbers at the same \
                 time; at most {} are allowed",
                size[0],
                size[1],
                2 * MAX_ELEMENTS
            )));
        }
        let (places, constants) = (network.steps.iter())
            .map(|step| {
                let [_, height, width] = shapes[step.shape];
                match &step.producer {
                    Producer::Integer { conv, operand } => {
                        let (size, output) = (&sizes[*operand], [height, width]);
                        let form = &network.storages[*operand].form;
                        let Form::Integers(_, packing) = form else { return Default::default() };
                        let places = conv.places(size, *packing, output);
                        let constant = |term| network.constant_operand(*operand, term, size);
                        let constants = Constants::new(conv, (size, output), &places, constant);
                        (places, constants)
                    }
                    Producer::Float { conv, operand } => {
                        (conv.places(&sizes[*operand], [height, width]), Constants::default())
                    }
                    _ => Default::default(),
                }
            })
            .unzip();
        Ok(Self { size, shapes, sizes, row_masks, buffers, lengths, places, constants })
    }
}

impl Layout {
    /// Returns the size of the operand that a step's convolution reads, which may have been stored
    /// again.
    pub(super) fn operand(&self, step: usize, storage: usize) -> OperandSize {
        self.places[step].unrolled.unwrap_or(self.sizes[storage])
    }
}

/// Returns the storages of which only the last rows are kept, because a step that follows row by
/// row is the only one that reads them, and the number of these rows, a power of two.
fn rolling<'a>(
    network: &'a Network,
    shapes: &'a [[usize; 3]],
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let pairs = network.steps.windows(2).enumerate();
    pairs.filter_map(move |(index, pair)| {
        let [step, follower] = pair else { return None };
        let Producer::Layer { values, .. } = &follower.producer else { return None };
        let storage = *values.first()?;
        let is_read_here = network.storages[storage].life == [index, index + 1];
        if !(follower.follows_rows && step.takes_one_pass && is_read_here) {
            return None;
        }
        let [channels, height, width] = shapes[step.shape];
        // The rows of a window, those of a strip, and one that is not complete.
        let in_strip = strip(step.producer.sums(channels), height * width).div_ceil(width) + 1;
        let rows = (follower.window() + in_strip + 1).next_power_of_two();
        (rows < height).then_some((storage, rows))
    })
}

/// Gives each storage a buffer. A buffer is used again after the last step that reads it.
fn assign_buffers(network: &Network, sizes: &[OperandSize]) -> (Vec<usize>, [Vec<usize>; 2]) {
    let mut buffers = vec![0; sizes.len()];
    let mut lengths = [Vec::new(), Vec::new()];
    let mut free: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
    let mut born = vec![Vec::new(); network.steps.len() + 1];
    let mut dying = born.clone();
    for (index, storage) in network.storages.iter().enumerate() {
        // A step that follows another row by row writes while that one still runs.
        let first = storage.life[0];
        let is_early = network.steps[first].follows_rows;
        born[if is_early { first - 1 } else { first }].push(index);
        dying[storage.life[1]].push(index);
    }
    for (born, dying) in born.into_iter().zip(dying) {
        for index in born {
            let form = &network.storages[index].form;
            let (kind, length) = (kind(form), sizes[index].elements() * terms(form));
            // The smallest free buffer that is large enough, else the largest.
            let best = (0..free[kind].len()).min_by_key(|at| {
                let has: usize = lengths[kind][free[kind][*at]];
                (has < length, has.abs_diff(length))
            });
            let buffer = match best {
                Some(at) => free[kind].swap_remove(at),
                None => {
                    lengths[kind].push(0);
                    lengths[kind].len() - 1
                }
            };
            lengths[kind][buffer] = lengths[kind][buffer].max(length);
            buffers[index] = buffer;
        }
        for index in dying {
            free[kind(&network.storages[index].form)].push(buffers[index]);
        }
    }
    (buffers, lengths)
}

/// Returns 0 for floats and 1 for integers.
fn kind(form: &Form) -> usize {
    usize::from(matches!(form, Form::Integers(..)))
}

/// Returns how many times the elements are stored.
pub(super) fn terms(form: &Form) -> usize {
    match form {
        Form::Floats(_) => 1,
        Form::Integers(quantizer, _) => quantizer.terms.as_ref().map_or(1, |terms| terms.0.len()),
    }
}
