//! Numbers, texts and lists as bytes.

use alloc::vec::Vec;

/// Writes the parts of a file.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// The description of the network.
    pub(super) description: Vec<u8>,
    /// The weights, each at a multiple of 16 bytes.
    pub(super) weights: Vec<u8>,
    /// Whether thresholds and values may be written as formulas, which version 1 does not have.
    pub(super) allows_formulas: bool,
}

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.description.push(byte);
    }

    /// Seven bits in each byte, least significant first; the highest bit says that more follow.
    pub(super) fn number(&mut self, number: usize) {
        let mut rest = number;
        while rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.description.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes(text.as_bytes());
    }

    pub(super) fn float(&mut self, number: f32) {
        self.bytes(&number.to_le_bytes());
    }

    /// The length and the floats.
    pub(super) fn floats(&mut self, numbers: &[f32]) {
        self.number(numbers.len());
        numbers.iter().for_each(|&number| self.float(number));
    }

    /// Fills the weights up to the next multiple of 16 bytes.
    pub(super) fn align(&mut self) {
        self.weights
            .resize(self.weights.len().next_multiple_of(super::layout::WEIGHT_ALIGNMENT), 0);
    }
}
