//! The two inner loops of a convolution, which keep a block of the result in registers, and the
//! choice of the instruction set.
//!
//! Both read planes: images padded with zeros, laid out so that each tap of the kernel corresponds
//! to an offset. If the output lies on a grid with the width of the planes, tap t of output pixel p
//! is at `offsets[t] + p`. So neighbouring pixels are neighbouring floats, and nothing has to be
//! gathered. Results on the grid beyond the output's width are not stored.

use alloc::vec::Vec;

use crate::simd::{InstructionSet, Job, Simd};

/// The correlation y\[m\]\[p\] = Σₜ w\[m\]\[t\]·x\[offsets\[t\] + p\] for the pixels of a grid.
pub(crate) struct Correlation<'a> {
    /// The planes and, after the last float that a tap reads, [`READ_PAST_END`] more floats.
    pub(crate) planes: &'a [f32],
    /// The index that each tap reads for pixel 0.
    pub(crate) offsets: &'a [usize],
    /// The weights, in the order of [`MicroKernels::pack`].
    pub(crate) panels: &'a [f32],
    /// Number of rows of the result, which are output channels.
    pub(crate) rows: usize,
    /// Width of the grid.
    pub(crate) grid_width: usize,
    /// Height and width of the output.
    pub(crate) size: [usize; 2],
}

/// Where the rows of a [`Correlation`] are written: element (row, y, x) is at
/// `start + row·channel + y·line + x·step`.
pub(crate) struct Destination {
    pub(crate) start: *mut f32,
    pub(crate) channel: usize,
    pub(crate) line: usize,
    pub(crate) step: usize,
}

/// The products d\[t\]\[o\] += Σₚ x\[offsets\[t\] + p\]·g\[p\]\[o\] over the pixels of an output.
pub(crate) struct Products<'a> {
    /// The planes, as in [`Correlation`].
    pub(crate) planes: &'a [f32],
    /// The index that each tap reads for pixel 0. The number of taps is a multiple of
    /// [`MicroKernels::taps`], so the last tap may be repeated.
    pub(crate) offsets: &'a [usize],
    /// The gradients g, `[pixels][outputs]`.
    pub(crate) gradients: &'a [f32],
    /// Number of outputs, a multiple of [`MicroKernels::lanes`].
    pub(crate) outputs: usize,
    /// Width of the grid.
    pub(crate) grid_width: usize,
    /// Height and width of the output.
    pub(crate) size: [usize; 2],
    /// The sums d, `[taps][outputs]`.
    pub(crate) sums: &'a mut [f32],
}

/// Number of floats that a correlation may read after its last pixel.
pub(crate) const READ_PAST_END: usize = 64;

/// Number of vectors of pixels that a correlation computes together.
const PIXEL_VECTORS: usize = 3;

/// Number of vectors of outputs that products compute together.
const OUTPUT_VECTORS: usize = 2;

/// Returns the number of rows that a correlation computes together. Each row has three vectors of
/// sums, and the registers also have to hold the vectors of x and a weight.
const fn most_rows(registers: usize) -> usize {
    if registers >= 32 { 8 } else { 4 }
}

/// Returns the number of taps that products compute together, with two vectors each.
const fn most_taps(registers: usize) -> usize {
    if registers >= 32 { 12 } else { 6 }
}

/// The inner loops for one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct MicroKernels {
    set: InstructionSet,
    /// Number of floats in a vector.
    pub(crate) lanes: usize,
    /// Largest number of rows that a correlation computes together.
    pub(crate) rows: usize,
    /// Number of taps that products compute together.
    pub(crate) taps: usize,
}

impl MicroKernels {
    /// Returns the inner loops for the best instruction set of this processor.
    pub(crate) fn detect() -> Self {
        Self::new(InstructionSet::detect())
    }

    /// Returns the inner loops for an instruction set.
    pub(crate) fn new(set: InstructionSet) -> Self {
        let (lanes, registers) = (set.lanes(), set.registers());
        Self { set, lanes, rows: most_rows(registers), taps: most_taps(registers) }
    }

    /// Runs a correlation. `block` is memory for intermediate results.
    ///
    /// # Safety
    /// Every element of every row that `to` describes must be valid for writes.
    pub(crate) unsafe fn correlate(
        &self,
        job: &Correlation,
        to: &Destination,
        block: &mut Vec<f32>,
    ) {
        let reach = job.offsets.iter().copied().max().unwrap_or(0);
        let [height, width] = job.size;
        let pixels = (height - 1) * job.grid_width + width;
        assert!(reach + pixels + READ_PAST_END <= job.planes.len(), "taps read within the planes");
        assert_eq!(job.panels.len(), job.rows * job.offsets.len(), "every tap has a weight");
        self.set.run(Correlate { job, to, block });
    }

