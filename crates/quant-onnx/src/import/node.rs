//! A node of the file, and what its operator needs to know of it.

use crate::{
    OnnxError,
    proto::{AttributeProto, NodeProto, TensorProto},
};

/// A node that is being read.
pub(super) struct Reader<'a> {
    node: &'a NodeProto,
}

impl<'a> Reader<'a> {
    pub(super) fn new(node: &'a NodeProto) -> Self {
        Self { node }
    }

    pub(super) fn op(&self) -> &str {
        self.node.op_type.as_deref().unwrap_or_default()
    }

    pub(super) fn domain(&self) -> &str {
        self.node.domain.as_deref().unwrap_or_default()
    }

    /// The name of the node, or that of its first output.
    pub(super) fn name(&self) -> &str {
        match self.node.name.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => self.node.output.first().map_or("", String::as_str),
        }
    }

    pub(super) fn output(&self) -> &str {
        self.node.output.first().map_or("", String::as_str)
    }

    /// The inputs, without those at the end that are left out.
    pub(super) fn inputs(&self) -> &[String] {
        let mut inputs = &self.node.input[..];
        while let Some((last, rest)) = inputs.split_last() {
            if !last.is_empty() {
                break;
            }
            inputs = rest;
        }
        inputs
    }

    /// An input, if there is one.
    pub(super) fn optional(&self, at: usize) -> Option<&str> {
        self.node.input.get(at).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// An input that must be there.
    pub(super) fn input(&self, at: usize) -> Result<&str, OnnxError> {
        self.optional(at).ok_or_else(|| self.error(format!("has no input {at}")))
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
    }

    pub(super) fn int(&self, name: &str, usual: i64) -> i64 {
        self.attribute(name).and_then(|attribute| attribute.i).unwrap_or(usual)
    }

    pub(super) fn float(&self, name: &str, usual: f32) -> f32 {
        self.attribute(name).and_then(|attribute| attribute.f).unwrap_or(usual)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| &attribute.ints[..])
    }

    pub(super) fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name).map(|attribute| &attribute.floats[..])
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let bytes = self.attribute(name)?.s.as_ref()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    /// Sides that are numbers of 0 or more, such as strides.
    pub(super) fn sides(&self, name: &str) -> Result<Option<Vec<usize>>, OnnxError> {
        let Some(ints) = self.ints(name) else { return Ok(None) };
        let sides: Option<Vec<usize>> = (ints.iter())
            .map(|side| usize::try_from(*side).ok().filter(|side| *side <= 1 << 15))
            .collect();
        match sides {
            Some(sides) => Ok(Some(sides)),
            None => Err(self.error(format!("has the {name} {ints:?}"))),
        }
    }

    /// Two sides, by rows and columns.
    pub(super) fn pair(&self, name: &str, usual: usize) -> Result<[usize; 2], OnnxError> {
        match self.sides(name)?.as_deref() {
            None => Ok([usual; 2]),
            Some([rows, columns]) => Ok([*rows, *columns]),
            Some(sides) => Err(self.error(format!(
                "has the {name} {sides:?}, and must have one for rows and one for columns"
            ))),
        }
    }

    /// Returns an error of this node.
    pub(super) fn error(&self, problem: impl Into<String>) -> OnnxError {
        OnnxError::Node {
            node: self.name().to_owned(),
            op: self.op().to_owned(),
            problem: problem.into(),
        }
    }
}
