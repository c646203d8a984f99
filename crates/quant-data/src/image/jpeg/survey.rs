//! Decides by its markers alone whether a JPEG file follows the standard.
//!
//! Where a file departs from the standard, the fast decoder differs from libjpeg, sometimes without
//! an error. So it decodes only files without any departure.

use super::{frame::Frame, scan::ScanHeader, source::marker};

/// Returns the bytes that the fast decoder decodes, for an ordinary file; `None` for any other
/// file. An ordinary file has no bytes between its segments; one frame, which is grey or YCbCr with
/// chroma of full or half size; every coefficient at full precision; restart markers in order; and
/// an end marker.
///
/// The returned bytes of a sequential file exclude the end marker. If data are missing before that
/// marker, the fast decoder would repeat the last rows without an error, but it refuses a file that
/// ends too early.
pub(super) fn ordinary(bytes: &[u8]) -> Option<&[u8]> {
    Survey { bytes, at: 2, frame: None, restart_interval: 0 }.run()
}

struct Survey<'a> {
    bytes: &'a [u8],
    at: usize,
    frame: Option<FrameSurvey>,
    restart_interval: usize,
}

struct FrameSurvey {
    progressive: bool,
    identifiers: Vec<u8>,
    mcus: usize,
    /// Number of low bits that are still unknown, for every component and coefficient; -1 if no bit
    /// is known.
    precision: Vec<[i8; 64]>,
}

impl<'a> Survey<'a> {
    /// Returns `None` as soon as something shows that the file is not ordinary.
    fn run(mut self) -> Option<&'a [u8]> {
        let mut adobe_transform = None;
        loop {
            let &[0xff, code] = self.bytes.get(self.at..self.at + 2)? else { return None };
            self.at += 2;
            match code {
                marker::EOI => break,
                marker::SOS => self.scan()?,
                marker::SOF0..=marker::SOF2 => self.frame(code == marker::SOF2)?,
                marker::DRI => {
                    let &[high, low] = self.segment()? else { return None };
                    self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
                }
                marker::APP14 => adobe_transform = self.segment()?.get(11).copied(),
                marker::DHT | marker::DQT | marker::COM | marker::APP0..=marker::APP15 => {
                    self.segment()?;
                }
                _ => return None,
            }
        }
        let frame = self.frame?;
        let complete = frame.precision.iter().flatten().all(|open| *open == 0);
        let color = match frame.identifiers.len() {
            1 => adobe_transform.is_none(),
            _ => matches!(adobe_transform, None | Some(1)) && frame.identifiers == [1, 2, 3],
        };
        let end = if frame.progressive { self.at } else { self.at - 2 };
        if complete && color { self.bytes.get(..end) } else { None }
    }

    fn segment(&mut self) -> Option<&[u8]> {
        let length = self.bytes.get(self.at..self.at + 2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let content = self.bytes.get(self.at + 2..self.at + length)?;
        self.at += length;
        Some(content)
    }

    fn frame(&mut self, progressive: bool) -> Option<()> {
        let segment = self.segment()?;
        let (factors, identifiers, mcus) = Frame::outline(segment)?;
        let usual: &[&[u8]] = &[
            &[0x11],
            &[0x11, 0x11, 0x11],
            &[0x21, 0x11, 0x11],
            &[0x12, 0x11, 0x11],
            &[0x22, 0x11, 0x11],
        ];
        if self.frame.is_some() || !usual.contains(&&factors[..]) {
            return None;
        }
        let precision = vec![[-1; 64]; identifiers.len()];
        self.frame = Some(FrameSurvey { progressive, identifiers, mcus, precision });
        Some(())
    }

    fn scan(&mut self) -> Option<()> {
        let identifiers = self.frame.as_ref()?.identifiers.clone();
        let header = ScanHeader::parse(self.segment()?, &identifiers).ok()?;
        let frame = self.frame.as_mut()?;
        let all_components = header.components.len() == identifiers.len();
        let whole = all_components && (header.first, header.last) == (0, 63);
        if !frame.progressive && !whole {
            return None;
        }
        for (index, ..) in &header.components {
            let band = usize::from(header.first)..=usize::from(header.last);
            for open in frame.precision[*index].get_mut(band)? {
                let before = if header.before == 0 { -1 } else { header.before as i8 };
                if *open != before {
                    return None;
                }
                *open = header.open as i8;
            }
        }
        let restarts = match self.restart_interval {
            0 => Some(0),
            // In a scan of a single component, each block counts as an MCU, so the number of
            // restart markers is different.
            _ if frame.progressive => None,
            interval => Some((frame.mcus - 1) / interval),
        };
        self.skip_data(restarts)
    }

    /// Moves to the marker after the data of a scan. `None` if the scan does not have this many
    /// restart markers; if `restarts` is `None`, any number is accepted.
    fn skip_data(&mut self, restarts: Option<usize>) -> Option<()> {
        let mut found = 0;
        loop {
            let rest = self.bytes.get(self.at..)?;
            self.at += memchr::memchr(0xff, rest)?;
            match *self.bytes.get(self.at + 1)? {
                0 => {}
                code @ marker::RST0..=marker::RST7 => {
                    if usize::from(code - marker::RST0) != found % 8 {
                        return None;
                    }
                    found += 1;
                }
                _ => break,
            }
            self.at += 2;
        }
        restarts.is_none_or(|restarts| restarts == found).then_some(())
    }
}
