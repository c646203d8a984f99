//! Limits after which a download gives up.

use std::time::Duration;

/// Limits on the time that a server may take and on the bytes that it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest length of a file in bytes. More are not written, whatever length the server
    /// announces.
    pub most_bytes: u64,
    /// Time for finding the server, and for connecting to it.
    pub connect: Duration,
    /// Longest time without a byte, before the answer begins or during it.
    pub stall: Duration,
    /// Time for the whole file in one attempt.
    pub whole: Duration,
}

impl Limits {
    /// Returns the default times for a file of at most `most_bytes` bytes: 20 seconds to connect,
    /// 30 seconds without a byte, and 6 hours in total.
    pub fn new(most_bytes: u64) -> Self {
        let [connect, stall, whole] = [20, 30, 6 * 60 * 60].map(Duration::from_secs);
        Self { most_bytes, connect, stall, whole }
    }
}
