use super::*;

/// The number of terms, and the integers of the first, after checking every value.
fn found(values: &[f32], levels: usize) -> Option<(usize, Vec<i16>)> {
    let terms = terms(values, levels)?;
    for (group, row) in values.chunks(levels).enumerate() {
        let exact: Vec<f64> = row.iter().copied().map(f64::from).collect();
        for (code, value) in exact.iter().enumerate() {
            let sum: f64 = (terms.0.iter())
                .map(|term| {
                    let group = |count: usize| if count == 1 { 0 } else { group };
                    let integers = &term.integers[group(term.integers.len() / levels) * levels..];
                    f64::from(term.scales[group(term.scales.len())]) * f64::from(integers[code])
                })
                .sum();
            assert!((sum - value).abs() <= tolerance(&exact), "{sum} is not {value}");
        }
        assert!(terms.0.iter().all(|term| term.scales.iter().all(|scale| *scale != 0.0)));
    }
    Some((terms.0.len(), terms.0[0].integers.clone()))
}

#[test]
fn unsigned_codes_are_their_own_integers() {
    let values: Vec<f32> = (0..4).map(|code| code as f32 / 3.0 * 0.7).collect();
    assert_eq!(found(&values, 4), Some((1, vec![0, 1, 2, 3])));
}

#[test]
fn symmetric_values_are_odd_integers() {
    let values: Vec<f32> = (0..4).map(|c| (2.0 * (c as f32 / 3.0) - 1.0) * 1.3).collect();
    assert_eq!(found(&values, 4), Some((1, vec![-3, -1, 1, 3])));
    let eight: Vec<f32> = (0..256).map(|c| (2.0 * (c as f32 / 255.0) - 1.0) * 0.017).collect();
    let (count, integers) = found(&eight, 256).unwrap();
    assert_eq!((count, integers[0], integers[1], integers[255]), (1, -255, -253, 255));
}

#[test]
fn any_offset_takes_a_second_term_of_ones() {
    let values: Vec<f32> = (0..8).map(|code| code as f32 * 0.1 - 0.237).collect();
    let terms = terms(&values, 8).unwrap();
    assert_eq!(terms.0.len(), 2);
    assert_eq!(terms.0[0].integers, (0..8).collect::<Vec<i16>>());
    assert_eq!(terms.0[1].integers, [1; 8]);
    assert_eq!(found(&values, 8).map(|(count, _)| count), Some(2));
}

#[test]
fn groups_share_integers_and_have_their_own_scales() {
    let values = [0.0, 0.5, 1.0, 1.5, 0.0, 0.3, 0.6, 0.9];
    let terms = terms(&values, 4).unwrap();
    assert_eq!(terms.0[0].integers, [0, 1, 2, 3]);
    assert_eq!(terms.0[0].scales.len(), 2);
}

#[test]
fn equal_groups_become_one() {
    let values = [-1.0, 1.0, -1.0, 1.0];
    assert_eq!(terms(&values, 2).unwrap().0[0].scales, [1.0]);
}

#[test]
fn a_group_of_zeros_has_zeros_as_integers() {
    let values = [0.0, 0.0, -0.5, 0.5];
    let terms = terms(&values, 2).unwrap();
    assert_eq!(terms.0[0].scales, [1.0, 0.5]);
    assert_eq!(terms.0[0].integers, [0, 0, -1, 1]);
    assert_eq!(found(&[0.0; 6], 3), Some((1, vec![0; 3])));
}

#[test]
fn powers_of_two_are_multiples_of_a_unit() {
    let values = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0].map(|level: f32| level / 10.0 * 0.77);
    assert_eq!(found(&values, 8), Some((1, vec![0, 1, 2, 3, 4, 6, 8, 10])));
}

#[test]
fn three_levels_of_two_magnitudes_are_two_masks() {
    let terms = terms(&[-0.618_034, 0.0, 1.0], 3).unwrap();
    assert_eq!(terms.0[0].integers, [1, 0, 0]);
    assert_eq!(terms.0[1].integers, [0, 0, 1]);
    assert_eq!([terms.0[0].scales[0], terms.0[1].scales[0]], [-0.618_034, 1.0]);
}

/// Sums over the subsets of a basis, in ascending order.
fn sums(basis: &[f32], off: f32) -> Vec<f32> {
    let sum = |set: usize| {
        let digit = |at: usize| if set >> at & 1 == 1 { 1.0 } else { off };
        basis.iter().enumerate().fold(0.0, |sum, (at, number)| sum + number * digit(at))
    };
    let mut sums: Vec<f32> = (0..1 << basis.len()).map(sum).collect();
    sums.sort_by(f32::total_cmp);
    sums
}

#[test]
fn a_basis_takes_a_term_for_each_of_its_numbers() {
    for basis in [
        &[0.137_183, 0.291_417][..],
        &[0.091_711, 0.503_331, 0.117_713],
        &[1.031_933, -0.212_717, 0.444_107, 0.071_311],
    ] {
        for off in [0.0, -1.0] {
            let values = sums(basis, off);
            let (count, integers) = found(&values, values.len()).unwrap();
            assert_eq!(count, basis.len(), "{basis:?} {off}");
            assert!(integers.iter().all(|integer| integer.abs() <= 1));
        }
    }
}

#[test]
fn a_basis_of_eight_numbers_is_found() {
    let basis = [0.011, 0.0231, 0.0467, 0.0881, 0.1741, 0.3517, 0.7083, 1.4129];
    assert_eq!(found(&sums(&basis, -1.0), 256).map(|(count, _)| count), Some(8));
}

#[test]
fn a_few_values_of_any_kind_take_one_term_each() {
    let values = [-1.712_339, -0.333_107, 0.271_921, 0.991_703, 2.518_361];
    assert_eq!(found(&values, 5).map(|(count, _)| count), Some(5));
}

#[test]
fn many_values_of_any_kind_have_no_terms() {
    let values: Vec<f32> = (0..16).map(|code| (code as f32 * 0.37).exp()).collect();
    assert_eq!(terms(&values, 16), None);
}

#[test]
fn groups_may_take_another_order_of_a_basis() {
    // The order of the four sums differs, so that integers differ by group.
    let values = [sums(&[0.3, 0.131], 0.0), sums(&[-0.3, 0.131], 0.0)].concat();
    assert_eq!(found(&values, 4).map(|(count, _)| count), Some(2));
}