    /// Adds the products to the sums.
    pub(crate) fn multiply(&self, job: &mut Products) {
        let reach = job.offsets.iter().copied().max().unwrap_or(0);
        let [height, width] = job.size;
        let pixels = (height - 1) * job.grid_width + width;
        assert!(reach + pixels <= job.planes.len(), "taps read within the planes");
        assert_eq!(job.gradients.len(), height * width * job.outputs, "every pixel has gradients");
        assert_eq!(job.sums.len(), job.offsets.len() * job.outputs, "every tap has sums");
        assert!(
            job.outputs.is_multiple_of(self.lanes) && job.offsets.len().is_multiple_of(self.taps)
        );
        self.set.run(Multiply { job });
    }

    /// Returns the number of rows in the block that begins at `row` of `rows`.
    fn block(&self, row: usize, rows: usize) -> usize {
        let left = rows - row;
        if left >= self.rows { self.rows } else { 1 << left.ilog2() }
    }

    /// Returns the weights in the order in which correlations read them: block by block of rows,
    /// and tap by tap within a block.
    pub(crate) fn pack(
        &self,
        rows: usize,
        taps: usize,
        weight: impl Fn(usize, usize) -> f32,
    ) -> Vec<f32> {
        let mut panels = Vec::with_capacity(rows * taps);
        let mut row = 0;
        while row < rows {
            let block = self.block(row, rows);
            for tap in 0..taps {
                panels.extend((row..row + block).map(|row| weight(row, tap)));
            }
            row += block;
        }
        panels
    }
}

/// A correlation whose arguments have been checked.
struct Correlate<'a, 'b> {
    job: &'a Correlation<'b>,
    to: &'a Destination,
    block: &'a mut Vec<f32>,
}

impl Job for Correlate<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: `MicroKernels::correlate`, the only place that creates this job, has checked the
        // reads; its caller guarantees the writes.
        unsafe { correlate_all(simd, self.job, self.to, self.block) }
    }
}

/// Products whose arguments have been checked.
struct Multiply<'a, 'b> {
    job: &'a mut Products<'b>,
}

impl Job for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: `MicroKernels::multiply`, the only place that creates this job, has checked reads
        // and writes.
        unsafe {
            match most_taps(S::REGISTERS) {
                12 => multiply_all::<S, 12>(simd, self.job),
                _ => multiply_all::<S, 6>(simd, self.job),
            }
        }
    }
}

/// Computes every block of rows for every pixel of the grid, and writes the pixels of the output to
/// its destination.
#[inline(always)]
unsafe fn correlate_all<S: Simd>(
    simd: S,
    job: &Correlation,
    to: &Destination,
    block: &mut Vec<f32>,
) {
    let [height, width] = job.size;
    let pixels = (height - 1) * job.grid_width + width;
    let tiles = pixels.div_ceil(S::LANES);
    let length = tiles * S::LANES;
    block.resize(most_rows(S::REGISTERS) * length, 0.0);
    let mut panel = job.panels.as_ptr();
    let mut row = 0;
    while row < job.rows {
        let left = job.rows - row;
        let most = most_rows(S::REGISTERS);
        let rows = if left >= most { most } else { 1 << left.ilog2() };
        let mut tile = 0;
        while tile < tiles {
            let vectors = (tiles - tile).min(PIXEL_VECTORS);
            // SAFETY: a tile reads fewer than READ_PAST_END floats after the last pixel, and
            // `block` holds all of its rows.
            unsafe {
                let planes = job.planes.as_ptr().add(tile * S::LANES);
                let out = block.as_mut_ptr().add(tile * S::LANES);
                match rows {
                    8 => tile_of::<S, 8>(simd, vectors, job.offsets, planes, panel, out, length),
                    4 => tile_of::<S, 4>(simd, vectors, job.offsets, planes, panel, out, length),
                    2 => tile_of::<S, 2>(simd, vectors, job.offsets, planes, panel, out, length),
                    _ => tile_of::<S, 1>(simd, vectors, job.offsets, planes, panel, out, length),
                }
            }
            tile += vectors;
        }
        for (index, line) in block.chunks_exact(length).take(rows).enumerate() {
            // SAFETY: the caller guarantees the destination, and the source is in `block`.
            unsafe {
                let channel = to.start.add((row + index) * to.channel);
                for y in 0..height {
                    let from = line.as_ptr().add(y * job.grid_width);
                    let line = channel.add(y * to.line);
                    match to.step {
                        1 => line.copy_from_nonoverlapping(from, width),
                        step => (0..width).for_each(|x| *line.add(x * step) = *from.add(x)),
                    }
                }
            }
        }
        // SAFETY: a panel has `rows` weights for every tap.
        panel = unsafe { panel.add(rows * job.offsets.len()) };
        row += rows;
    }
}

