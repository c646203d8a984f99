//! Images as padded planes, in which every tap of a kernel corresponds to an offset.

use alloc::{vec, vec::Vec};

use super::{geometry::Geometry, micro_kernels::READ_PAST_END};

/// The layout of an image's channels as planes: `[channel][phase][height][width]`. A convolution
/// with stride s reads every s-th row and column. Each phase holds the rows and columns that some
/// tap reads.
#[derive(Debug, Clone)]
pub(crate) struct Planes {
    /// Row and column of the image at which each phase begins.
    phases: Vec<[isize; 2]>,
    /// The value of pixels outside the image.
    outside: f32,
    /// Distance in the image between neighbouring rows or columns of a phase.
    step: usize,
    /// Height and width of a plane.
    pub(crate) size: [usize; 2],
    /// The index that each tap reads for output pixel 0, within a channel.
    pub(crate) taps: Vec<usize>,
}

impl Planes {
    /// Returns the layout of the input, for the forward pass and the gradient of the weight.
    pub(crate) fn of_input(geometry: &Geometry) -> Self {
        let Geometry { stride, dilation, padding, kernel_size, .. } = *geometry;
        let [height, width] = geometry.output_size();
        let size = [height + geometry.reach(0) / stride, width + geometry.reach(1) / stride];
        let mut phases = Vec::new();
        let mut taps = Vec::new();
        for (dy, dx) in grid(kernel_size) {
            let at = [dy * dilation, dx * dilation];
            let first = at.map(|at| (at % stride) as isize - padding as isize);
            let phase = phases.iter().position(|known| *known == first).unwrap_or_else(|| {
                phases.push(first);
                phases.len() - 1
            });
            let plane = phase * size[0] * size[1];
            taps.push(plane + at[0] / stride * size[1] + at[1] / stride);
        }
        Self { phases, outside: geometry.padding_value, step: stride, size, taps }
    }

    /// Returns the number of floats per channel.
    pub(crate) fn channel(&self) -> usize {
        self.phases.len() * self.size[0] * self.size[1]
    }

    /// Returns planes of `channels` channels in which every pixel has the value outside the image.
    /// Pixels that [`fill`](Self::fill) does not write keep it.
    pub(crate) fn empty(&self, channels: usize) -> Vec<f32> {
        vec![self.outside; channels * self.channel() + READ_PAST_END]
    }

    /// Returns the index that each tap of each channel reads for output pixel 0.
    pub(crate) fn offsets(&self, channels: usize) -> Vec<usize> {
        let taps = |channel| self.taps.iter().map(move |tap| channel * self.channel() + tap);
        (0..channels).flat_map(taps).collect()
    }

    /// Writes the channels of an image, `[channels][height][width]`, into their planes.
    pub(crate) fn fill(&self, image: &[f32], size: [usize; 2], planes: &mut [f32]) {
        let plane = self.size[0] * self.size[1];
        let columns: Vec<_> = self
            .phases
            .iter()
            .map(|first| inside(first[1], self.step, self.size[1], size[1]))
            .collect();
        for (image, channel) in
            image.chunks_exact(size[0] * size[1]).zip(planes.chunks_exact_mut(self.channel()))
        {
            for ((first, (from, to)), plane) in
                self.phases.iter().zip(&columns).zip(channel.chunks_exact_mut(plane))
            {
                let (top, bottom) = inside(first[0], self.step, self.size[0], size[0]);
                // A phase may have no pixel inside the image.
                for row in if from < to { top..bottom } else { 0..0 } {
                    let y = (first[0] + (row * self.step) as isize) as usize;
                    let x = (first[1] + (from * self.step) as isize) as usize;
                    let line = &image[y * size[1]..(y + 1) * size[1]];
                    let out = &mut plane[row * self.size[1]..][*from..*to];
                    match self.step {
                        1 => out.copy_from_slice(&line[x..x + out.len()]),
                        step => {
                            let values = line[x..].iter().step_by(step);
                            out.iter_mut().zip(values).for_each(|(out, value)| *out = *value);
                        }
                    }
                }
            }
        }
    }
}

/// The part of the input's gradient whose rows and columns have the same remainder modulo the
/// stride. It is a correlation of the output's gradient with the taps that reach these pixels.
#[derive(Debug, Clone)]
pub(crate) struct GradientPhase {
    /// The layout of the output's gradient.
    pub(crate) planes: Planes,
    /// Indices of the kernel's taps that are used, in the order of `planes.taps`.
    pub(crate) kernel_taps: Vec<usize>,
    /// First row and column of the input that belong to the phase.
    pub(crate) first: [usize; 2],
    /// Number of rows and columns that belong to the phase.
    pub(crate) size: [usize; 2],
}

impl GradientPhase {
    /// Returns the phases in which at least one tap reaches a pixel.
    pub(crate) fn all(geometry: &Geometry) -> Vec<Self> {
        let phases = grid([geometry.stride; 2]);
        phases.filter_map(|(y, x)| Self::new(geometry, [y, x])).collect()
    }

    /// Creates the phase φ. Row u = s·i + φ of the padded input gets Σ w\[d\]·g\[i - q\] from the
    /// taps d with dilation·d = s·q + φ.
    fn new(geometry: &Geometry, phase: [usize; 2]) -> Option<Self> {
        let Geometry { stride, dilation, padding, kernel_size, input_size, .. } = *geometry;
        let shifts = |axis: usize| -> Vec<(usize, usize)> {
            let taps = (0..kernel_size[axis]).map(|tap| (tap, tap * dilation));
            let own = taps.filter(|(_, at)| at % stride == phase[axis]);
            own.map(|(tap, at)| (tap, at / stride)).collect()
        };
        let (vertical, horizontal) = (shifts(0), shifts(1));
        let highest = |shifts: &[(usize, usize)]| shifts.iter().map(|(_, shift)| *shift).max();
        let reach = [highest(&vertical)?, highest(&horizontal)?];
        let mut first = [0; 2];
        let mut own = [0; 2];
        let mut start = [0; 2];
        for axis in [0, 1] {
            let begin = padding.saturating_sub(phase[axis]).div_ceil(stride);
            let end = (padding + input_size[axis]).checked_sub(phase[axis] + 1)? / stride + 1;
            own[axis] = end.checked_sub(begin).filter(|count| *count > 0)?;
            first[axis] = begin * stride + phase[axis] - padding;
            start[axis] = begin as isize - reach[axis] as isize;
        }
        let plane = [own[0] + reach[0], own[1] + reach[1]];
        let mut planes =
            Planes { phases: vec![start], outside: 0.0, step: 1, size: plane, taps: Vec::new() };
        let mut kernel_taps = Vec::new();
        for (dy, down) in &vertical {
            for (dx, right) in &horizontal {
                planes.taps.push((reach[0] - down) * plane[1] + reach[1] - right);
                kernel_taps.push(dy * kernel_size[1] + dx);
            }
        }
        Some(Self { planes, kernel_taps, first, size: own })
    }
}

/// Returns the range of places of a phase that lie inside the image.
fn inside(first: isize, step: usize, places: usize, size: usize) -> (usize, usize) {
    let from = (-first).max(0) as usize;
    let from = from.div_ceil(step).min(places);
    let to = (size as isize - first).max(0) as usize;
    (from, to.div_ceil(step).clamp(from, places))
}

fn grid([height, width]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}
