//! Loops over a few numbers at once.

/// Numbers that are worked on together: the compiler turns them into vector registers.
pub(super) const LANES: usize = 64;

/// That many numbers.
pub(super) type Lanes = [f32; LANES];

/// f of each lane.
#[inline(always)]
pub(super) fn map(f: impl Fn(usize) -> f32) -> Lanes {
    let mut y = [0.0; LANES];
    for (lane, y) in y.iter_mut().enumerate() {
        *y = f(lane);
    }
    y
}

/// Adds to the sum of each lane.
#[inline(always)]
pub(super) fn add(sum: &mut Lanes, terms: Lanes) {
    for (sum, term) in sum.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// What is left over of a slice, filled up with zeros.
#[inline(always)]
fn padded(rest: &[f32]) -> Lanes {
    let mut lanes = [0.0; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// Writes f of the values in their place.
#[inline(always)]
pub(super) fn in_place(values: &mut [f32], f: impl Fn(Lanes) -> Lanes) {
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    for lanes in chunks {
        *lanes = f(*lanes);
    }
    let last = f(padded(rest));
    rest.copy_from_slice(&last[..rest.len()]);
}

/// Writes f of the input to the output, which is as long.
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

/// Runs `f` over x and the gradients, which its result replaces; it adds to the terms, whose sums
/// are returned.
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
    // The zeros beside them have no gradient, and so no terms.
    let last = f(padded(x_rest), padded(rest), &mut terms);
    rest.copy_from_slice(&last[..rest.len()]);
    terms.map(|lanes| lanes.iter().map(|lane| f64::from(*lane)).sum())
}
