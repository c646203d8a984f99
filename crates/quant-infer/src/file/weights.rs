//! The weights of a file, which stay where they are, and what else nodes take of its bytes.

use super::{layout::WEIGHT_ALIGNMENT, pack::Packing};

/// The bytes of a file that belong to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeBytes<'a> {
    /// Bytes of its description, which has all its numbers but the elements of a weight.
    pub description: usize,
    /// The elements of its weight, for a convolution.
    pub weight: Option<Elements<'a>>,
}

impl NodeBytes<'_> {
    /// All bytes that the node takes, without those that align its weight.
    pub fn total(&self) -> usize {
        self.description + self.weight.map_or(0, |weight| weight.bytes.len())
    }
}

/// The elements of a weight, `[out_channels, in_channels/groups, height, width]` row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements<'a> {
    /// The number of levels of the codes, or None for floats of 32 bits.
    pub levels: Option<usize>,
    /// The number of elements.
    pub count: usize,
    /// The floats, least significant byte first, or the codes as [`Elements::packing`] says. They
    /// begin at a multiple of 16 bytes of the file.
    pub bytes: &'a [u8],
}

impl Elements<'_> {
    /// The bytes of this many elements. None if they cannot be counted.
    pub(super) fn size(levels: Option<usize>, count: usize) -> Option<usize> {
        match levels {
            Some(levels) => Packing::new(levels)?.size(count),
            None => count.checked_mul(4),
        }
    }

    /// How the codes are packed, or None for floats.
    pub fn packing(&self) -> Option<Packing> {
        Packing::new(self.levels?)
    }
}

/// The weights of the file, which follow each other at multiples of 16 bytes.
#[derive(Debug)]
pub(super) struct Blobs<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Blobs<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next weight, of so many bytes. None if they are not there.
    pub(super) fn next(&mut self, size: usize) -> Option<&'a [u8]> {
        let begin = self.at.checked_next_multiple_of(WEIGHT_ALIGNMENT)?;
        let end = begin.checked_add(size)?;
        let bytes = self.bytes.get(begin..end)?;
        self.at = end;
        Some(bytes)
    }
}
