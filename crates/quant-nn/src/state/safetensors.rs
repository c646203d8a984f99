//! The safetensors format: reading every type that stands for numbers, writing floats.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use burn::tensor::{Bytes, DType, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::entry::Entry;
use crate::error::NetworkError;

/// What a file holds.
pub(super) struct Contents {
    /// Name, type and tensor.
    pub(super) entries: Vec<(String, String, Entry)>,
    /// Texts beside them.
    pub(super) metadata: HashMap<String, String>,
}

/// Reads the bytes of a file; `path` stands in messages.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Contents, NetworkError> {
    let format = |source| NetworkError::Format { path: path.to_owned(), source };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
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
    Ok(Contents { entries, metadata: header.metadata().clone().unwrap_or_default() })
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
    let metadata = (!metadata.is_empty()).then(|| metadata.clone());
    safetensors::serialize(views, metadata).map_err(format)
}

/// Truth values are bytes of 0 and 1. Floats of 8 bits and fewer, and complex numbers, are not read.
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