#[inline(always)]
unsafe fn tile_of<S: Simd, const ROWS: usize>(
    simd: S,
    vectors: usize,
    offsets: &[usize],
    planes: *const f32,
    panel: *const f32,
    out: *mut f32,
    length: usize,
) {
    // SAFETY: the caller guarantees the same.
    unsafe {
        match vectors {
            3 => tile::<S, ROWS, 3>(simd, offsets, planes, panel, out, length),
            2 => tile::<S, ROWS, 2>(simd, offsets, planes, panel, out, length),
            _ => tile::<S, ROWS, 1>(simd, offsets, planes, panel, out, length),
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    offsets: &[usize],
    planes: *const f32,
    mut panel: *const f32,
    out: *mut f32,
    length: usize,
) {
    // SAFETY: the caller guarantees the same.
    unsafe {
        let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
        for offset in offsets {
            let from = planes.add(*offset);
            let mut x = [simd.splat(0.0); VECTORS];
            for vector in 0..VECTORS {
                x[vector] = simd.load(from.add(vector * S::LANES));
            }
            for row in 0..ROWS {
                let weight = simd.splat(*panel.add(row));
                for vector in 0..VECTORS {
                    sums[row][vector] = simd.add_product(sums[row][vector], weight, x[vector]);
                }
            }
            panel = panel.add(ROWS);
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                simd.store(sums[row][vector], out.add(row * length + vector * S::LANES));
            }
        }
    }
}

/// Computes every block of taps and outputs.
#[inline(always)]
unsafe fn multiply_all<S: Simd, const TAPS: usize>(simd: S, job: &mut Products) {
    let mut output = 0;
    while output < job.outputs {
        let vectors = ((job.outputs - output) / S::LANES).min(OUTPUT_VECTORS);
        for first in (0..job.offsets.len()).step_by(TAPS) {
            // SAFETY: outputs are whole vectors and offsets are whole blocks; the caller has
            // checked the memory that they read.
            unsafe {
                match vectors {
                    2 => products::<S, TAPS, 2>(simd, job, first, output),
                    _ => products::<S, TAPS, 1>(simd, job, first, output),
                }
            }
        }
        output += vectors * S::LANES;
    }
}

#[inline(always)]
unsafe fn products<S: Simd, const TAPS: usize, const VECTORS: usize>(
    simd: S,
    job: &mut Products,
    first: usize,
    output: usize,
) {
    let [height, width] = job.size;
    // SAFETY: the caller guarantees the same.
    unsafe {
        let mut sums = [[simd.splat(0.0); VECTORS]; TAPS];
        let mut from = [job.planes.as_ptr(); TAPS];
        for tap in 0..TAPS {
            from[tap] = from[tap].add(job.offsets[first + tap]);
        }
        let mut gradients = job.gradients.as_ptr().add(output);
        for _ in 0..height {
            for x in 0..width {
                let mut g = [simd.splat(0.0); VECTORS];
                for vector in 0..VECTORS {
                    g[vector] = simd.load(gradients.add(vector * S::LANES));
                }
                for tap in 0..TAPS {
                    let value = simd.splat(*from[tap].add(x));
                    for vector in 0..VECTORS {
                        sums[tap][vector] = simd.add_product(sums[tap][vector], value, g[vector]);
                    }
                }
                gradients = gradients.add(job.outputs);
            }
            for from in &mut from {
                *from = from.wrapping_add(job.grid_width);
            }
        }
        for tap in 0..TAPS {
            let to = job.sums.as_mut_ptr().add((first + tap) * job.outputs + output);
            for vector in 0..VECTORS {
                let to = to.add(vector * S::LANES);
                let one = simd.splat(1.0);
                simd.store(simd.add_product(sums[tap][vector], one, simd.load(to)), to);
            }
        }
    }
}
