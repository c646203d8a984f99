//! The frame of a JPEG file: the properties of its picture, and the coefficients that the scans
//! fill in.

use crate::image::limits::{Permission, filled, permit};

/// The picture: its size and its components.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<Component>,
    /// The largest sampling factors of all components.
    pub(super) horizontal: usize,
    pub(super) vertical: usize,
    /// Number of scans read so far.
    pub(super) scans: usize,
    /// The last row of MCUs for which the newest scan had data.
    pub(super) last_good_row: usize,
    /// The permission to decode, kept as long as the coefficients are in memory.
    _permission: Permission,
}

/// A component of the picture: luma, chroma or a colour.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) identifier: u8,
    /// Sampling factors, 1 to 4.
    pub(super) horizontal: usize,
    pub(super) vertical: usize,
    /// Number of the quantization table.
    pub(super) table: u8,
    /// The quantization table at the component's first scan, in rows of ascending horizontal
    /// frequency.
    pub(super) quantization: Option<[u16; 64]>,
    /// Number of samples per row, and number of rows.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Number of 8x8 blocks that hold these samples, horizontally and vertically.
    pub(super) blocks_wide: usize,
    pub(super) blocks_high: usize,
    /// The same numbers of blocks, rounded up to complete MCUs.
    pub(super) columns_stored: usize,
    pub(super) rows_stored: usize,
    /// The blocks, row by row.
    coefficients: Vec<[i16; 64]>,
    /// For every coefficient in zigzag order, the number of low bits that are still unknown; -1 if
    /// no bit is known.
    pub(super) precision: [i8; 64],
    /// The value of `precision` before the component's newest scan.
    pub(super) precision_before: [i8; 64],
}

impl Component {
    pub(super) fn block(&self, column: usize, row: usize) -> &[i16; 64] {
        &self.coefficients[row * self.columns_stored + column]
    }

    pub(super) fn block_mut(&mut self, column: usize, row: usize) -> &mut [i16; 64] {
        &mut self.coefficients[row * self.columns_stored + column]
    }
}

impl Frame {
    /// Parses the content of a start-of-frame segment (section B.2.2 of the standard).
    pub(super) fn parse(segment: &[u8], progressive: bool) -> Result<Self, String> {
        let [precision, y1, y0, x1, x0, count, components @ ..] = segment else {
            return Err("its frame header is cut short".into());
        };
        if *precision != 8 {
            return Err(format!("{precision} bits per sample: only 8 are supported"));
        }
        let height = usize::from(u16::from_be_bytes([*y1, *y0]));
        let width = usize::from(u16::from_be_bytes([*x1, *x0]));
        let permission = permit(width, height)?;
        if !matches!(count, 1 | 3 | 4) {
            return Err(format!("{count} colour components: 1, 3 or 4 are supported"));
        }
        if components.len() != usize::from(*count) * 3 {
            return Err("its frame header has a wrong length".into());
        }
        let factors = components
            .chunks_exact(3)
            .map(|component| (usize::from(component[1] >> 4), usize::from(component[1] & 15)));
        if factors.clone().any(|(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err("a sampling factor is not 1 to 4".into());
        }
        let horizontal = factors.clone().map(|(h, _)| h).max().unwrap_or(1);
        let vertical = factors.map(|(_, v)| v).max().unwrap_or(1);
        let mut frame = Self {
            progressive,
            width,
            height,
            components: Vec::new(),
            horizontal,
            vertical,
            scans: 0,
            last_good_row: 0,
            _permission: permission,
        };
        let components = components.chunks_exact(3).map(|x| frame.component(x));
        frame.components = components.collect::<Result<_, _>>()?;
        Ok(frame)
    }

    /// Returns the sampling factors and identifiers of the components, and the number of MCUs, of a
    /// frame that [`parse`](Self::parse) accepts.
    pub(super) fn outline(segment: &[u8]) -> Option<(Vec<u8>, Vec<u8>, usize)> {
        let components = segment.get(6..)?.chunks_exact(3);
        let identifiers = components.clone().map(|component| component[0]).collect();
        let factors: Vec<u8> = components.map(|component| component[1]).collect();
        let highest = |shift: u8| factors.iter().map(|x| usize::from(x >> shift & 15)).max();
        let size = |at: usize| usize::from(u16::from_be_bytes([segment[at], segment[at + 1]]));
        let (height, width) = (size(1), size(3));
        let mcus = width.div_ceil(8 * highest(4)?.max(1)) * height.div_ceil(8 * highest(0)?.max(1));
        let usable = segment[0] == 8 && factors.len() == usize::from(segment[5]) && mcus > 0;
        usable.then_some((factors, identifiers, mcus))
    }

    fn component(&self, description: &[u8]) -> Result<Component, String> {
        let horizontal = usize::from(description[1] >> 4);
        let vertical = usize::from(description[1] & 15);
        let width = (self.width * horizontal).div_ceil(self.horizontal);
        let height = (self.height * vertical).div_ceil(self.vertical);
        let (columns_stored, rows_stored) =
            (self.mcus_wide() * horizontal, self.mcus_high() * vertical);
        Ok(Component {
            identifier: description[0],
            horizontal,
            vertical,
            table: description[2],
            quantization: None,
            width,
            height,
            blocks_wide: width.div_ceil(8),
            blocks_high: height.div_ceil(8),
            columns_stored,
            rows_stored,
            coefficients: filled([0; 64], columns_stored * rows_stored)?,
            precision: [-1; 64],
            precision_before: [-1; 64],
        })
    }

    /// Returns the number of MCUs per row. An MCU consists of the blocks of all components that
    /// cover the same part of the picture.
    pub(super) fn mcus_wide(&self) -> usize {
        self.width.div_ceil(8 * self.horizontal)
    }

    /// Returns the number of rows of MCUs.
    pub(super) fn mcus_high(&self) -> usize {
        self.height.div_ceil(8 * self.vertical)
    }
}
