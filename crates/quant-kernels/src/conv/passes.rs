//! The three passes of a convolution over contiguous floats: the result, the gradient of the input,
//! and the gradient of the weight.

use alloc::{vec, vec::Vec};

use super::{
    geometry::{Geometry, GeometryError},
    micro_kernels::{Correlation, Destination, MicroKernels, Products},
    planes::{GradientPhase, Planes},
};
use crate::parallel;

/// Returns the convolution y\[n\]\[o\]\[i\]\[j\] = Σ w\[o\]\[c\]\[a\]\[b\]·x\[n\]\[c\]\[s·i + d·a -
/// p\]\[s·j + d·b - p\], summed over the inputs c of o's group and the taps (a, b). x has the shape
/// `[batch, inputs, height, width]`, and w the shape
/// `[outputs, inputs / groups, kernel height, kernel width]`.
///
/// # Errors
/// [`GeometryError`] for sizes that do not fit together, and for slices of the wrong length.
pub fn forward(x: &[f32], weight: &[f32], geometry: &Geometry) -> Result<Vec<f32>, GeometryError> {
    forward_by(&MicroKernels::detect(), x, weight, geometry)
}

/// Returns ∂L/∂x for g = ∂L/∂y, which is the transpose of the convolution of [`forward`].
///
/// # Errors
/// As [`forward`].
pub fn input_gradient(
    weight: &[f32],
    gradient: &[f32],
    geometry: &Geometry,
) -> Result<Vec<f32>, GeometryError> {
    input_gradient_by(&MicroKernels::detect(), weight, gradient, geometry)
}

/// Returns ∂L/∂w\[o\]\[c\]\[a\]\[b\] = Σ g\[n\]\[o\]\[i\]\[j\]·x\[n\]\[c\]\[s·i + d·a - p\]\[s·j +
/// d·b - p\]. The order of the sum does not depend on the number of threads.
///
/// # Errors
/// As [`forward`].
pub fn weight_gradient(
    x: &[f32],
    gradient: &[f32],
    geometry: &Geometry,
) -> Result<Vec<f32>, GeometryError> {
    weight_gradient_by(&MicroKernels::detect(), x, gradient, geometry)
}

