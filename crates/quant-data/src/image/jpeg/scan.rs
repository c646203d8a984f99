//! Scans: the entropy-coded coefficients of some components.
//!
//! Sequential scans follow section F.2 of the standard, progressive ones section G.2. Damaged data
//! do not end a scan. As in libjpeg, bits that are not a code count as zero; an unexpected marker
//! ends the data until the next restart; and the decoder recovers from restart markers that are
//! missing or out of order.

use super::{
    frame::{Component, Frame},
    huffman::{Bits, Code},
    source::{Source, marker},
};

/// The content of a start-of-scan segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScanHeader {
    /// For each component of the scan: its index, and the numbers of its DC and AC tables.
    pub(super) components: Vec<(usize, u8, u8)>,
    /// The first and the last coefficient of the scan, in zigzag order.
    pub(super) first: u8,
    pub(super) last: u8,
    /// Number of low bits that the earlier scans left unknown, and number that this scan leaves
    /// unknown. `before` is 0 if there was no earlier scan.
    pub(super) before: u8,
    pub(super) open: u8,
}

impl ScanHeader {
    /// Parses the content of the segment. `identifiers` are those of the frame's components.
    pub(super) fn parse(segment: &[u8], identifiers: &[u8]) -> Result<Self, String> {
        let count = usize::from(*segment.first().unwrap_or(&0));
        if !(1..=4).contains(&count) || segment.len() != 2 * count + 4 {
            return Err("a scan header has a wrong length".into());
        }
        let mut components: Vec<(usize, u8, u8)> = Vec::new();
        for description in segment[1..=2 * count].chunks_exact(2) {
            let taken = |index: &usize| components.iter().any(|(other, ..)| other == index);
            let index = (0..identifiers.len())
                .find(|index| identifiers[*index] == description[0] && !taken(index))
                .ok_or("a scan names a component that the frame does not have")?;
            components.push((index, description[1] >> 4, description[1] & 15));
        }
        let [first, last, bits] = [1, 2, 3].map(|index| segment[2 * count + index]);
        Ok(Self { components, first, last, before: bits >> 4, open: bits & 15 })
    }

    /// Checks the values that section G.1.1.1 restricts.
    fn check_progressive(&self) -> Result<(), String> {
        let band = match self.first {
            0 => self.last == 0,
            first => first <= self.last && self.last < 64 && self.components.len() == 1,
        };
        let refines = self.before == 0 || self.before == self.open + 1;
        if band && refines && self.open <= 13 {
            return Ok(());
        }
        Err("a scan header of the progressive mode is invalid".into())
    }
}

/// How a scan codes a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Sequential,
    DcFirst,
    DcRefine,
    AcFirst,
    AcRefine,
}

/// The Huffman codes, looked up by their number in the file.
pub(super) struct Codes<'c> {
    pub(super) dc: &'c dyn Fn(u8) -> Result<Code, String>,
    pub(super) ac: &'c dyn Fn(u8) -> Result<Code, String>,
}

/// Maps an index in zigzag order (figure A.6) to an index in an 8x8 block, row by row. In damaged
/// data a run may go past the last coefficient; the additional entries keep it inside the block.
#[rustfmt::skip]
pub(super) const ZIGZAG: [usize; 64 + 16] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
];

/// Decodes a scan into `frame`, up to the marker after the scan.
pub(super) fn decode(
    frame: &mut Frame,
    header: &ScanHeader,
    codes: &Codes<'_>,
    restart_interval: usize,
    source: &mut Source<'_>,
) -> Result<(), String> {
    let mode = match (frame.progressive, header.first, header.before) {
        (false, ..) => Mode::Sequential,
        (true, 0, 0) => Mode::DcFirst,
        (true, 0, _) => Mode::DcRefine,
        (true, _, 0) => Mode::AcFirst,
        (true, ..) => Mode::AcRefine,
    };
    if frame.progressive {
        header.check_progressive()?;
    }
    let mut decoder = Decoder::new(mode, header, codes, source)?;
    let blocks = |(index, ..): &(usize, u8, u8)| {
        let component = &frame.components[*index];
        component.horizontal * component.vertical
    };
    let single = header.components.len() == 1;
    // The limit is in section B.2.3 of the standard.
    if !single && header.components.iter().map(blocks).sum::<usize>() > 10 {
        return Err("an MCU has more than 10 blocks".into());
    }
    frame.scans += 1;
    if frame.progressive {
        note_precision(frame, header);
    }
    if single {
        decoder.component(frame, header.components[0].0, restart_interval)
    } else {
        decoder.interleaved(frame, restart_interval)
    }
}

/// Records which bits of each coefficient are known after the scan.
fn note_precision(frame: &mut Frame, header: &ScanHeader) {
    let first_scan = frame.scans == 1;
    for (index, ..) in &header.components {
        let component = &mut frame.components[*index];
        component.precision_before = if first_scan { [0; 64] } else { component.precision };
        let band = usize::from(header.first)..=usize::from(header.last);
        component.precision[band].fill(header.open as i8);
    }
}

