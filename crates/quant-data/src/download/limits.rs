//! When a download gives up.

use std::time::Duration;

/// How long a server may take, and how much it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that a file may have: more are not written, whatever the server says of its length.
    pub most_bytes: u64,
    /// Time to find the server and to connect.
    pub connect: Duration,
    /// Time without a byte, before the answer begins or in the middle of it.
    pub stall: Duration,
    /// Time for a file as a whole, in one attempt.
    pub whole: Duration,
}

impl Limits {
    /// The usual times, for a file of at most this many bytes: 20 seconds to connect, 30 without a
    /// byte, and 6 hours.
    pub fn new(most_bytes: u64) -> Self {
        let [connect, stall, whole] = [20, 30, 6 * 60 * 60].map(Duration::from_secs);
        Self { most_bytes, connect, stall, whole }
    }
}