fn check(
    geometry: &Geometry,
    slices: [(&'static str, usize, usize); 2],
) -> Result<(), GeometryError> {
    geometry.validate()?;
    match slices.into_iter().find(|(_, length, expected)| length != expected) {
        Some((field, length, expected)) => Err(GeometryError::Length { field, length, expected }),
        None => Ok(()),
    }
}

/// The correlations that use the same planes, for each group of channels.
struct Correlations<'a> {
    kernels: &'a MicroKernels,
    planes: Planes,
    offsets: Vec<usize>,
    panels: Vec<f32>,
    /// Number of rows of the result, which are the channels of a group.
    rows: usize,
    /// Number of channels of the planes in a group.
    channels: usize,
    /// Height and width of the result.
    size: [usize; 2],
    /// Where the result is written within an image's channel: the first element, and the distances
    /// between lines and between neighbours in a line.
    to: (usize, usize, usize),
    /// Height and width of the image in the planes.
    image: [usize; 2],
    /// Height times width of the image that is written.
    channel: usize,
}

/// Number of bytes of packed weights that stay in the cache while several images use them.
const CACHED_WEIGHT_BYTES: usize = 1 << 18;

impl<'a> Correlations<'a> {
    /// Returns the number of rows to compute before going on to the next image.
    fn rows_at_once(&self) -> usize {
        let bytes = (self.offsets.len() * size_of::<f32>()).max(1);
        let blocks = CACHED_WEIGHT_BYTES / bytes / self.kernels.rows;
        blocks.clamp(1, self.rows.div_ceil(self.kernels.rows)) * self.kernels.rows
    }

    /// Computes the rows from `first` on for an image whose planes are filled, and writes them to
    /// `out`, `[rows][channel]`.
    #[expect(unsafe_code, reason = "the kernels write through pointers")]
    fn run(
        &self,
        group: usize,
        first: usize,
        planes: &[f32],
        out: &mut [f32],
        block: &mut Vec<f32>,
    ) {
        let rows = out.len() / self.channel;
        let taps = self.offsets.len();
        let panels = &self.panels[(group * self.rows + first) * taps..][..rows * taps];
        let (offsets, grid_width) = (&self.offsets[..], self.planes.size[1]);
        let job = Correlation { planes, offsets, panels, rows, grid_width, size: self.size };
        let (start, line, step) = self.to;
        let last = start + (self.size[0] - 1) * line + (self.size[1] - 1) * step;
        assert!(last < self.channel, "the result lies within its channel");
        let start = out[start..].as_mut_ptr();
        let to = Destination { start, channel: self.channel, line, step };
        // SAFETY: `out` holds whole channels, and the result lies within each of them.
        unsafe { self.kernels.correlate(&job, &to, block) };
    }
}

/// Runs correlations on every image. The correlations of one pass write to different places of the
/// same images.
fn run_all(all: &[Correlations], x: &[f32], out: &mut [f32], groups: usize) {
    let Some(some) = all.first() else {
        return;
    };
    let source = some.channels * some.image[0] * some.image[1];
    let target = some.rows * some.channel;
    let rows = all.iter().map(Correlations::rows_at_once).min().unwrap_or(1);
    let images = out.len() / (groups * target);
    let panels = some.panels.len() / groups * size_of::<f32>();
    // If there are fewer images than threads, the rows of each image are shared out instead.
    if images * groups < parallel::threads() {
        let rows = some.rows.div_ceil(parallel::threads()).next_multiple_of(some.kernels.rows);
        for (unit, (x, out)) in x.chunks_exact(source).zip(out.chunks_exact_mut(target)).enumerate()
        {
            for correlations in all {
                let mut planes = correlations.planes.empty(correlations.channels);
                correlations.planes.fill(x, correlations.image, &mut planes);
                let length = rows * some.channel;
                parallel::for_each_chunk_mut(out, length, Vec::new, |block, part, out| {
                    correlations.run(unit % groups, part * rows, &planes, out, block);
                });
            }
        }
        return;
    }
    // If the weights are too large to stay in the cache until the next image, several images are
    // processed in turn with the same part of the weights.
    let images_at_once = if panels > CACHED_WEIGHT_BYTES && groups == 1 { 4 } else { 1 };
    let images_at_once = images_at_once.min(images.div_ceil(parallel::threads())).max(1);
    let scratch = || {
        let planes: Vec<Vec<Vec<f32>>> = (all.iter())
            .map(|c| (0..images_at_once).map(|_| c.planes.empty(c.channels)).collect())
            .collect();
        (planes, Vec::new())
    };
    let length = images_at_once * target;
    parallel::for_each_chunk_mut(out, length, scratch, |(planes, block), unit, out| {
        let group = unit % groups;
        let x = &x[unit * images_at_once * source..][..out.len() / target * source];
        for (correlations, planes) in all.iter().zip(planes) {
            for (x, planes) in x.chunks_exact(source).zip(planes.iter_mut()) {
                correlations.planes.fill(x, correlations.image, planes);
            }
            for first in (0..some.rows).step_by(rows) {
                for (out, planes) in out.chunks_exact_mut(target).zip(planes.iter()) {
                    let end = (first + rows).min(some.rows);
                    let out = &mut out[first * some.channel..end * some.channel];
                    correlations.run(group, first, planes, out, block);
                }
            }
        }
    });
}

pub(super) fn forward_by(
    kernels: &MicroKernels,
    x: &[f32],
    weight: &[f32],
    geometry: &Geometry,
) -> Result<Vec<f32>, GeometryError> {
    let lengths = [
        ("the input", x.len(), geometry.input_elements()),
        ("the weight", weight.len(), geometry.weight_elements()),
    ];
    check(geometry, lengths)?;
    let planes = Planes::of_input(geometry);
    let (channels, rows) = (geometry.group_in_channels(), geometry.group_out_channels());
    let taps = channels * geometry.taps();
    let pack = |group: usize| {
        kernels.pack(rows, taps, |row, tap| weight[(group * rows + row) * taps + tap])
    };
    let size = geometry.output_size();
    let correlations = Correlations {
        kernels,
        offsets: planes.offsets(channels),
        planes,
        panels: (0..geometry.groups).flat_map(pack).collect(),
        rows,
        channels,
        size,
        to: (0, size[1], 1),
        image: geometry.input_size,
        channel: size[0] * size[1],
    };
    let mut y = vec![0.0; geometry.output_elements()];
    run_all(&[correlations], x, &mut y, geometry.groups);
    Ok(y)
}

pub(super) fn input_gradient_by(
    kernels: &MicroKernels,
    weight: &[f32],
    gradient: &[f32],
    geometry: &Geometry,
) -> Result<Vec<f32>, GeometryError> {
    let lengths = [
        ("the weight", weight.len(), geometry.weight_elements()),
        ("the gradient", gradient.len(), geometry.output_elements()),
    ];
    check(geometry, lengths)?;
    let (channels, rows) = (geometry.group_out_channels(), geometry.group_in_channels());
    let taps = geometry.taps();
    let [height, width] = geometry.input_size;
    let correlations: Vec<_> = GradientPhase::all(geometry)
        .into_iter()
        .map(|phase| {
            let own = phase.kernel_taps.len();
            // A row is a channel of the input. A tap of the packed weights is an output channel and
            // a tap of the kernel.
            let pack = |group: usize| {
                kernels.pack(rows, channels * own, |row, tap| {
                    let (output, tap) = (tap / own, phase.kernel_taps[tap % own]);
                    weight[((group * channels + output) * rows + row) * taps + tap]
                })
            };
            let [top, left] = phase.first;
            Correlations {
                kernels,
                offsets: phase.planes.offsets(channels),
                panels: (0..geometry.groups).flat_map(pack).collect(),
                rows,
                channels,
                size: phase.size,
                to: (top * width + left, geometry.stride * width, geometry.stride),
                image: geometry.output_size(),
                channel: height * width,
                planes: phase.planes,
            }
        })
        .collect();
    let mut x = vec![0.0; geometry.input_elements()];
    run_all(&correlations, gradient, &mut x, geometry.groups);
    Ok(x)
}

/// Number of bytes for the partial sums of a weight's gradient.
const PARTIAL_SUM_BYTES: usize = 1 << 25;

/// Number of tasks for a weight's gradient, which is enough for many threads.
const WEIGHT_GRADIENT_TASKS: usize = 16;

pub(super) fn weight_gradient_by(
    kernels: &MicroKernels,
    x: &[f32],
    gradient: &[f32],
    geometry: &Geometry,
) -> Result<Vec<f32>, GeometryError> {
    let lengths = [
        ("the input", x.len(), geometry.input_elements()),
        ("the gradient", gradient.len(), geometry.output_elements()),
    ];
    check(geometry, lengths)?;
    let planes = Planes::of_input(geometry);
    let (inputs, outputs) = (geometry.group_in_channels(), geometry.group_out_channels());
    let lanes = outputs.next_multiple_of(kernels.lanes);
    let bytes = inputs * geometry.taps() * lanes * size_of::<f32>();
    // The tasks depend on the shape alone, and so does the order of the sums.
    let chunks = (PARTIAL_SUM_BYTES / bytes.max(1)).clamp(1, 8).min(geometry.batch);
    let images = geometry.batch.div_ceil(chunks);
    let parts = (WEIGHT_GRADIENT_TASKS / chunks / geometry.groups).clamp(1, inputs.div_ceil(8));
    let channels = inputs.div_ceil(parts);
    let tasks: Vec<(usize, usize, usize)> = (0..geometry.groups)
        .flat_map(|group| (0..inputs).step_by(channels).map(move |channel| (group, channel)))
        .flat_map(|(group, channel)| {
            (0..geometry.batch).step_by(images).map(move |image| (group, channel, image))
        })
        .collect();
    let work = WeightGradient { kernels, geometry, planes: &planes, lanes, images, channels };
    let sums = parallel::map(tasks.clone(), |_, task| work.sums(task, x, gradient));
    let mut weight = vec![0.0; geometry.weight_elements()];
    let taps = geometry.taps();
    for ((group, channel, _), sums) in tasks.into_iter().zip(sums) {
        let own = channels.min(inputs - channel) * taps;
        for output in 0..outputs {
            let start = ((group * outputs + output) * inputs + channel) * taps;
            let to = weight[start..start + own].iter_mut();
            to.enumerate().for_each(|(tap, to)| *to += sums[tap * lanes + output]);
        }
    }
    Ok(weight)
}

/// The data that the tasks of a weight's gradient share.
struct WeightGradient<'a> {
    kernels: &'a MicroKernels,
    geometry: &'a Geometry,
    planes: &'a Planes,
    /// Number of outputs of a group, rounded up to whole vectors.
    lanes: usize,
    /// Number of images of a task.
    images: usize,
    /// Number of input channels of a task.
    channels: usize,
}