struct Decoder<'h, 's, 'a> {
    mode: Mode,
    header: &'h ScanHeader,
    bits: Bits<'s, 'a>,
    /// The DC and the AC code of every component of the scan, as far as the mode needs them.
    codes: Vec<(Option<Code>, Option<Code>)>,
    /// The last DC value of every component of the scan.
    last_dc: Vec<i32>,
    /// Number of following blocks without new coefficients.
    empty_blocks: u32,
    /// The number of the next restart marker, 0 to 7.
    next_restart: u8,
}

impl<'h, 's, 'a> Decoder<'h, 's, 'a> {
    fn new(
        mode: Mode,
        header: &'h ScanHeader,
        codes: &Codes<'_>,
        source: &'s mut Source<'a>,
    ) -> Result<Self, String> {
        let has_dc = matches!(mode, Mode::Sequential | Mode::DcFirst);
        let has_ac = matches!(mode, Mode::Sequential | Mode::AcFirst | Mode::AcRefine);
        let codes = header.components.iter().map(|(_, dc, ac)| {
            let dc = has_dc.then(|| (codes.dc)(*dc)).transpose()?;
            let ac = has_ac.then(|| (codes.ac)(*ac)).transpose()?;
            Ok((dc, ac))
        });
        Ok(Self {
            mode,
            header,
            bits: Bits::new(source),
            codes: codes.collect::<Result<_, String>>()?,
            last_dc: vec![0; header.components.len()],
            empty_blocks: 0,
            next_restart: 0,
        })
    }

    /// Decodes a scan of one component, block by block.
    fn component(
        &mut self,
        frame: &mut Frame,
        index: usize,
        restart_interval: usize,
    ) -> Result<(), String> {
        let Frame { components, last_good_row, .. } = frame;
        let component = &mut components[index];
        for number in 0..component.blocks_wide * component.blocks_high {
            let (row, column) = (number / component.blocks_wide, number % component.blocks_wide);
            if !self.next_mcu(number, restart_interval)? {
                return Ok(());
            }
            if !self.bits.exhausted {
                *last_good_row = row / component.vertical;
                self.block(component, 0, column, row);
            }
        }
        Ok(())
    }

    /// Decodes a scan of several components, MCU by MCU.
    fn interleaved(&mut self, frame: &mut Frame, restart_interval: usize) -> Result<(), String> {
        let mcus_wide = frame.mcus_wide();
        for number in 0..mcus_wide * frame.mcus_high() {
            let (row, column) = (number / mcus_wide, number % mcus_wide);
            if !self.next_mcu(number, restart_interval)? {
                return Ok(());
            }
            // An MCU that has been started is decoded to its end.
            if self.bits.exhausted {
                continue;
            }
            frame.last_good_row = row;
            for (place, (index, ..)) in self.header.components.iter().enumerate() {
                let component = &mut frame.components[*index];
                let (h, v) = (component.horizontal, component.vertical);
                for block in 0..h * v {
                    self.block(component, place, column * h + block % h, row * v + block / h);
                }
            }
        }
        Ok(())
    }

    /// Reads a restart marker if one is due before the MCU with this number. Returns false if there
    /// are no more data.
    fn next_mcu(&mut self, number: usize, restart_interval: usize) -> Result<bool, String> {
        if restart_interval == 0 {
            return Ok(!self.bits.exhausted);
        }
        if number > 0 && number.is_multiple_of(restart_interval) {
            self.restart()?;
        }
        Ok(true)
    }

    fn restart(&mut self) -> Result<(), String> {
        self.bits.discard();
        self.last_dc.fill(0);
        self.empty_blocks = 0;
        resynchronize(self.bits.source, self.next_restart)?;
        self.next_restart = (self.next_restart + 1) % 8;
        // If another marker follows directly, there are no data until the next restart.
        if self.bits.source.pending.is_none() {
            self.bits.exhausted = false;
        }
        Ok(())
    }

    fn block(&mut self, component: &mut Component, place: usize, column: usize, row: usize) {
        let block = component.block_mut(column, row);
        match self.mode {
            Mode::Sequential => self.sequential(block, place),
            Mode::DcFirst => block[0] = (self.dc(place) << self.header.open) as i16,
            Mode::DcRefine => block[0] |= (self.bits.take(1) << self.header.open) as i16,
            Mode::AcFirst => self.ac_first(block),
            Mode::AcRefine => self.ac_refine(block),
        }
    }

    /// Returns the next DC value of a component, which is coded as the difference from the last
    /// one.
    fn dc(&mut self, place: usize) -> i32 {
        let Some(code) = &self.codes[place].0 else { return 0 };
        let size = self.bits.symbol(code);
        let difference = self.bits.signed(u32::from(size));
        self.last_dc[place] = self.last_dc[place].wrapping_add(difference);
        self.last_dc[place]
    }

