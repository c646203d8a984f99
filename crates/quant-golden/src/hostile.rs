//! Damages files, for tests of what reads them.

/// Returns a damaged version of `bytes`: up to four times, bytes are changed, removed, repeated or
/// cut off. `below(n)` returns a random number below n.
pub fn damaged(bytes: &[u8], mut below: impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=below(4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = below(bytes.len());
        let length = below(16).min(bytes.len() - at);
        match below(5) {
            0 => bytes[at] = below(256) as u8,
            1 => bytes[at] ^= 1 << below(8),
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}
