//! Numbers, texts and lists from bytes.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::Error;

/// Reads the description of a network. Lengths are compared with the bytes that are left before
/// anything is allocated.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Where the next byte is.
    at: usize,
    /// Where the bytes begin in the file, for messages.
    start: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], start: usize) -> Self {
        Self { bytes, at: 0, start }
    }

    /// The number of bytes that were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The error that something is wrong with what was just read.
    pub(super) fn error(&self, problem: impl AsRef<str>) -> Error {
        super::layout::damaged(&format!(
            "{}, before byte {}",
            problem.as_ref(),
            self.start + self.at
        ))
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let left = &self.bytes[self.at..];
        let Some(bytes) = left.get(..count) else {
            let problem = format!("{count} bytes are named, and {} are there", left.len());
            return Err(self.error(problem));
        };
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Result<usize, Error> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if (part << shift) >> shift != part {
                break;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(number)
                    .map_err(|_| self.error(format!("the number {number} is too large")));
            }
        }
        Err(self.error("a number has more than 64 bits"))
    }

    /// The length of a list whose elements take at least `size` bytes each.
    pub(super) fn length(&mut self, size: usize) -> Result<usize, Error> {
        let length = self.number()?;
        let left = self.bytes.len() - self.at;
        if length > left / size {
            let problem = format!("a list of {length} is named, and {left} bytes are there");
            return Err(self.error(problem));
        }
        Ok(length)
    }

    pub(super) fn text(&mut self) -> Result<String, Error> {
        let length = self.length(1)?;
        let bytes = self.bytes(length)?;
        core::str::from_utf8(bytes)
            .map(ToString::to_string)
            .map_err(|_| self.error("a name is not UTF-8"))
    }

    pub(super) fn float(&mut self) -> Result<f32, Error> {
        self.array().map(f32::from_le_bytes)
    }

    pub(super) fn double(&mut self) -> Result<f64, Error> {
        self.array().map(f64::from_le_bytes)
    }

    pub(super) fn integer(&mut self) -> Result<i16, Error> {
        self.array().map(i16::from_le_bytes)
    }

    /// As many elements as the list says, each of at least `size` bytes.
    pub(super) fn list<T>(
        &mut self,
        size: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let length = self.length(size)?;
        (0..length).map(|_| element(self)).collect()
    }

    pub(super) fn floats(&mut self) -> Result<Vec<f32>, Error> {
        self.list(4, Self::float)
    }
}
