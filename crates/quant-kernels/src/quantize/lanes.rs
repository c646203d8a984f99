//! Loops that process several numbers at the same time.

/// Number of values that are processed together, which the compiler keeps in vector registers.
pub(super) const LANES: usize = 64;

/// A block of [`LANES`] numbers.
pub(super) type Lanes = [f32; LANES];

/// Returns f of the index of each lane.
#[inline(always)]
pub(super) fn map(f: impl Fn(usize) -> f32) -> Lanes {
    let mut y = [0.0; LANES];
    for (lane, y) in y.iter_mut().enumerate() {
        *y = f(lane);
    }
    y
}

/// Adds the terms to the sum of each lane.
#[inline(always)]
pub(super) fn add(sum: &mut Lanes, terms: Lanes) {
    for (sum, term) in sum.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// Returns the remainder of a slice, padded with zeros to a whole block.
#[inline(always)]
fn padded(rest: &[f32]) -> Lanes {
    let mut lanes = [0.0; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// Replaces the values by f of the values.
#[inline(always)]
pub(super) fn in_place(values: &mut [f32], f: impl Fn(Lanes) -> Lanes) {
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    for lanes in chunks {
        *lanes = f(*lanes);
    }
    let last = f(padded(rest));
    rest.copy_from_slice(&last[..rest.len()]);
}

/// Writes f of the input to the output, which has the same length.
#[inline(always)]
pub(super) fn into(input: &[f32], output: &mut [f32], f: impl Fn(Lanes) -> Lanes) {
    let ((input, input_rest), (output, rest)) =
        (input.as_chunks::<LANES>(), output.as_chunks_mut::<LANES>());
    for (x, y) in input.iter().zip(output) {
        *y = f(*x);
    }
    let last = f(padded(input_rest));
    rest.copy_from_slice(&last[..rest.len()]);
}

/// Calls `f` with blocks of x and of the gradients, and replaces the gradients by its result. `f`
/// adds to the terms; their sums over all lanes are returned.
#[inline(always)]
pub(super) fn sum_lanes<const T: usize>(
    x: &[f32],
    gradient: &mut [f32],
    f: impl Fn(Lanes, Lanes, &mut [Lanes; T]) -> Lanes,
) -> [f64; T] {
    let mut terms = [[0f32; LANES]; T];
    let ((x, x_rest), (gradient, rest)) =
        (x.as_chunks::<LANES>(), gradient.as_chunks_mut::<LANES>());
    for (x, gradient) in x.iter().zip(gradient) {
        *gradient = f(*x, *gradient, &mut terms);
    }
    // The zeros of the padding have no gradient, and therefore no terms.
    let last = f(padded(x_rest), padded(rest), &mut terms);
    rest.copy_from_slice(&last[..rest.len()]);
    terms.map(|lanes| lanes.iter().map(|lane| f64::from(*lane)).sum())
}
