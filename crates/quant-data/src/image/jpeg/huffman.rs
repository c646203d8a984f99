//! Huffman codes of a JPEG file, and the reader of their bits.

use super::source::Source;

/// Number of bits that the lookup table resolves in one step.
const QUICK: u32 = 9;

/// A Huffman code as the file describes it: the number of codes of each length, and their symbols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) counts: [u8; 16],
    pub(super) symbols: Vec<u8>,
}

/// A Huffman code in the form that decoding uses.
#[derive(Debug)]
pub(super) struct Code {
    /// Length and symbol for each value of the next [`QUICK`] bits; the length is 0 if the code is
    /// longer.
    quick: Vec<(u8, u8)>,
    /// For each length: the first code, the last code plus one, and the index of the first code's
    /// symbol.
    lengths: [(u32, u32, usize); 17],
    symbols: Vec<u8>,
}

impl Code {
    /// Builds the canonical code (annex C of the standard). Symbols may be at most `highest`.
    pub(super) fn new(definition: &Definition, highest: u8) -> Result<Self, String> {
        let mut quick = vec![(0, 0); 1 << QUICK];
        let mut lengths = [(0, 0, 0); 17];
        let (mut code, mut index) = (0_u32, 0);
        for (length, count) in (1..=16_u32).zip(definition.counts) {
            let symbols = definition.symbols.get(index..index + usize::from(count));
            let symbols = symbols.ok_or("a Huffman table lacks symbols")?;
            let first = code;
            for symbol in symbols {
                if let Some(spare) = QUICK.checked_sub(length)
                    && let Some(entries) =
                        quick.get_mut((code << spare) as usize..((code + 1) << spare) as usize)
                {
                    entries.fill((length as u8, *symbol));
                }
                code += 1;
            }
            if code > 1 << length {
                return Err("a Huffman table has more codes than there can be".into());
            }
            lengths[length as usize] = (first, code, index);
            index += usize::from(count);
            code <<= 1;
        }
        if definition.symbols[..index].iter().any(|symbol| *symbol > highest) {
            return Err("a Huffman table of DC values has a symbol above 15".into());
        }
        Ok(Self { quick, lengths, symbols: definition.symbols.clone() })
    }
}

/// The bits of a scan. After its last byte, zeros follow without end.
#[derive(Debug)]
pub(super) struct Bits<'s, 'a> {
    pub(super) source: &'s mut Source<'a>,
    waiting: u64,
    count: u32,
    /// Number of waiting bits that are not in the file.
    made_up: u32,
    /// Whether bits that are not in the file have been used.
    pub(super) exhausted: bool,
}

impl<'s, 'a> Bits<'s, 'a> {
    pub(super) fn new(source: &'s mut Source<'a>) -> Self {
        Self { source, waiting: 0, count: 0, made_up: 0, exhausted: false }
    }

    /// Discards the waiting bits: the next ones come from after a restart marker.
    pub(super) fn discard(&mut self) {
        (self.waiting, self.count, self.made_up) = (0, 0, 0);
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = self.source.scan_byte();
            self.waiting = self.waiting << 8 | u64::from(byte.unwrap_or(0));
            self.count += 8;
            if byte.is_none() {
                self.made_up += 8;
            }
        }
    }

    fn peek(&mut self, bits: u32) -> u32 {
        if self.count < bits {
            self.fill();
        }
        (self.waiting >> (self.count - bits)) as u32 & ((1 << bits) - 1)
    }

    fn drop(&mut self, bits: u32) {
        self.count -= bits;
        if self.count < self.made_up {
            self.made_up = self.count;
            self.exhausted = true;
        }
    }

    /// Returns the next bits, at most 16, as an unsigned number.
    pub(super) fn take(&mut self, bits: u32) -> i32 {
        let value = self.peek(bits);
        self.drop(bits);
        value as i32
    }

    /// Returns the next bits as a signed number (figure F.12 of the standard).
    pub(super) fn signed(&mut self, bits: u32) -> i32 {
        if bits == 0 {
            return 0;
        }
        let value = self.take(bits);
        if value < 1 << (bits - 1) { value - (1 << bits) + 1 } else { value }
    }

    /// Returns the next symbol. Like libjpeg, it treats bits that are not a code as symbol 0, and
    /// skips 17 bits.
    pub(super) fn symbol(&mut self, code: &Code) -> u8 {
        let next = self.peek(17);
        let (length, symbol) = code.quick[(next >> (17 - QUICK)) as usize];
        if length > 0 {
            self.drop(u32::from(length));
            return symbol;
        }
        for length in QUICK + 1..=16 {
            let (first, behind, index) = code.lengths[length as usize];
            let bits = next >> (17 - length);
            if bits < behind && bits >= first {
                self.drop(length);
                return code.symbols[index + (bits - first) as usize];
            }
        }
        self.drop(17);
        0
    }
}
