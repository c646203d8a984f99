//! The frame of a file: its numbers, its alignment and its checksum.

use alloc::format;

use crate::Error;

/// The first bytes of a file. A program that changes line ends or takes them for text damages them.
pub const MAGIC: [u8; 8] = *b"\x89QNET\r\n\x1a";

/// The newest version of the format that this program writes and reads.
pub const VERSION: u16 = 2;

/// The version of files whose thresholds and values are written without formulas.
pub(super) const VERSION_WITHOUT_FORMULAS: u16 = 1;

/// The version's second number. It rises with additions that an older program may ignore.
pub const MINOR_VERSION: u16 = 0;

/// Sections begin at multiples of this many bytes.
pub const ALIGNMENT: usize = 64;

/// Each weight begins at a multiple of this many bytes: a vector of every machine. Weights of small
/// networks have a few hundred bytes, of which 64 would be too large a part.
pub const WEIGHT_ALIGNMENT: usize = 16;

/// The length of the header in bytes.
pub(super) const HEADER: usize = 64;
/// Where the header has the checksum.
pub(super) const CHECKSUM: usize = 12;
/// Where it has the length of the file.
pub(super) const LENGTH: usize = 16;
/// Where it has the position and the length of the description.
pub(super) const DESCRIPTION: usize = 24;
/// Where it has the position and the length of the weights.
pub(super) const WEIGHTS: usize = 40;

/// The CRC-32 of all bytes but those of the checksum itself, as zlib and PNG compute it.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CHECKSUM]);
    hasher.update(&bytes[LENGTH..]);
    hasher.finalize()
}

/// Returns the error of a file that is not as it was written.
pub(super) fn damaged(problem: &str) -> Error {
    Error::File(format!("is damaged: {problem}"))
}
