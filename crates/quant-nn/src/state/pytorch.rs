//! Reading PyTorch's checkpoints: every format that `torch.save` has written. Nothing in a file is
//! executed; what a file claims is checked against what it holds.

use std::{fs, path::Path};

use burn::tensor::{Bytes, DType, TensorData};
use pytorch_reader::PytorchReader;

use super::entry::Entry;
use crate::error::NetworkError;

/// This many numbers are accepted of a file of any length: views may repeat what it stores.
const ALWAYS_ACCEPTED: u64 = 1 << 26;

/// The tensors of a checkpoint with their types, those of nested dictionaries under the keys joined
/// by dots: `state_dict.fc.weight`.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String, Entry)>, NetworkError> {
    let unreadable = |source| NetworkError::Pytorch { path: path.to_owned(), source };
    let reader = PytorchReader::new(path).map_err(unreadable)?;
    let io = |source| NetworkError::Io { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(io)?.len();
    // A view of stride 0 repeats one number for as long as it likes.
    let bound = length.saturating_mul(4).max(ALWAYS_ACCEPTED);
    let claimed: u128 = reader.tensors().values().map(|tensor| tensor.num_elements() as u128).sum();
    let too_large = || NetworkError::TooLarge { path: path.to_owned(), claimed, bound, length };
    if claimed > u128::from(bound) {
        return Err(too_large());
    }
    let mut entries = Vec::with_capacity(reader.len());
    for (name, tensor) in reader.into_tensors() {
        let shape = tensor.shape().to_vec();
        let dtype = burn_type(tensor.dtype());
        let bytes = tensor.read().map_err(|source| unreadable(source.into()))?;
        let data = TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape.clone(), dtype);
        let mut values = Vec::new();
        values.try_reserve_exact(tensor.num_elements()).map_err(|_| too_large())?;
        values.extend(data.convert::<f32>().iter::<f32>());
        let stored = format!("{:?}", tensor.dtype());
        entries.push((name, stored, Entry { shape, values }));
    }
    Ok(entries)
}

fn burn_type(dtype: pytorch_reader::DType) -> DType {
    use pytorch_reader::DType as Theirs;
    match dtype {
        Theirs::F64 => DType::F64,
        Theirs::F32 => DType::F32,
        Theirs::F16 => DType::F16,
        Theirs::BF16 => DType::BF16,
        Theirs::I64 => DType::I64,
        Theirs::I32 => DType::I32,
        Theirs::I16 => DType::I16,
        Theirs::I8 => DType::I8,
        Theirs::U64 => DType::U64,
        Theirs::U32 => DType::U32,
        Theirs::U16 => DType::U16,
        Theirs::U8 | Theirs::Bool => DType::U8,
    }
}
