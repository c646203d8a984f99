/// A tensor of a state, as floats.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Shape under PyTorch.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f32>,
}
