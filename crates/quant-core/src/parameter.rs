//! The learned parameters of the methods: their names, and the values that they may have. A
//! parameter of one method is declared in the file of that method, and one of several methods here.

/// A learned parameter: `[groups]` values, or `[count, groups]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parameter {
    /// The name in the module tree and in state dictionaries.
    pub name: &'static str,
    /// Which values the parameter may have.
    pub kind: ParameterKind,
}

/// The kinds of learned parameters, which differ in the values that they may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParameterKind {
    /// The end of a range of evenly spaced levels, above 0. When the number of levels changes, it
    /// is multiplied by (new - 1)/(old - 1), which keeps the step size.
    ClippingValue,
    /// Any other number above 0 that values or thresholds are proportional to, such as a step size,
    /// a slope or the width of an interval. It stays when the number of levels changes.
    Scale,
    /// Any finite number, such as an offset.
    Free,
}

impl Parameter {
    /// The clipping value of evenly spaced levels.
    pub const CLIPPING_VALUE: Parameter = Parameter::new("clip_val", ParameterKind::ClippingValue);
    /// The clipping value of levels that are not evenly spaced.
    pub const UNEVEN_CLIPPING_VALUE: Parameter = Parameter::new("clip_val", ParameterKind::Scale);
    /// The step size.
    pub const STEP_SIZE: Parameter = Parameter::new("step_size", ParameterKind::Scale);
    /// The number that is added to every level.
    pub const OFFSET: Parameter = Parameter::new("offset", ParameterKind::Free);
    /// The factor on the quantized value.
    pub const GAMMA: Parameter = Parameter::new("gamma", ParameterKind::Free);

    /// Returns the parameter with this name and kind.
    pub const fn new(name: &'static str, kind: ParameterKind) -> Self {
        Self { name, kind }
    }
}

/// The name of the running values that LQ-Nets and FATNN's closed form have: the basis, or the
/// least squares factor.
pub const BASIS: &str = "basis";
