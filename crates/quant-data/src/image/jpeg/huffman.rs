//! Huffman codes of a JPEG file, and the bits that they are in.

use super::source::Source;

/// Bits that a table resolves at once.
const QUICK: u32 = 9;

/// How many codes of each length there are, and their symbols: what a file says of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) counts: [u8; 16],
    pub(super) symbols: Vec<u8>,
}

/// A code that is ready to decode with.
#[derive(Debug)]
pub(super) struct Code {
    /// Length and symbol by the next bits; the length is 0 where the code is longer than they are.
    quick: Vec<(u8, u8)>,
    /// The first code of each length, one more than the last, and the index of the first's symbol.
    lengths: [(u32, u32, usize); 17],
    symbols: Vec<u8>,
}

impl Code {
    /// The canonical code (annex C of the standard) whose symbols are at most `highest`.
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

/// The bits of a scan. Behind its last byte there are zeros without end.
#[derive(Debug)]
pub(super) struct Bits<'s, 'a> {
    pub(super) source: &'s mut Source<'a>,
    waiting: u64,
    count: u32,
    /// How many of those waiting are not in the file.
    made_up: u32,
    /// Whether bits were taken that are not in the file.
    pub(super) exhausted: bool,
}

impl<'s, 'a> Bits<'s, 'a> {
    pub(super) fn new(source: &'s mut Source<'a>) -> Self {
        Self { source, waiting: 0, count: 0, made_up: 0, exhausted: false }
    }

    /// Forgets the bits that wait: the next come from behind a restart marker.
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

    /// The next bits, at most 16, as a number.
    pub(super) fn take(&mut self, bits: u32) -> i32 {
        let value = self.peek(bits);
        self.drop(bits);
        value as i32
    }

    /// The next bits as a signed number (figure F.12 of the standard).
    pub(super) fn signed(&mut self, bits: u32) -> i32 {
        if bits == 0 {
            return 0;
        }
        let value = self.take(bits);
        if value < 1 << (bits - 1) { value - (1 << bits) + 1 } else { value }
    }

    /// The next symbol. Bits that are no code are the symbol 0, as libjpeg takes them, which then
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
