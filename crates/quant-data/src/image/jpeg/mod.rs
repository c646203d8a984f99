//! JPEG files.
//!
//! Ordinary files are decoded by `zune-jpeg`. Files that depart from the standard are decoded here
//! in the same way as in libjpeg, which reads many files that other decoders refuse: with stray
//! bytes between segments, damaged data, lost restart markers, missing scans, unusual sampling, or
//! inverted CMYK.

mod frame;
mod huffman;
mod idct;
mod output;
mod scan;
mod smooth;
mod source;
mod standard;
mod survey;

use std::io::Cursor;

use zune_core::{colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use self::{
    frame::Frame,
    huffman::{Code, Definition},
    output::Color,
    scan::{Codes, ScanHeader, ZIGZAG},
    source::{Source, marker},
    standard::Values,
};
use super::{
    limits::{filled, permit},
    rgb::RgbImage,
    truncated::{Truncated, missing_part},
};

/// The largest number of scans. Each scan may take time in proportion to the size of the picture,
/// however short the scan is, so files with more are refused.
const MOST_SCANS: usize = 1000;

/// Decodes a JPEG file.
pub(super) fn decode(bytes: &[u8], truncated: Truncated) -> Result<RgbImage, String> {
    if let Some(image) = survey::ordinary(bytes).and_then(decode_ordinary) {
        return Ok(image);
    }
    let mut decoder = Decoder::new(bytes);
    let fault = decoder.read().err();
    let (cut_short, whole) = (decoder.source.is_cut_short(), decoder.is_whole);
    let color = decoder.color();
    let reason = |fault: String| format!("a JPEG file that cannot be decoded: {fault}");
    let Some(frame) = decoder.frame.filter(|frame| frame.scans > 0) else {
        return Err(reason(fault.unwrap_or_else(|| "it holds no picture".into())));
    };
    if truncated == Truncated::Refuse {
        match fault {
            // Bytes that are missing after the complete picture do not matter.
            _ if cut_short && whole => {}
            _ if cut_short => {
                let reason = "the JPEG file is truncated: it ends before its end marker";
                return Err(missing_part(reason));
            }
            Some(fault) => {
                return Err(missing_part(&format!("the JPEG file is damaged: {fault}")));
            }
            None => {}
        }
    }
    let pixels = output::pixels(&frame, color).map_err(reason)?;
    Ok(RgbImage { width: frame.width, height: frame.height, pixels })
}

/// Decodes with the fast decoder. `None` if it refuses the file.
fn decode_ordinary(bytes: &[u8]) -> Option<RgbImage> {
    let options = DecoderOptions::new_fast()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder.decode_headers().ok()?;
    let (width, height) = decoder.dimensions()?;
    let _permission = permit(width, height).ok()?;
    let pixels = decoder.decode().ok()?;
    let pixels = match pixels.len() / (width * height) {
        3 => pixels,
        1 => {
            let mut rgb = filled(0, width * height * 3).ok()?;
            let places = rgb.as_chunks_mut::<3>().0.iter_mut();
            places.zip(pixels).for_each(|(rgb, grey)| *rgb = [grey; 3]);
            rgb
        }
        _ => return None,
    };
    Some(RgbImage { width, height, pixels })
}

/// What has been read from a file so far.
struct Decoder<'a> {
    source: Source<'a>,
    /// The quantization tables by their number; values are in rows of ascending horizontal
    /// frequency.
    quantization: [Option<[u16; 64]>; 4],
    dc: [Option<Definition>; 4],
    ac: [Option<Definition>; 4],
    /// Number of MCUs between restart markers; 0 if there are none.
    restart_interval: usize,
    is_jfif: bool,
    /// The colour transform that Adobe's segment names.
    adobe_transform: Option<u8>,
    frame: Option<Frame>,
    /// Whether the only scan is complete, with nothing missing before the marker after it.
    is_whole: bool,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            source: Source::new(bytes),
            quantization: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            restart_interval: 0,
            is_jfif: false,
            adobe_transform: None,
            frame: None,
            is_whole: false,
        }
    }

    /// Reads up to the end marker. After an error, the frame holds everything decoded before it.
    fn read(&mut self) -> Result<(), String> {
        loop {
            match self.source.marker()? {
                marker::EOI => return Ok(()),
                marker::SOS => self.scan()?,
                marker::DHT => self.huffman_tables()?,
                marker::DQT => self.quantization_tables()?,
                marker::DRI => self.restart_interval()?,
                code @ (marker::SOF0..=marker::SOF2) => self.frame(code == marker::SOF2)?,
                code @ (0xc3 | 0xc5..=marker::JPG | 0xcd..=marker::SOF15) => {
                    return Err(unread_mode(code));
                }
                0xc9..=0xcb | marker::DAC => return Err(unread_mode(marker::DAC)),
                marker::APP0 => {
                    let segment = self.source.segment()?;
                    self.is_jfif |= segment.len() >= 14 && segment.starts_with(b"JFIF\0");
                }
                marker::APP14 => {
                    let segment = self.source.segment()?;
                    if segment.len() >= 12 && segment.starts_with(b"Adobe") {
                        self.adobe_transform = Some(segment[11]);
                    }
                }
                marker::APP0..=marker::APP15 | marker::COM | marker::DNL => {
                    self.source.segment()?;
                }
                marker::RST0..=marker::RST7 | marker::TEM => {}
                code => return Err(format!("the marker 0xff{code:02x} is not allowed there")),
            }
        }
    }

    fn frame(&mut self, progressive: bool) -> Result<(), String> {
        if self.frame.is_some() {
            return Err("it holds two frame headers".into());
        }
        self.frame = Some(Frame::parse(self.source.segment()?, progressive)?);
        Ok(())
    }

    fn scan(&mut self) -> Result<(), String> {
        let segment = self.source.segment()?;
        let frame = self.frame.as_mut().ok_or("a scan stands before the frame header")?;
        let identifiers: Vec<u8> = frame.components.iter().map(|x| x.identifier).collect();
        let header = ScanHeader::parse(segment, &identifiers)?;
        let only_scan = !frame.progressive && header.components.len() == frame.components.len();
        if self.is_whole {
            return Err("a further scan follows one that holds the whole picture".into());
        }
        if frame.scans == MOST_SCANS {
            return Err(format!("more than {MOST_SCANS} scans"));
        }
        for (index, ..) in &header.components {
            let component = &mut frame.components[*index];
            let table = self.quantization.get(usize::from(component.table)).copied().flatten();
            let table = table.ok_or("a component's quantization table is missing")?;
            component.quantization.get_or_insert(table);
        }
        // Only sequential files may omit their Huffman tables.
        let standard = !frame.progressive;
        let code = |values, tables: &[Option<Definition>; 4], number: u8| {
            let given = tables.get(usize::from(number)).cloned().flatten();
            let otherwise = || standard.then(|| standard::table(values, number)).flatten();
            let definition = given.or_else(otherwise).ok_or("a Huffman table is missing")?;
            Code::new(&definition, if values == Values::Dc { 15 } else { 255 })
        };
        let codes = Codes {
            dc: &|number| code(Values::Dc, &self.dc, number),
            ac: &|number| code(Values::Ac, &self.ac, number),
        };
        scan::decode(frame, &header, &codes, self.restart_interval, &mut self.source)?;
        self.is_whole = only_scan && frame.scans == 1 && !self.source.is_cut_short();
        Ok(())
    }

    /// Reads a segment of Huffman tables (section B.2.4.2 of the standard).
    fn huffman_tables(&mut self) -> Result<(), String> {
        let mut rest = self.source.segment()?;
        while let Some((number, counts, behind)) = huffman_counts(rest) {
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let symbols = behind.get(..total).filter(|symbols| symbols.len() <= 256);
            let symbols = symbols.ok_or("a Huffman table has a wrong length")?.to_vec();
            let tables = if number & 0x10 == 0 { &mut self.dc } else { &mut self.ac };
            let table = tables.get_mut(usize::from(number & !0x10));
            let table = table.ok_or("a Huffman table has a number above 3")?;
            *table = Some(Definition { counts, symbols });
            rest = &behind[total..];
        }
        if rest.is_empty() { Ok(()) } else { Err("a Huffman table has a wrong length".into()) }
    }

    /// Reads a segment of quantization tables (section B.2.4.1 of the standard).
    fn quantization_tables(&mut self) -> Result<(), String> {
        let mut rest = self.source.segment()?;
        while let Some((head, behind)) = rest.split_first() {
            let table = self.quantization.get_mut(usize::from(head & 15));
            let table = table.ok_or("a quantization table has a number above 3")?;
            let bytes = if head >> 4 == 0 { 1 } else { 2 };
            let steps =
                behind.get(..64 * bytes).ok_or("a quantization table has a wrong length")?;
            let mut steps_in_rows = [0; 64];
            for (step, place) in steps.chunks_exact(bytes).zip(ZIGZAG) {
                steps_in_rows[place] =
                    step.iter().fold(0, |value, byte| value << 8 | u16::from(*byte));
            }
            *table = Some(steps_in_rows);
            rest = &behind[64 * bytes..];
        }
        Ok(())
    }

    fn restart_interval(&mut self) -> Result<(), String> {
        let &[high, low] = self.source.segment()? else {
            return Err("a restart interval has a wrong length".into());
        };
        self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
        Ok(())
    }

    /// Returns the colour space of the components, chosen by libjpeg's rules.
    fn color(&self) -> Color {
        let components = self.frame.as_ref().map_or(&[][..], |frame| &frame.components);
        let identifiers: Vec<u8> =
            components.iter().map(|component| component.identifier).collect();
        match (identifiers.len(), self.adobe_transform) {
            (4, Some(0) | None) => Color::Cmyk,
            (4, Some(_)) => Color::Ycck,
            (3, _) if self.is_jfif => Color::YCbCr,
            (3, Some(0)) => Color::Rgb,
            (3, None) if identifiers == *b"RGB" => Color::Rgb,
            (3, _) => Color::YCbCr,
            _ => Color::Grey,
        }
    }
}

/// Splits a segment of Huffman tables into the next table's number, its counts, and the rest.
fn huffman_counts(segment: &[u8]) -> Option<(u8, [u8; 16], &[u8])> {
    let (number, behind) = segment.split_first()?;
    let (counts, behind) = behind.split_first_chunk::<16>()?;
    Some((*number, *counts, behind))
}

fn unread_mode(code: u8) -> String {
    let mode = match code {
        marker::DAC => "arithmetic coding",
        0xc3 => "the lossless mode",
        _ => "the hierarchical mode",
    };
    format!(
        "it uses {mode}, but only baseline and progressive files are read; save it in one of \
         these modes"
    )
}
