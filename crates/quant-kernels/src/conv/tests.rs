//! Compares every instruction set of this processor with the sums of the definition, computed in 64
//! bits.

use std::vec::Vec;

use proptest::prelude::*;

use super::{
    geometry::{Geometry, GeometryError},
    micro_kernels::MicroKernels,
    passes::{forward_by, input_gradient_by, weight_gradient_by},
};
use crate::simd::InstructionSet;

/// Calls `f` with the indices of x, w and y for every product. The index of x is `None` outside the
/// image.
fn each_product(geometry: &Geometry, mut f: impl FnMut(Option<usize>, usize, usize)) {
    let Geometry {
        batch,
        in_channels: inputs,
        out_channels: outputs,
        input_size: size,
        kernel_size: kernel,
        stride,
        padding,
        dilation,
        groups,
        ..
    } = *geometry;
    let [height, width] = geometry.output_size();
    let (group_in_channels, group_out_channels) = (inputs / groups, outputs / groups);
    for n in 0..batch {
        for o in 0..outputs {
            for c in 0..group_in_channels {
                let channel = o / group_out_channels * group_in_channels + c;
                for (i, j, a, b) in pixels_and_taps(height, width, kernel) {
                    let y =
                        (i * stride + a * dilation).checked_sub(padding).filter(|y| *y < size[0]);
                    let x =
                        (j * stride + b * dilation).checked_sub(padding).filter(|x| *x < size[1]);
                    let plane = (n * inputs + channel) * size[0];
                    let pixel = y.zip(x).map(|(y, x)| (plane + y) * size[1] + x);
                    f(
                        pixel,
                        ((o * group_in_channels + c) * kernel[0] + a) * kernel[1] + b,
                        ((n * outputs + o) * height + i) * width + j,
                    );
                }
            }
        }
    }
}

fn pixels_and_taps(
    height: usize,
    width: usize,
    kernel: [usize; 2],
) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..height * width * kernel[0] * kernel[1]).map(move |index| {
        let (pixel, tap) = (index / (kernel[0] * kernel[1]), index % (kernel[0] * kernel[1]));
        (pixel / width, pixel % width, tap / kernel[1], tap % kernel[1])
    })
}

/// Returns varied numbers that are exact in a few bits, so that the sums of their products are
/// exact in `f32` too.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 11) % 23) as f32 * 0.25 - 2.5).collect()
}

fn check(set: InstructionSet, geometry: &Geometry) -> Result<(), TestCaseError> {
    let x = numbers(geometry.input_elements(), 1);
    let w = numbers(geometry.weight_elements(), 2);
    let g = numbers(geometry.output_elements(), 3);
    let mut y = std::vec![0f64; g.len()];
    let mut gx = std::vec![0f64; x.len()];
    let mut gw = std::vec![0f64; w.len()];
    each_product(geometry, |ix, iw, iy| {
        let pixel = f64::from(ix.map_or(geometry.padding_value, |ix| x[ix]));
        y[iy] += pixel * f64::from(w[iw]);
        gw[iw] += f64::from(g[iy]) * pixel;
        if let Some(ix) = ix {
            gx[ix] += f64::from(g[iy]) * f64::from(w[iw]);
        }
    });
    let exact = |values: Vec<f64>| -> Vec<f32> { values.into_iter().map(|v| v as f32).collect() };
    let (name, kernels) = (set.name(), &MicroKernels::new(set));
    prop_assert_eq!(forward_by(kernels, &x, &w, geometry), Ok(exact(y)), "y {}", name);
    prop_assert_eq!(input_gradient_by(kernels, &w, &g, geometry), Ok(exact(gx)), "gx {}", name);
    prop_assert_eq!(weight_gradient_by(kernels, &x, &g, geometry), Ok(exact(gw)), "gw {}", name);
    Ok(())
}

fn geometries() -> impl Strategy<Value = Geometry> {
    let channels = (1..4usize, 1..12usize, 1..20usize);
    let kernel = prop_oneof![Just([1, 1]), Just([3, 3]), [1..6usize, 1..6usize]];
    let padding = (0..4usize, prop_oneof![Just(0.0f32), Just(-1.5)]);
    (1..6usize, channels, [1..14usize, 1..14usize], kernel, 1..4usize, padding, 1..3usize)
        .prop_map(
            |(
                batch,
                (groups, inputs, outputs),
                input_size,
                kernel_size,
                stride,
                padding,
                dilation,
            )| {
                let (padding, padding_value) = padding;
                let (in_channels, out_channels) = (inputs * groups, outputs * groups);
                Geometry {
                    batch,
                    in_channels,
                    out_channels,
                    input_size,
                    kernel_size,
                    stride,
                    padding,
                    padding_value,
                    dilation,
                    groups,
                }
            },
        )
        .prop_filter("the kernel fits", |geometry| geometry.validate().is_ok())
}

proptest! {
    #[test]
    fn every_pass_is_its_sum(geometry in geometries()) {
        for set in InstructionSet::available() {
            check(set, &geometry)?;
        }
    }
}

#[test]
fn the_sizes_of_networks_are_right_too() {
    let geometry = |in_channels, out_channels, side, kernel: usize, stride, groups| Geometry {
        batch: 9,
        in_channels,
        out_channels,
        input_size: [side; 2],
        kernel_size: [kernel; 2],
        stride,
        padding: kernel / 2,
        padding_value: 0.0,
        dilation: 1,
        groups,
    };
    for geometry in [
        geometry(16, 16, 32, 3, 1, 1),
        geometry(16, 32, 32, 3, 2, 1),
        geometry(64, 64, 8, 3, 1, 1),
        geometry(16, 32, 32, 1, 2, 1),
        geometry(3, 8, 40, 7, 2, 1),
        geometry(24, 24, 14, 3, 1, 24),
        geometry(24, 24, 15, 3, 2, 24),
        // These weights do not stay in the cache, so several images are processed in turn.
        geometry(96, 160, 7, 3, 1, 1),
    ] {
        for set in InstructionSet::available() {
            check(set, &geometry).unwrap();
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let good = Geometry {
        batch: 1,
        in_channels: 4,
        out_channels: 6,
        input_size: [5, 5],
        kernel_size: [3, 3],
        stride: 1,
        padding: 0,
        padding_value: 0.0,
        dilation: 1,
        groups: 2,
    };
    assert_eq!(good.validate(), Ok(()));
    let error = |geometry: Geometry| geometry.validate().unwrap_err();
    assert_eq!(error(Geometry { stride: 0, ..good }), GeometryError::Zero { field: "stride" });
    let groups = GeometryError::Groups { groups: 4, in_channels: 4, out_channels: 6 };
    assert_eq!(error(Geometry { groups: 4, ..good }), groups);
    let kernel = GeometryError::KernelSize { reach: [7, 7], padded: [5, 5] };
    assert_eq!(error(Geometry { dilation: 3, ..good }), kernel);
    let length = super::forward(&[0.0; 99], &[0.0; 108], &good).unwrap_err();
    assert_eq!(length, GeometryError::Length { field: "the input", length: 99, expected: 100 });
}
