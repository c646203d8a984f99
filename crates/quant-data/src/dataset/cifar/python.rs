//! CIFAR's Python version: pickled dictionaries of a NumPy array and a list of labels.

use std::{borrow::Cow, path::Path};

use super::{
    kind::{CifarKind, IMAGE},
    pickle::{Id, Pickle, Value},
};
use crate::{error::DataError, files};

/// Reads the labels and the planar pixels of a file. `data` is an array of bytes of shape
/// `[images, 3 * 32 * 32]`, and the labels are under `labels` or, in CIFAR-100, `fine_labels`.
///
/// # Errors
/// [`DataError::Io`]; [`DataError::Cifar`] if the file is not such a pickle.
pub(super) fn read(path: &Path, kind: CifarKind) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let bytes = files::read(path, files::MOST_BYTES)?;
    images(&bytes, kind).map_err(|reason| DataError::Cifar { path: path.to_owned(), reason })
}

/// Reads the names of the classes from the file that lists them; `None` if there is no such file.
///
/// # Errors
/// As [`read`].
pub(super) fn class_names(path: &Path, key: &str) -> Result<Option<Vec<String>>, DataError> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = files::read(path, files::MOST_BYTES)?;
    let names = || {
        let pickle = Pickle::read(&bytes)?;
        let names = pickle.entry(pickle.root, key).and_then(|id| pickle.list(id));
        let names = names.ok_or_else(|| format!("it has no list {key:?}"))?;
        let text = |id: &Id| match pickle.text(*id) {
            Some(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            None => Err(format!("{key:?} does not consist of names")),
        };
        names.iter().map(text).collect::<Result<_, String>>().map(Some)
    };
    names().map_err(|reason| DataError::Cifar { path: path.to_owned(), reason })
}

fn images(bytes: &[u8], kind: CifarKind) -> Result<(Vec<usize>, Vec<u8>), String> {
    let pickle = Pickle::read(bytes)?;
    let labels = match kind {
        CifarKind::Cifar10 => "labels",
        CifarKind::Cifar100 => "fine_labels",
    };
    let entry = |key: &str| {
        let entry = pickle.entry(pickle.root, key);
        entry.ok_or_else(|| format!("it is not a dictionary with an entry {key:?}"))
    };
    let labels = integers(&pickle, entry(labels)?).map_err(|why| format!("{labels}: {why}"))?;
    let data = array(&pickle, entry("data")?).map_err(|why| format!("data: {why}"))?;
    let expected = [vec![labels.len(), IMAGE], vec![labels.len(), 3, 32, 32]];
    if !expected.contains(&data.shape) || data.element != Element::BYTE {
        return Err(format!(
            "data is an array {:?} of {}: expected bytes (uint8), [{}, {IMAGE}], for {} labels",
            data.shape,
            data.element.name(),
            labels.len(),
            labels.len()
        ));
    }
    let positive = |label: i64| {
        usize::try_from(label).map_err(|_| format!("a label is {label}: expected 0 or more"))
    };
    let labels = labels.into_iter().map(positive).collect::<Result<_, _>>()?;
    Ok((labels, data.bytes.into_owned()))
}

/// The type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Element {
    /// NumPy's letter: u for unsigned integers, i for signed integers, f for floats.
    kind: u8,
    size: usize,
    big_endian: bool,
}

impl Element {
    const BYTE: Self = Self { kind: b'u', size: 1, big_endian: false };

    fn name(self) -> String {
        format!("{}{}", char::from(self.kind), self.size)
    }

    /// Reads an integer of this type.
    fn integer(self, bytes: &[u8]) -> Result<i64, String> {
        if !matches!(self.kind, b'u' | b'i') {
            return Err(format!("numbers of the type {}: expected integers", self.name()));
        }
        let mut bytes = bytes.to_vec();
        if self.big_endian {
            bytes.reverse();
        }
        let negative = self.kind == b'i' && bytes.last().is_some_and(|last| *last >= 0x80);
        bytes.resize(8, if negative { 0xff } else { 0 });
        let bytes = bytes.try_into().map_err(|_| "an integer of more than 8 bytes")?;
        Ok(i64::from_le_bytes(bytes))
    }
}

/// A NumPy array in C order.
struct Array<'a> {
    shape: Vec<usize>,
    element: Element,
    /// The elements; the length is the product of the shape times the size of an element.
    bytes: Cow<'a, [u8]>,
}

