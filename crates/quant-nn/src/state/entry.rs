//! A tensor of a state.

/// A tensor of a state. Its numbers are floats, whatever type they had in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The shape that the tensor has in PyTorch.
    pub shape: Vec<usize>,
    /// The elements, row by row (the last index changes fastest).
    pub values: Vec<f32>,
}
