//! Learned bases: levels, and least squares fits.

use proptest::prelude::*;
use quant_cube::basis;
use quant_kernels::quantize::{Basis, basis_levels, fit_basis};

use super::{
    all_close,
    common::{LAYOUTS, Shaped, client, download, drawn, observed, row, turn, upload},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The levels of a basis and its fit are those of the CPU, where the data determine the basis.
    /// Up to four levels are summed in one launch, and nothing is copied.
    #[test]
    fn bases_are_fitted_as_on_the_cpu(
        levels in prop_oneof![Just(2usize), Just(3), Just(4), Just(8), Just(16)],
        signed: bool,
        weight: bool,
        layout in 0usize..4,
        channels in prop_oneof![Just(1usize), Just(4), Just(6), Just(40)],
        pixels in prop_oneof![Just(36usize), Just(49), Just(64), Just(900)],
        per_channel: bool,
        seed: u64,
    ) {
        let _turn = turn();
        let client = client();
        let bits = if levels == 3 { 1 } else { levels.ilog2() as usize };
        let of = Basis { bits, levels, signed, position: 0.4, weight };
        let sizes = [3, channels, pixels];
        let view = if per_channel { sizes } else { [1, 1, 3 * channels * pixels] };
        let drawn_values = drawn(seed, view[1] * bits).into_iter().enumerate();
        let power = |at: usize| f32::powi(2.0, (at % bits) as i32 - bits as i32 + 1);
        let values: Vec<f32> =
            drawn_values.map(|(at, x)| (x.abs() * 0.2 + 0.8) * power(at)).collect();
        let xs = drawn(seed ^ 1, sizes.iter().product());
        let x = upload(&client, &xs, sizes, LAYOUTS[layout]);
        let old = row(&client, &values).shaped(&[view[1], bits], &[bits, 1]);
        let (ladders, names) = observed(|| basis::levels(&client, &old, of));
        prop_assert_eq!(names.len(), 1, "{:?}", names);
        let expected = basis_levels(&values, of);
        prop_assert!(all_close(&download(&client, &ladders), &expected));
        let (fitted, names) = observed(|| basis::fit(&client, &x, &old, of, view));
        prop_assert_eq!(names.len(), 2 + levels.div_ceil(4), "{:?}", names);
        let ours = download(&client, &fitted);
        let again = download(&client, &basis::fit(&client, &x, &old, of, view));
        prop_assert_eq!(&ours, &again);
        let theirs = fit_basis(&xs, &values, of, view);
        prop_assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.chunks(bits + 1).zip(theirs.chunks(bits + 1)) {
            if theirs[bits] < 1e3 {
                for (ours, theirs) in ours[..bits].iter().zip(theirs) {
                    prop_assert!((ours - theirs).abs() < 1e-3 * theirs.abs().max(1.0));
                }
                prop_assert!((ours[bits] / theirs[bits] - 1.0).abs() < 1e-2);
            }
        }
    }
}

/// What is not finite leaves no finite solution, also if it is one number of many.
#[test]
fn bases_are_not_fitted_to_what_is_not_finite() {
    let _turn = turn();
    let client = client();
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let of = Basis { bits: 2, levels: 4, signed: true, position: 0.5, weight: true };
        let mut xs = drawn(1, 300);
        xs[7] = number;
        let (x, old) = (row(&client, &xs), row(&client, &[0.5, 1.0]).shaped(&[1, 2], &[2, 1]));
        let fitted = download(&client, &basis::fit(&client, &x, &old, of, [1, 1, 300]));
        assert!(fitted[..2].iter().any(|value| !value.is_finite()), "{number}: {fitted:?}");
    }
}
