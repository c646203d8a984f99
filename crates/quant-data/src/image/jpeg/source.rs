//! The bytes of a JPEG file, and the markers in them.

/// The codes of markers: the byte after 0xff (table B.1 of the standard, ITU-T T.81).
pub(super) mod marker {
    pub(crate) const SOF0: u8 = 0xc0;
    pub(crate) const SOF2: u8 = 0xc2;
    pub(crate) const DHT: u8 = 0xc4;
    pub(crate) const JPG: u8 = 0xc8;
    pub(crate) const DAC: u8 = 0xcc;
    pub(crate) const SOF15: u8 = 0xcf;
    pub(crate) const RST0: u8 = 0xd0;
    pub(crate) const RST7: u8 = 0xd7;
    pub(crate) const EOI: u8 = 0xd9;
    pub(crate) const SOS: u8 = 0xda;
    pub(crate) const DQT: u8 = 0xdb;
    pub(crate) const DNL: u8 = 0xdc;
    pub(crate) const DRI: u8 = 0xdd;
    pub(crate) const APP0: u8 = 0xe0;
    pub(crate) const APP14: u8 = 0xee;
    pub(crate) const APP15: u8 = 0xef;
    pub(crate) const COM: u8 = 0xfe;
    pub(crate) const TEM: u8 = 0x01;
}

/// The bytes that are read after the last byte of every file, so that a truncated file has an end
/// marker too.
const END: [u8; 2] = [0xff, marker::EOI];

/// Bytes that are read in order, followed by an end-of-image marker.
#[derive(Debug)]
pub(super) struct Source<'a> {
    bytes: &'a [u8],
    at: usize,
    /// A marker that has been read but not yet handled.
    pub(super) pending: Option<u8>,
}

impl<'a> Source<'a> {
    /// Starts after the start-of-image marker of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 2, pending: None }
    }

    /// Returns whether more bytes have been read than the file has.
    pub(super) fn is_cut_short(&self) -> bool {
        self.at > self.bytes.len()
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        let behind = self.at.checked_sub(self.bytes.len()).and_then(|at| END.get(at));
        let byte = self.bytes.get(self.at).or(behind).copied();
        self.at += 1;
        byte.ok_or_else(cut_short)
    }

    /// Returns the pending marker or, if there is none, the next one. Stray bytes before it are
    /// skipped.
    pub(super) fn marker(&mut self) -> Result<u8, String> {
        if let Some(marker) = self.pending.take() {
            return Ok(marker);
        }
        loop {
            while self.byte()? != 0xff {}
            let mut code = self.byte()?;
            while code == 0xff {
                code = self.byte()?;
            }
            // 0xff 0x00 stands for the byte 0xff in the data of a scan.
            if code != 0 {
                return Ok(code);
            }
        }
    }

    /// Returns the content of the segment whose marker has just been read.
    pub(super) fn segment(&mut self) -> Result<&'a [u8], String> {
        let length = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        let content = self.bytes.get(self.at..self.at + length.saturating_sub(2));
        self.at += length.saturating_sub(2);
        content.ok_or_else(cut_short)
    }

    /// Returns the next byte of a scan; `None` before a marker, which then becomes pending.
    pub(super) fn scan_byte(&mut self) -> Option<u8> {
        if self.pending.is_some() {
            return None;
        }
        let byte = self.byte().ok()?;
        if byte != 0xff {
            return Some(byte);
        }
        let mut code = self.byte().ok()?;
        while code == 0xff {
            code = self.byte().ok()?;
        }
        self.pending = (code != 0).then_some(code);
        (code == 0).then_some(0xff)
    }
}

fn cut_short() -> String {
    "it ends in the middle of a segment".to_owned()
}