impl WeightGradient<'_> {
    /// Returns the sums `[taps][lanes]` of one task: a group, its input channels from `channel` on,
    /// and the images from `image` on.
    fn sums(
        &self,
        (group, channel, image): (usize, usize, usize),
        x: &[f32],
        gradient: &[f32],
    ) -> Vec<f32> {
        let geometry = self.geometry;
        let (inputs, outputs) = (geometry.group_in_channels(), geometry.group_out_channels());
        let channels = self.channels.min(inputs - channel);
        let mut offsets = self.planes.offsets(channels);
        let last = offsets.last().copied().unwrap_or_default();
        offsets.resize(offsets.len().next_multiple_of(self.kernels.taps), last);
        let size = geometry.output_size();
        let (pixels, area) = (size[0] * size[1], geometry.input_size[0] * geometry.input_size[1]);
        let mut sums = vec![0.0; offsets.len() * self.lanes];
        let mut planes = self.planes.empty(channels);
        let mut gradients = vec![0.0; pixels * self.lanes];
        for image in image..(image + self.images).min(geometry.batch) {
            let first = (image * geometry.in_channels + group * inputs + channel) * area;
            self.planes.fill(&x[first..first + channels * area], geometry.input_size, &mut planes);
            let first = (image * geometry.out_channels + group * outputs) * pixels;
            transpose(
                &gradient[first..first + outputs * pixels],
                pixels,
                self.lanes,
                &mut gradients,
            );
            self.kernels.multiply(&mut Products {
                planes: &planes,
                offsets: &offsets,
                gradients: &gradients,
                outputs: self.lanes,
                grid_width: self.planes.size[1],
                size,
                sums: &mut sums,
            });
        }
        sums
    }
}

/// Transposes `[rows][columns]` to `[columns][lanes]`, in blocks that stay in the cache. This is a
/// separate function because the compiler produces slower loops if it is inlined.
#[inline(never)]
fn transpose(from: &[f32], columns: usize, lanes: usize, to: &mut [f32]) {
    const BLOCK: usize = 16;
    for (index, to) in to.chunks_mut(BLOCK * lanes).enumerate() {
        for (row, from) in from.chunks_exact(columns).enumerate() {
            let from = &from[index * BLOCK..];
            to.chunks_exact_mut(lanes).zip(from).for_each(|(to, from)| to[row] = *from);
        }
    }
}
