//! The safetensors format: reading every type that stands for numbers, writing floats.
//!
//! Files that are written here carry a CRC-32C of their contents in their metadata, and have their
//! header in a fixed order. Files of other programs have neither.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use burn::tensor::{Bytes, DType, TensorData};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use crate::error::NetworkError;

/// What a file holds.
pub(super) struct Contents {
    /// Name, type and tensor.
    pub(super) entries: Vec<(String, String, Entry)>,
    /// Texts beside them.
    pub(super) metadata: HashMap<String, String>,
}

/// Name of the checksum in the metadata.
const CHECKSUM: &str = "quant_nn_checksum";

/// The header of a file.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, TensorInfo>,
}

/// A tensor's type, shape and place in the data.
#[derive(Serialize, Deserialize)]
struct TensorInfo {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl Header {
    /// A file's header and data, where it is as long as it says.
    fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = bytes.split_first_chunk()?;
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
    }

    /// The CRC-32C of the header without it, and of the data.
    fn checksum(&self, data: &[u8]) -> Result<String, serde_json::Error> {
        let header = crc32c::crc32c(&serde_json::to_vec(self)?);
        Ok(format!("crc32c:{:08x}", crc32c::crc32c_append(header, data)))
    }

    /// The file of this header.
    fn file(&self, data: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        let mut header = serde_json::to_vec(self)?;
        // The data begin at a multiple of eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok([&(header.len() as u64).to_le_bytes()[..], &header, data].concat())
    }
}

/// Compares the checksum that a file carries with its contents.
fn verify(bytes: &[u8], found: &str, path: &Path) -> Result<(), NetworkError> {
    let computed = Header::split(bytes).and_then(|(header, data)| {
        let mut header: Header = serde_json::from_slice(header).ok()?;
        header.metadata.remove(CHECKSUM);
        header.checksum(data).ok()
    });
    let computed = computed.unwrap_or_else(|| "none".into());
    if computed == found {
        return Ok(());
    }
    let (path, found) = (path.to_owned(), found.to_owned());
    Err(NetworkError::Checksum { path, found, computed, key: CHECKSUM })
}

/// Reads the bytes of a file; `path` stands in messages.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Contents, NetworkError> {
    let format = |source| NetworkError::Format { path: path.to_owned(), source };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
    let mut metadata = header.metadata().clone().unwrap_or_default();
    if let Some(found) = metadata.remove(CHECKSUM) {
        verify(bytes, &found, path)?;
    }
    let file = SafeTensors::deserialize(bytes).map_err(format)?;
    let mut entries = Vec::new();
    for (name, view) in file.iter() {
        let stored = format!("{:?}", view.dtype());
        let Some(dtype) = burn_type(view.dtype()) else {
            let (path, name) = (path.to_owned(), name.to_owned());
            return Err(NetworkError::Type { path, name, dtype: stored });
        };
        let shape = view.shape().to_vec();
        let bytes = Bytes::from_bytes_vec(view.data().to_vec());
        let values = TensorData::from_bytes(bytes, shape.clone(), dtype);
        let values = values.convert::<f32>().iter().collect();
        entries.push((name.to_owned(), stored, Entry { shape, values }));
    }
    Ok(Contents { entries, metadata })
}

/// The bytes of a file.
pub(super) fn write(
    entries: &BTreeMap<String, Entry>,
    metadata: &HashMap<String, String>,
) -> Result<Vec<u8>, NetworkError> {
    let format = |source| NetworkError::Format { path: "<memory>".into(), source };
    let bytes: Vec<(&String, &Entry, Vec<u8>)> = entries
        .iter()
        .map(|(name, entry)| {
            let bytes = entry.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, entry, bytes)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, entry, bytes)| {
            let view = TensorView::new(Dtype::F32, entry.shape.clone(), bytes);
            view.map(|view| (name.as_str(), view)).map_err(format)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let file = safetensors::serialize(views, Some(metadata.clone())).map_err(format)?;
    // The format keeps texts in no fixed order, and equal states should be equal files.
    let split = Header::split(&file).ok_or(SafeTensorError::InvalidHeaderLength);
    let (header, data) = split.map_err(format)?;
    let json = |source| format(SafeTensorError::InvalidHeaderDeserialization(source));
    let mut header: Header = serde_json::from_slice(header).map_err(json)?;
    let checksum = header.checksum(data).map_err(json)?;
    header.metadata.insert(CHECKSUM.to_owned(), checksum);
    header.file(data).map_err(json)
}

/// Truth values are bytes of 0 and 1. Floats of 8 bits and fewer, and complex numbers, are not
/// read.
fn burn_type(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::I64 => Some(DType::I64),
        Dtype::I32 => Some(DType::I32),
        Dtype::I16 => Some(DType::I16),
        Dtype::I8 => Some(DType::I8),
        Dtype::U64 => Some(DType::U64),
        Dtype::U32 => Some(DType::U32),
        Dtype::U16 => Some(DType::U16),
        Dtype::U8 | Dtype::BOOL => Some(DType::U8),
        _ => None,
    }
}
