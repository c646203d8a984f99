//! Reads PyTorch's checkpoints, in every format that `torch.save` has written. Nothing in a file is
//! executed, and the sizes that a file claims are compared with its length.

use std::{fs, path::Path};

use burn::tensor::{Bytes, DType, TensorData};
use pytorch_reader::PytorchReader;
use quant_nn::state::{Entry, StateDict};

use crate::error::TrainError;

/// This many numbers are accepted from a file of any length, because views may repeat stored
/// numbers.
const ALWAYS_ACCEPTED: u64 = 1 << 26;

/// Returns the tensors of a checkpoint. Those of nested dictionaries are named by their keys,
/// joined by dots: `state_dict.fc.weight`. A whole module that was saved gives its state.
///
/// # Errors
/// [`TrainError::Weights`].
pub(super) fn read(path: &Path) -> Result<StateDict, TrainError> {
    let fail = |reason: String| TrainError::Weights { path: path.to_owned(), reason };
    let unusable = |error: &dyn std::fmt::Display| {
        fail(format!("not a usable PyTorch checkpoint, or one that is cut short: {error}"))
    };
    let reader = PytorchReader::new(path).map_err(|error| unusable(&error))?;
    let length = fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    // A view of stride 0 can repeat one number any number of times.
    let bound = length.saturating_mul(4).max(ALWAYS_ACCEPTED);
    let claimed: u128 = reader.tensors().values().map(|tensor| tensor.num_elements() as u128).sum();
    let too_large = || {
        fail(format!(
            "its header announces {claimed} numbers, but a file of {length} bytes may have at most \
             {bound}"
        ))
    };
    if claimed > u128::from(bound) {
        return Err(too_large());
    }
    let mut entries = Vec::with_capacity(reader.len());
    for (name, tensor) in reader.into_tensors() {
        let shape = tensor.shape().to_vec();
        let dtype = burn_type(tensor.dtype());
        let unreadable =
            |error: std::io::Error| unusable(&pytorch_reader::PytorchError::from(error));
        let bytes = tensor.read().map_err(unreadable)?;
        let data = TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape.clone(), dtype);
        let mut values = Vec::new();
        values.try_reserve_exact(tensor.num_elements()).map_err(|_| too_large())?;
        values.extend(data.convert::<f32>().iter::<f32>());
        let stored = format!("{:?}", tensor.dtype());
        entries.push((name, stored, Entry { shape, values }));
    }
    Ok(StateDict::from_typed_entries(entries))
}

/// Truth values are stored as bytes of 0 and 1.
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
