//! Texts and bytes that processes exchange by sums.

use super::Group;
use crate::error::TrainError;

/// Returns the texts of all processes, in the order of the processes.
///
/// # Errors
/// The errors of [`Group::sum`].
pub(crate) fn gather_texts(
    group: &dyn Group,
    texts: Vec<String>,
) -> Result<Vec<String>, TrainError> {
    if group.size() == 1 {
        return Ok(texts);
    }
    let own: Vec<u8> = texts.iter().flat_map(|text| text.bytes().chain([0])).collect();
    let mut lengths = vec![0.0; group.size()];
    lengths[group.rank()] = own.len() as f64;
    let lengths: Vec<usize> = group.sum(lengths)?.into_iter().map(|n| n as usize).collect();
    let before: usize = lengths[..group.rank()].iter().sum();
    let mut bytes = vec![0.0; lengths.iter().sum()];
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    for (place, byte) in bytes[before..].iter_mut().zip(own) {
        *place = f32::from(byte);
    }
    let bytes: Vec<u8> = group.sum_f32(bytes)?.into_iter().map(|byte| byte as u8).collect();
    let texts = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty());
    Ok(texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect())
}

/// Returns in all processes the bytes that process 0 gives.
///
/// # Errors
/// The errors of [`Group::sum`].
pub(crate) fn broadcast(group: &dyn Group, bytes: Vec<u8>) -> Result<Vec<u8>, TrainError> {
    let first = group.rank() == 0;
    let length = group.sum(vec![if first { bytes.len() as f64 } else { 0.0 }])?[0] as usize;
    let values = if first { bytes.into_iter().map(f32::from).collect() } else { vec![0.0; length] };
    Ok(group.sum_f32(values)?.into_iter().map(|byte| byte as u8).collect())
}
