//! Constants of a file.

use crate::{
    OnnxError,
    proto::{TensorProto, data_type},
};

/// The most elements of all constants of a file.
const MAX_ELEMENTS: usize = 1 << 28;

/// The numbers of a constant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Data {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Floats(numbers) => numbers.len(),
            Self::Integers(numbers) => numbers.len(),
        }
    }
}

/// The integers of a quantized constant: element i is scale·integers\[i\], where scales has one
/// number for all elements or one for each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grid {
    pub(crate) integers: Vec<i32>,
    pub(crate) scales: Vec<f32>,
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Data,
    /// Present if the constant went through a quantizer.
    pub(crate) grid: Option<Grid>,
}

impl Constant {
    pub(crate) fn integers(numbers: Vec<i64>) -> Self {
        Self { dims: vec![numbers.len()], data: Data::Integers(numbers), grid: None }
    }

    /// The numbers as floats.
    pub(crate) fn floats(&self) -> Vec<f32> {
        match &self.data {
            Data::Floats(numbers) => numbers.clone(),
            Data::Integers(numbers) => numbers.iter().map(|number| *number as f32).collect(),
        }
    }

    /// The numbers as integers, without their fractions.
    pub(crate) fn whole(&self) -> Vec<i64> {
        match &self.data {
            Data::Floats(numbers) => numbers.iter().map(|number| *number as i64).collect(),
            Data::Integers(numbers) => numbers.clone(),
        }
    }

    /// The only number, as a float.
    pub(crate) fn single(&self) -> Option<f32> {
        (self.data.len() == 1).then(|| self.floats()[0])
    }
}

/// Returns how many elements a shape has.
pub(crate) fn elements(dims: &[usize]) -> Option<usize> {
    dims.iter()
        .try_fold(1usize, |product, dim| product.checked_mul(*dim))
        .filter(|count| *count <= MAX_ELEMENTS)
}

/// Reads a constant.
pub(crate) fn read(tensor: &TensorProto) -> Result<Constant, OnnxError> {
    let name = tensor.name.as_deref().unwrap_or("without a name");
    let problem = |text: String| OnnxError::File(format!("has a constant {name} that {text}"));
    if tensor.data_location == Some(1) || !tensor.external_data.is_empty() {
        return Err(problem(
            "is stored in another file, which is not beside this one; copy it there, or save the \
             model with all data in one file (onnx.save with save_as_external_data=False)"
                .into(),
        ));
    }
    let dims: Option<Vec<usize>> =
        tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    let dims = dims.ok_or_else(|| problem(format!("has the shape {:?}", tensor.dims)))?;
    let count = elements(&dims).ok_or_else(|| problem("has too many elements".into()))?;
    let kind = tensor.data_type.unwrap_or(0);
    let data = match &tensor.raw_data {
        Some(bytes) => from_bytes(kind, bytes, count),
        None => from_fields(kind, tensor, count),
    };
    let data = data.ok_or_else(|| {
        problem(format!("has the type {kind}, which is not a type of numbers that can be read"))
    })?;
    if data.len() != count {
        return Err(problem(format!("has {} numbers for the shape {dims:?}", data.len())));
    }
    Ok(Constant { dims, data, grid: None })
}

/// Numbers of the bytes of a file. `None` for a type that is not known.
fn from_bytes(kind: i32, bytes: &[u8], count: usize) -> Option<Data> {
    fn of<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (chunks, _) = bytes.as_chunks::<N>();
        chunks.iter().map(|chunk| number(*chunk)).collect()
    }
    let integers = |numbers: Vec<i64>| Some(Data::Integers(numbers));
    match kind {
        data_type::FLOAT => Some(Data::Floats(of(bytes, f32::from_le_bytes))),
        data_type::DOUBLE => Some(Data::Floats(of(bytes, |b| f64::from_le_bytes(b) as f32))),
        data_type::FLOAT16 => Some(Data::Floats(of(bytes, |b| half(u16::from_le_bytes(b))))),
        data_type::BFLOAT16 => {
            let number = |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
            Some(Data::Floats(of(bytes, number)))
        }
        data_type::UINT8 | data_type::BOOL => integers(of(bytes, |[b]| i64::from(b))),
        data_type::INT8 => integers(of(bytes, |[b]| i64::from(b as i8))),
        data_type::UINT16 => integers(of(bytes, |b| i64::from(u16::from_le_bytes(b)))),
        data_type::INT16 => integers(of(bytes, |b| i64::from(i16::from_le_bytes(b)))),
        data_type::INT32 => integers(of(bytes, |b| i64::from(i32::from_le_bytes(b)))),
        data_type::UINT32 => integers(of(bytes, |b| i64::from(u32::from_le_bytes(b)))),
        data_type::INT64 => integers(of(bytes, i64::from_le_bytes)),
        data_type::UINT64 => {
            integers(of(bytes, |b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX)))
        }
        data_type::UINT4 | data_type::INT4 => {
            Some(Data::Integers(small(bytes, 4, kind == data_type::INT4, count)))
        }
        data_type::UINT2 | data_type::INT2 => {
            Some(Data::Integers(small(bytes, 2, kind == data_type::INT2, count)))
        }
        _ => None,
    }
}

