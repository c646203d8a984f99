//! Compares the loops with values computed by hand from the formulas of [`Rule`]. `quant-core`
//! compares them with tensor operations.

use std::vec::Vec;

use super::*;

/// With n = 2, the levels are 0, s/2 and s.
const CLIP: Rule =
    Rule::Clip { steps: 2.0, signed: false, rescale: false, learned_bound: false, ewgs: 0.0 };

fn whole(rule: Rule, elements: usize) -> Elementwise {
    Elementwise { rule, view: [1, 1, elements] }
}

#[test]
fn a_clip_rounds_half_to_even_and_stops_at_its_bounds() {
    // The products n·u are 0.5, 1.5, 3.4 (clamped to 2), and a negative number.
    let x = [0.25, 0.75, 1.7, -3.0];
    assert_eq!(quantize(&x, &[1.0], whole(CLIP, 4)), [0.0, 1.0, 1.0, 0.0]);
}

#[test]
fn a_clips_gradients_are_those_of_its_formula() {
    let x = [0.25, 0.75, 1.7, -3.0];
    let mut gradient = [2.0; 4];
    let of_scale = quantize_backward(&x, &[1.0], &mut gradient, whole(CLIP, 4));
    assert_eq!(gradient, [2.0, 2.0, 0.0, 0.0]);
    // The terms are g·(y/s - v) inside and g·y/s outside: 2·(0 - 0.25), 2·(1 - 0.75), 2·1, 2·0.
    assert_eq!(of_scale, [2.0]);
}

#[test]
fn each_group_has_its_own_parameters() {
    // Each group has two rows. The parameters P, N and D are 1, 2, 0.5 and 3, 4, 1.5.
    let operation = Elementwise { rule: Rule::Ternary, view: [2, 2, 2] };
    let parameters = [1.0, 2.0, 0.5, 3.0, 4.0, 1.5];
    let x = [1.0, -1.0, 1.0, -1.0, 0.5, -2.0, 2.0, -2.0];
    let y = quantize(&x, &parameters, operation);
    assert_eq!(y, [1.0, -2.0, 0.0, 0.0, 0.0, -2.0, 3.0, -4.0]);
    let by_parameters = quantize_backward(&x, &parameters, &mut [1.0; 8], operation);
    // ∂P counts the elements above D, ∂N the negated ones below -D, and ∂D is 0.
    assert_eq!(by_parameters, [1.0, -2.0, 0.0, 1.0, -1.0, 0.0]);
}

#[test]
fn what_is_written_in_place_is_what_is_returned() {
    let x: Vec<f32> = (0..CHUNK + 100).map(|i| (i as f32 * 0.37).sin() * 2.0).collect();
    for (rule, parameters) in [
        (CLIP, &[0.8][..]),
        (Rule::Step { lowest: -2.0, highest: 1.0, ewgs: 0.0 }, &[0.5, 0.1]),
        (Rule::Sign { slope: SignSlope::Box }, &[0.2, 0.7]),
        (Rule::Table { thresholds: 1 }, &[1.0, -1.0, 1.0, 0.1, -0.5, 0.5]),
    ] {
        let mut in_place = x.clone();
        quantize_in_place(&mut in_place, parameters, whole(rule, x.len()));
        assert_eq!(in_place, quantize(&x, parameters, whole(rule, x.len())), "{rule:?}");
    }
}

#[test]
fn a_threshold_is_counted_where_x_is_above_it() {
    let x = [-1.0, 0.0, 0.5, f32::NAN, 0.5, 2.0];
    let thresholds = [0.0, 1.0, 0.4, 0.5];
    let counts = count_below(&x, &thresholds, [1, 2, 3], 2);
    assert_eq!(counts, [0.0, 0.0, 1.0, 0.0, 1.0, 2.0]);
}

#[test]
#[should_panic(expected = "parameters of groups")]
fn parameters_of_another_number_of_groups_are_refused() {
    quantize(&[0.0; 4], &[1.0, 1.0], whole(CLIP, 4));
}
