//! The formula by which a quantizer changes one number, and the formula of its gradient, in the
//! form in which the kernels use them.

/// The formula for each element x of a tensor, with the parameters of its group. R rounds to the
/// nearest integer, and half to even; u, v and k are defined by each rule; g is the gradient of the
/// result. The terms of a parameter's gradient are summed over its group.
///
/// NaN stays NaN. Infinities count as the ends of the range to which they are clamped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Clamping and rounding to a uniform grid. Parameter s. v = clamp(x/s, lo, 1); unsigned: lo =
    /// 0, u = v, m = 1, z = 0; signed: lo = -1, u = (v + 1)/2, m = 2, z = 1. y = (m·R(n·u)/n -
    /// z)·s.
    ///
    /// Strictly inside the clamp ∂x = k·g and ∂s = g·y/s - k·g·v; outside ∂x = 0 and ∂s = g·y/s.
    /// With `learned_bound`, ∂s = g where x >= s, else 0; s may be any number there, and everywhere
    /// else the smallest normal number replaces a smaller s. k = 1, or with `ewgs` = d, k = 1 +
    /// d·sign(g)·(u - R(n·u)/n); `rescale` multiplies k by sqrt(elements / elements inside), over
    /// the whole tensor.
    Clip {
        /// The number n, one less than the number of levels.
        steps: f32,
        /// Whether the range is -s..s instead of 0..s.
        signed: bool,
        /// Whether gradients are rescaled for the elements that are clamped.
        rescale: bool,
        /// Whether s only has the gradient of the clamp's upper bound.
        learned_bound: bool,
        /// The factor d of element-wise gradient scaling (EWGS).
        ewgs: f32,
    },
    /// Rounding with a step size and an offset. Parameters s and b. v = clamp((x - b)/s, lo, hi),
    /// y = R(v)·s + b.
    ///
    /// Inside ∂x = k·g, ∂s = g·R(v) - k·g·v and ∂b = g - k·g; outside ∂x = 0, ∂s = g·v and ∂b = g.
    /// k = 1 + d·sign(g)·(v - R(v))/(hi - lo).
    Step {
        /// The lower bound lo.
        lowest: f32,
        /// The upper bound hi.
        highest: f32,
        /// The factor d of element-wise gradient scaling (EWGS).
        ewgs: f32,
    },
    /// A sum of rounded pieces given by their slopes. Parameters a_i, the slopes of one to three
    /// pieces. Unsigned: o_0 = 0, o_(i+1) = o_i + 1/a_i, u_i = (x - o_i)·a_i, y = the sum of
    /// R(clamp(u_i, 0, 1)). Signed, two pieces: y = R(clamp(x·a_0, -1, 0)) + R(clamp(x·a_1, 0, 1)).
    ///
    /// Strictly inside piece i ∂x = g·a_i and ∂a_i = g·(x - o_i), and ∂a_j = g·a_i/a_j² for the
    /// pieces j before it.
    Slopes {
        /// Number of pieces.
        pieces: usize,
        /// Whether the first piece lies below 0.
        signed: bool,
    },
    /// A sum of rounded pieces given by their widths. Parameters c, o and a_1..a_n. o_1 = o,
    /// o_(i+1) = o_i + a_i, u_i = (x - o_i)/a_i, y = c·(the sum of R(clamp(u_i, 0, 1))).
    ///
    /// ∂c = g·y/c. Strictly inside piece i ∂x = g·c/a_i, ∂o = -∂x, ∂a_j = -∂x for the pieces j
    /// before it, ∂a_i = -∂x·u_i.
    Intervals {
        /// The number of pieces n, at most [`MAX_INTERVALS`].
        pieces: usize,
    },
    /// Three levels. Parameters P, N and D. y = P where x > D, y = -N where x < -D, and y = 0
    /// elsewhere.
    ///
    /// In these three ranges, ∂x = P·g, N·g and g. ∂P = g where x > D, ∂N = -g where x < -D, and
    /// ∂D = 0.
    Ternary,
    /// A table of thresholds and values. Parameters s, lo, hi, the ascending thresholds t_1..t_n
    /// and the values q_0..q_n. v = x/s, y = q_i·s, where i is the number of thresholds below v.
    ///
    /// Where lo < v < hi, ∂x = g and ∂s = g·(q_i - v); elsewhere ∂x = 0 and ∂s = g·q_i. The other
    /// parameters have no gradient.
    Table {
        /// The number of thresholds n.
        thresholds: usize,
    },
    /// Two levels. Parameters b and c. y = c where x >= b, else -c.
    ///
    /// With m the slope of the gradient estimator at x - b: ∂x = g·m, ∂b = -g·m, and c has no
    /// gradient.
    Sign {
        /// The gradient estimator.
        slope: SignSlope,
    },
}

/// The largest number of pieces of [`Rule::Intervals`].
pub const MAX_INTERVALS: usize = 15;

/// The gradient estimator of a sign: the slope that replaces its derivative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignSlope {
    /// The slope is 1 everywhere.
    One,
    /// The slope is 1 where |x| < 1, else 0.
    Box,
    /// The slope is 2 - 2|x| where |x| < 1, else 0.
    Triangle,
}

impl Rule {
    /// Returns the number of parameters of a group.
    pub fn parameters(self) -> usize {
        match self {
            Rule::Clip { .. } => 1,
            Rule::Step { .. } | Rule::Sign { .. } => 2,
            Rule::Slopes { pieces, .. } => pieces,
            Rule::Intervals { pieces } => 2 + pieces,
            Rule::Ternary => 3,
            Rule::Table { thresholds } => 4 + 2 * thresholds,
        }
    }
}

/// A rule, and how a tensor is divided into groups: it is viewed as `[outer, groups, inner]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elementwise {
    /// The formula for each element.
    pub rule: Rule,
    /// The sizes of the outer dimensions, the groups and the inner dimensions.
    pub view: [usize; 3],
}
