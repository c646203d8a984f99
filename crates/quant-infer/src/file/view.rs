//! A file whose weights stay where they are.

use alloc::format;

use super::{
    decode::{self, Description},
    layout::{ALIGNMENT, HEADER, LENGTH, MAGIC, VERSION},
    reader::Reader,
    weights::{Blobs, Elements, NodeBytes},
};
use crate::{
    Error,
    model::{Model, Op, Weight},
};

/// A file that was read except for its weights, which are borrowed from its bytes: these may be a
/// mapped file.
#[derive(Debug)]
pub struct File<'a> {
    description: Description<'a>,
    length: usize,
}

impl<'a> File<'a> {
    /// Reads everything but the weights. The checksum is verified over all of the bytes.
    ///
    /// # Errors
    /// If the bytes are no file of this format, or are damaged, or have a newer version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (description, weights) = sections(bytes)?;
        let reader = Reader::new(description, HEADER);
        let description = decode::description(reader, Blobs::new(weights))?;
        Ok(Self { description, length: bytes.len() })
    }

    /// The network, where the lists of the weights' elements are empty.
    pub fn outline(&self) -> &Model {
        &self.description.model
    }

    /// The bytes of each node, in the order of the nodes.
    pub fn nodes(&self) -> &[NodeBytes<'a>] {
        &self.description.nodes
    }

    /// The length of the file in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The network with its weights, which were unpacked. It is not checked.
    ///
    /// # Errors
    /// If a weight is damaged.
    pub(super) fn into_model(self) -> Result<Model, Error> {
        let Description { mut model, nodes } = self.description;
        for (node, bytes) in model.nodes.iter_mut().zip(nodes) {
            if let (Op::Conv(conv), Some(elements)) = (&mut node.op, bytes.weight)
                && unpack(&mut conv.weight, elements).is_none()
            {
                let problem = format!("the weight of {} has bytes that are no codes", node.name);
                return Err(super::layout::damaged(&problem));
            }
        }
        Ok(model)
    }
}

fn unpack(weight: &mut Weight, elements: Elements<'_>) -> Option<()> {
    match weight {
        Weight::Float(numbers) => {
            let (floats, _) = elements.bytes.as_chunks::<4>();
            *numbers = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        }
        Weight::Codes(weight) => {
            weight.codes = elements.packing()?.unpack(elements.bytes, elements.count)?;
        }
    }
    Some(())
}

/// The description and the weights, after the header was checked.
fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    if !bytes.starts_with(&MAGIC) {
        let problem =
            "is not a packed network: it does not begin with the bytes \\x89QNET\\r\\n\\x1a";
        return Err(Error::File(problem.into()));
    }
    let cut = |length: u64| {
        let problem = format!("{} bytes of {length} are there", bytes.len());
        super::layout::damaged(&problem)
    };
    let field = |at: usize| {
        let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
        field.map(u64::from_le_bytes).ok_or_else(|| cut(HEADER as u64))
    };
    let versions = field(8)?;
    let found = versions as u16;
    if found > VERSION {
        return Err(Error::Version { found: found.into(), known: VERSION.into() });
    }
    if found == 0 {
        return Err(super::layout::damaged("it has version 0, and versions begin with 1"));
    }
    let length = field(LENGTH)?;
    if bytes.len() < HEADER || length > bytes.len() as u64 {
        return Err(cut(length.max(HEADER as u64)));
    }
    if length < bytes.len() as u64 {
        let more = bytes.len() as u64 - length;
        return Err(super::layout::damaged(&format!(
            "{more} bytes follow after its {length} bytes"
        )));
    }
    let stored = (versions >> 32) as u32;
    let checksum = super::layout::checksum(bytes);
    if stored != checksum {
        let problem = format!("its checksum is {checksum:08x}, and {stored:08x} was expected");
        return Err(super::layout::damaged(&problem));
    }
    let section = |at: usize| {
        let begin = usize::try_from(field(at)?).ok();
        let length = usize::try_from(field(at + 8)?).ok();
        let section = begin.zip(length).and_then(|(begin, length)| {
            let aligned = begin.is_multiple_of(ALIGNMENT) && begin >= HEADER;
            bytes.get(begin..begin.checked_add(length)?).filter(|_| aligned)
        });
        section
            .ok_or_else(|| super::layout::damaged(&format!("no section is where byte {at} says")))
    };
    Ok((section(super::layout::DESCRIPTION)?, section(super::layout::WEIGHTS)?))
}
