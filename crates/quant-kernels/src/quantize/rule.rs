//! What a quantizer does to one number, and how gradients pass it: the methods' formulas as the
//! kernels know them.

/// What is done to each element x of a tensor, by the parameters of its group. R rounds half to
/// even; u, v and k are those of the rule; g is the gradient that arrives. Terms of parameters are
/// summed over their group.
///
/// Where x is not a number, neither is the result. Infinities count as the ends of the range they
/// are clamped to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Parameter s. v = clamp(x/s, lo, 1); unsigned: lo = 0, u = v, m = 1, z = 0; signed: lo = -1,
    /// u = (v + 1)/2, m = 2, z = 1. y = (m·R(n·u)/n - z)·s.
    ///
    /// Strictly inside the clamp ∂x = k·g and ∂s = g·y/s - k·g·v; outside ∂x = 0 and ∂s = g·y/s.
    /// `learned_bound`: ∂s = g where x >= s, else 0; s may be any number there, and in all else the
    /// smallest normal one takes the place of a smaller s. k = 1, or with `ewgs` = d, k = 1 +
    /// d·sign(g)·(u - R(n·u)/n); `rescale` multiplies it by sqrt(elements / elements inside), over
    /// the whole tensor.
    Clip {
        /// n, one less than the number of levels.
        steps: f32,
        /// Whether the range is -s..s.
        signed: bool,
        /// Whether the clamp's gradient is rescaled.
        rescale: bool,
        /// Whether s has the gradient of the clamp's bound alone.
        learned_bound: bool,
        /// d of element-wise gradient scaling.
        ewgs: f32,
    },
    /// Parameters s and b. v = clamp((x - b)/s, lo, hi), y = R(v)·s + b.
    ///
    /// Inside ∂x = k·g, ∂s = g·R(v) - k·g·v and ∂b = g - k·g; outside ∂x = 0, ∂s = g·v and ∂b = g.
    /// k = 1 + d·sign(g)·(v - R(v))/(hi - lo).
    Step {
        /// lo.
        lowest: f32,
        /// hi.
        highest: f32,
        /// d of element-wise gradient scaling.
        ewgs: f32,
    },
    /// Parameters a_i, the slopes of one to three pieces. Unsigned: o_0 = 0, o_(i+1) = o_i + 1/a_i,
    /// u_i = (x - o_i)·a_i, y = the sum of R(clamp(u_i, 0, 1)). Signed, two pieces: y =
    /// R(clamp(x·a_0, -1, 0)) + R(clamp(x·a_1, 0, 1)).
    ///
    /// Strictly inside piece i ∂x = g·a_i and ∂a_i = g·(x - o_i), and ∂a_j = g·a_i/a_j² for the
    /// pieces j before it.
    Slopes {
        /// Number of pieces.
        pieces: usize,
        /// Whether the first piece lies below 0.
        signed: bool,
    },
    /// Parameters c, o and a_1..a_n. o_1 = o, o_(i+1) = o_i + a_i, u_i = (x - o_i)/a_i, y = c·(the
    /// sum of R(clamp(u_i, 0, 1))).
    ///
    /// ∂c = g·y/c. Strictly inside piece i ∂x = g·c/a_i, ∂o = -∂x, ∂a_j = -∂x for the pieces j
    /// before it, ∂a_i = -∂x·u_i.
    Intervals {
        /// n, at most [`MAX_INTERVALS`].
        pieces: usize,
    },
    /// Parameters P, N and D. y = P where x > D, -N where x < -D, else 0.
    ///
    /// ∂x = P·g, N·g and g; ∂P = g above, ∂N = -g below, ∂D = 0.
    Ternary,
    /// Parameters s, lo, hi, the ascending thresholds t_1..t_n and the values q_0..q_n. v = x/s, y
    /// = q_i·s, where i is the number of thresholds below v.
    ///
    /// Where lo < v < hi, ∂x = g and ∂s = g·(q_i - v); else ∂x = 0 and ∂s = g·q_i. The others have
    /// no gradient.
    Table {
        /// n.
        thresholds: usize,
    },
    /// Parameters b and c. y = c where x >= b, else -c.
    ///
    /// With m the estimator's slope at x - b: ∂x = g·m, ∂b = -g·m, and c has no gradient.
    Sign {
        /// Which slope.
        slope: SignSlope,
    },
}

/// Most pieces of [`Rule::Intervals`].
pub const MAX_INTERVALS: usize = 15;

/// What stands in for a sign's derivative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignSlope {
    /// 1.
    One,
    /// 1 where |x| < 1, else 0.
    Box,
    /// 2 - 2|x| where |x| < 1, else 0.
    Triangle,
}

impl Rule {
    /// Number of parameters of a group.
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

/// A rule, and how a tensor falls into groups: viewed as `[outer, groups, inner]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elementwise {
    /// What is done.
    pub rule: Rule,
    /// Outer dimensions, groups, inner dimensions.
    pub view: [usize; 3],
}