    fn sequential(&mut self, block: &mut [i16; 64], place: usize) {
        block[0] = self.dc(place) as i16;
        let Some(code) = &self.codes[place].1 else { return };
        let mut at = 1;
        while at < 64 {
            let symbol = self.bits.symbol(code);
            let (run, size) = (usize::from(symbol >> 4), symbol & 15);
            if size == 0 && run < 15 {
                return;
            }
            at += run;
            if size > 0 {
                block[ZIGZAG[at]] = self.bits.signed(u32::from(size)) as i16;
            }
            at += 1;
        }
    }

    fn ac_first(&mut self, block: &mut [i16; 64]) {
        if self.empty_blocks > 0 {
            self.empty_blocks -= 1;
            return;
        }
        let Some(code) = &self.codes[0].1 else { return };
        let mut at = usize::from(self.header.first);
        while at <= usize::from(self.header.last) {
            let symbol = self.bits.symbol(code);
            let (run, size) = (usize::from(symbol >> 4), symbol & 15);
            if size == 0 && run < 15 {
                self.empty_blocks = (1 << run) - 1 + self.bits.take(run as u32) as u32;
                return;
            }
            at += run;
            if size > 0 {
                let value = self.bits.signed(u32::from(size)) << self.header.open;
                block[ZIGZAG[at]] = value as i16;
            }
            at += 1;
        }
    }

    fn ac_refine(&mut self, block: &mut [i16; 64]) {
        let bit = 1_i16 << self.header.open;
        let last = usize::from(self.header.last);
        let mut at = usize::from(self.header.first);
        while self.empty_blocks == 0 && at <= last {
            let Some(code) = &self.codes[0].1 else { return };
            let symbol = self.bits.symbol(code);
            let (run, size) = (symbol >> 4, symbol & 15);
            let mut new = 0;
            if size > 0 {
                new = if self.bits.take(1) == 1 { bit } else { -bit };
            } else if run < 15 {
                self.empty_blocks = (1 << run) + self.bits.take(u32::from(run)) as u32;
                break;
            }
            at = self.refine(block, at, i32::from(run), bit);
            if new != 0 {
                block[ZIGZAG[at]] = new;
            }
            at += 1;
        }
        if self.empty_blocks > 0 {
            self.refine(block, at, i32::MAX, bit);
            self.empty_blocks -= 1;
        }
    }

    /// Reads one bit for every non-zero coefficient from index `at` on, until `run` zeros have been
    /// passed and another zero is reached. Returns the index of that zero.
    fn refine(&mut self, block: &mut [i16; 64], mut at: usize, mut run: i32, bit: i16) -> usize {
        while at <= usize::from(self.header.last) {
            let coefficient = &mut block[ZIGZAG[at]];
            if *coefficient == 0 {
                if run == 0 {
                    break;
                }
                run -= 1;
            } else if self.bits.take(1) == 1 && *coefficient & bit == 0 {
                let change = if *coefficient >= 0 { bit } else { -bit };
                *coefficient = coefficient.wrapping_add(change);
            }
            at += 1;
        }
        at
    }
}

/// Moves past the restart marker with number `expected`, 0 to 7. Follows libjpeg's rule for other
/// markers: if one of the next two restart markers is found, the expected one is lost, and the
/// marker found is kept for later; one of the two previous ones is skipped, and so is a marker that
/// is not allowed in a JPEG file.
fn resynchronize(source: &mut Source<'_>, expected: u8) -> Result<(), String> {
    loop {
        let found = source.marker()?;
        if found < marker::SOF0 {
            continue;
        }
        if !(marker::RST0..=marker::RST7).contains(&found) {
            source.pending = Some(found);
            return Ok(());
        }
        match (found - marker::RST0 + 8 - expected) % 8 {
            1 | 2 => {
                source.pending = Some(found);
                return Ok(());
            }
            6 | 7 => {}
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zigzag_order_walks_the_diagonals() {
        let mut order: Vec<usize> = (0..64).collect();
        // The order goes up along even diagonals and down along odd ones.
        order.sort_by_key(|place| {
            let (row, column) = (place / 8, place % 8);
            let diagonal = row + column;
            (diagonal, if diagonal % 2 == 0 { column } else { row })
        });
        assert_eq!(ZIGZAG[..64], order);
    }

    #[test]
    fn restart_markers_out_of_order_are_made_up_for() {
        let after = |found: u8, expected: u8| {
            let bytes = [0xff, 0xd8, 0x11, 0xff, marker::RST0 + found, 0xff, marker::EOI];
            let mut source = Source::new(&bytes);
            resynchronize(&mut source, expected).unwrap();
            source.pending
        };
        assert_eq!(after(3, 3), None);
        assert_eq!(after(4, 3), Some(marker::RST0 + 4), "the expected one is lost");
        assert_eq!(after(1, 7), Some(marker::RST0 + 1), "two are lost");
        assert_eq!(after(2, 3), Some(marker::EOI), "an old one is passed over");
        assert_eq!(after(7, 3), None, "a distant one is taken for the expected one");
    }
}