/// Integers of a few bits, the least significant first.
fn small(bytes: &[u8], bits: u32, signed: bool, count: usize) -> Vec<i64> {
    let per_byte = (8 / bits) as usize;
    let mut numbers = Vec::with_capacity(count.min(bytes.len() * per_byte));
    for byte in bytes {
        for place in 0..per_byte as u32 {
            let code = i64::from(byte >> (place * bits) & ((1 << bits) - 1));
            let negative = signed && code >> (bits - 1) == 1;
            numbers.push(if negative { code - (1 << bits) } else { code });
        }
    }
    // The last byte may have places that are not used.
    if numbers.len() >= count && numbers.len() - count < per_byte {
        numbers.truncate(count);
    }
    numbers
}

/// Numbers of the fields that hold numbers one by one.
fn from_fields(kind: i32, tensor: &TensorProto, count: usize) -> Option<Data> {
    let short = || tensor.int32_data.iter().map(|number| i64::from(*number));
    match kind {
        data_type::FLOAT => Some(Data::Floats(tensor.float_data.clone())),
        data_type::DOUBLE => {
            Some(Data::Floats(tensor.double_data.iter().map(|number| *number as f32).collect()))
        }
        data_type::FLOAT16 => {
            Some(Data::Floats(tensor.int32_data.iter().map(|bits| half(*bits as u16)).collect()))
        }
        data_type::INT64 => Some(Data::Integers(tensor.int64_data.clone())),
        data_type::UINT32 | data_type::UINT64 => {
            let number = |number: &u64| i64::try_from(*number).unwrap_or(i64::MAX);
            Some(Data::Integers(tensor.uint64_data.iter().map(number).collect()))
        }
        data_type::UINT4 | data_type::INT4 | data_type::UINT2 | data_type::INT2 => {
            let bytes: Vec<u8> = short().map(|number| number as u8).collect();
            from_bytes(kind, &bytes, count)
        }
        data_type::UINT8
        | data_type::INT8
        | data_type::UINT16
        | data_type::INT16
        | data_type::INT32
        | data_type::BOOL => Some(Data::Integers(short().collect())),
        _ => None,
    }
}

/// Returns the number of a 16-bit float.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_have_their_numbers() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 2f32.powi(-24)),
            (0x7bff, 65504.0),
            (0x3555, 0.333_251_95),
        ];
        for (bits, number) in cases {
            assert_eq!(half(bits), number);
        }
        assert_eq!(half(0xfc00), f32::NEG_INFINITY);
    }

    #[test]
    fn small_integers_are_packed_from_the_least_significant_bit() {
        assert_eq!(small(&[0x1f, 0x02], 4, true, 3), [-1, 1, 2]);
        assert_eq!(small(&[0b11_10_01_00], 2, false, 4), [0, 1, 2, 3]);
        assert_eq!(small(&[0b11_10_01_00], 2, true, 4), [0, 1, -2, -1]);
    }

    #[test]
    fn a_constant_in_another_file_is_refused_with_what_to_do() {
        let tensor = TensorProto {
            name: Some("w".into()),
            data_location: Some(1),
            ..TensorProto::default()
        };
        let error = read(&tensor).unwrap_err().to_string();
        assert!(
            error.contains("constant w that is stored in another file, which is not"),
            "{error}"
        );
    }
}
