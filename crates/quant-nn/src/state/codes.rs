//! Quantized weights as integers, as the bytes of a safetensors file.

use std::collections::HashMap;

use quant_core::WeightCodes;
use safetensors::{Dtype, tensor::TensorView};

use crate::error::NetworkError;

/// Returns the bytes of a safetensors file that has quantized weights as integers. For each layer,
/// it has three tensors:
///
/// - `<layer>.codes`, U8, with the shape of the weight: the code of each element
/// - `<layer>.values`, F32, `[groups, levels]`: the value that each code stands for in each group
/// - `<layer>.run`, I64, `[1]`: the number of successive elements of one group. Element i, counted
///   row by row, belongs to the group (i / run) mod groups.
///
/// # Errors
/// [`NetworkError::Unwritable`] if the format does not accept the tensors. This does not happen for
/// the weights of a network.
pub fn codes_file(weights: &[WeightCodes]) -> Result<Vec<u8>, NetworkError> {
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for weight in weights {
        let name = |part: &str| format!("{}.{part}", weight.layer);
        let values = weight.values.iter().flatten().flat_map(|value| value.to_le_bytes());
        let levels = weight.values.first().map_or(0, Vec::len);
        let run = (weight.run as i64).to_le_bytes().to_vec();
        tensors.push((name("codes"), Dtype::U8, weight.shape.clone(), weight.codes.clone()));
        let table = vec![weight.values.len(), levels];
        tensors.push((name("values"), Dtype::F32, table, values.collect()));
        tensors.push((name("run"), Dtype::I64, vec![1], run));
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(NetworkError::Unwritable)?;
    let about = HashMap::from([("format".to_owned(), "quantized weights".to_owned())]);
    safetensors::serialize(views, Some(about)).map_err(NetworkError::Unwritable)
}