/// Returns the array that an object describes, in either of the forms that NumPy pickles: an empty
/// array whose state is set, or (protocol 5) an array over a buffer.
fn array<'a>(pickle: &Pickle<'a>, id: Id) -> Result<Array<'a>, String> {
    let object = call(pickle, id).ok_or("it is not a NumPy array")?;
    let unexpected = || format!("a NumPy array with an unknown description by {}", object.name);
    let (shape, element, fortran, bytes) = match (object.name.as_str(), object.state) {
        ("numpy.core.multiarray._reconstruct", Some([_version, shape, element, order, bytes])) => {
            (shape, element, matches!(pickle.value(*order), Value::Int(1)), bytes)
        }
        ("numpy.core.numeric._frombuffer", _) => {
            let [bytes, element, shape, order] = object.arguments else {
                return Err(unexpected());
            };
            (shape, element, pickle.text(*order).as_deref() != Some(b"C"), bytes)
        }
        _ => return Err(unexpected()),
    };
    if fortran {
        return Err("the array is in Fortran order; save numpy.ascontiguousarray(array)".into());
    }
    let shape = pickle.list(*shape).ok_or_else(unexpected)?.iter();
    let shape = shape.map(|size| match pickle.value(*size) {
        Value::Int(size) => usize::try_from(*size).map_err(|_| unexpected()),
        _ => Err(unexpected()),
    });
    let shape: Vec<usize> = shape.collect::<Result<_, _>>()?;
    let element = element_type(pickle, *element)?;
    let bytes = pickle.bytes(*bytes).ok_or_else(unexpected)?;
    let length = shape.iter().try_fold(element.size, |product, size| product.checked_mul(*size));
    if length != Some(bytes.len()) {
        let (name, length) = (element.name(), bytes.len());
        return Err(format!("an array {shape:?} of {name} with {length} bytes"));
    }
    Ok(Array { shape, element, bytes })
}

/// Returns a list of integers, which may be plain ones, NumPy scalars, or an array.
fn integers(pickle: &Pickle, id: Id) -> Result<Vec<i64>, String> {
    if let Some(items) = pickle.list(id) {
        return items.iter().map(|item| integer(pickle, *item)).collect();
    }
    let array = array(pickle, id).map_err(|_| "expected a list of integers")?;
    match array.shape.len() {
        1 => array.bytes.chunks(array.element.size).map(|x| array.element.integer(x)).collect(),
        _ => Err(format!("an array {:?}: expected a list of integers", array.shape)),
    }
}

fn integer(pickle: &Pickle, id: Id) -> Result<i64, String> {
    if let Value::Int(integer) = pickle.value(id) {
        return Ok(*integer);
    }
    let unexpected = "expected integers";
    let scalar = call(pickle, id).filter(|call| call.name == "numpy.core.multiarray.scalar");
    let [element, bytes] = scalar.ok_or(unexpected)?.arguments else {
        return Err(unexpected.into());
    };
    let element = element_type(pickle, *element)?;
    let bytes = pickle.text(*bytes).filter(|bytes| bytes.len() == element.size);
    element.integer(&bytes.ok_or(unexpected)?)
}

/// Returns the type that a `numpy.dtype` describes. Its first argument is a code such as `u1`, and
/// the second item of its state is the order of bytes.
fn element_type(pickle: &Pickle, id: Id) -> Result<Element, String> {
    let unexpected = || "the elements of an array are not of a known numeric type".to_owned();
    let object = call(pickle, id).filter(|object| object.name == "numpy.dtype");
    let object = object.ok_or_else(unexpected)?;
    let code = object.arguments.first().and_then(|code| pickle.text(*code));
    let code = code.ok_or_else(unexpected)?;
    let order = object.state.and_then(|state| pickle.text(*state.get(1)?));
    let (Some((kind @ (b'u' | b'i' | b'f'), size)), order) = (code.split_first(), order) else {
        return Err(unexpected());
    };
    let size = match size {
        b"1" => 1,
        b"2" => 2,
        b"4" => 4,
        b"8" => 8,
        _ => return Err(unexpected()),
    };
    let big_endian = size > 1 && order.as_deref() == Some(b">");
    Ok(Element { kind: *kind, size, big_endian })
}

/// An object, as the call with which Python would create it.
struct Call<'p> {
    /// Module and name of the function, with the names of NumPy 1.
    name: String,
    arguments: &'p [Id],
    state: Option<&'p [Id]>,
}

fn call<'p>(pickle: &'p Pickle, id: Id) -> Option<Call<'p>> {
    let Value::Call { function, arguments, state } = pickle.value(id) else {
        return None;
    };
    let Value::Global { module, name } = pickle.value(*function) else {
        return None;
    };
    let text = |id: Id| Some(String::from_utf8_lossy(&pickle.text(id)?).into_owned());
    let name = format!("{}.{}", text(*module)?.replace("numpy._core", "numpy.core"), text(*name)?);
    let arguments = pickle.list(*arguments)?;
    Some(Call { name, arguments, state: state.and_then(|state| pickle.list(state)) })
}
