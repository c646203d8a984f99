//! The two inner loops, each over registers that hold a block of the result, and the choice of the instruction set.
//!
//! Both read planes: images padded with zeros, such that a tap of the kernel is an offset. With an output on a grid of
//! the planes' width, tap t of output pixel p lies at `offsets[t] + p`: neighbouring pixels are neighbouring floats, and
//! nothing has to be gathered. What such a grid computes beyond the output's width is not stored.

use std::sync::OnceLock;

use super::vector::{Portable, Vector};

/// y\[m\]\[p\] = Σₜ w\[m\]\[t\]·x\[offsets\[t\] + p\] for the pixels of a grid.
pub(crate) struct Correlation<'a> {
    /// Planes, with [`SLACK`] floats after the last that a tap of the output reads.
    pub(crate) planes: &'a [f32],
    /// Where each tap reads for pixel 0.
    pub(crate) offsets: &'a [usize],
    /// The weights, by [`pack`].
    pub(crate) panels: &'a [f32],
    /// Rows of the result: output channels.
    pub(crate) rows: usize,
    /// Width of the grid.
    pub(crate) grid_width: usize,
    /// Height and width of the output.
    pub(crate) size: [usize; 2],
}

/// Where the rows of a [`Correlation`] go: element (row, y, x) to `start + row·channel + y·line + x·step`.
pub(crate) struct Destination {
    pub(crate) start: *mut f32,
    pub(crate) channel: usize,
    pub(crate) line: usize,
    pub(crate) step: usize,
}

/// d\[t\]\[o\] += Σₚ x\[offsets\[t\] + p\]·g\[p\]\[o\] over the pixels of an output.
pub(crate) struct Products<'a> {
    /// Planes, as of the correlation.
    pub(crate) planes: &'a [f32],
    /// Where each tap reads for pixel 0; a multiple of [`Kernels::taps`], of which the last may be repeated.
    pub(crate) offsets: &'a [usize],
    /// `[pixels][outputs]`.
    pub(crate) gradients: &'a [f32],
    /// Outputs, a multiple of [`Kernels::lanes`].
    pub(crate) outputs: usize,
    /// Width of the grid.
    pub(crate) grid_width: usize,
    /// Height and width of the output.
    pub(crate) size: [usize; 2],
    /// `[taps][outputs]`.
    pub(crate) sums: &'a mut [f32],
}

/// Floats that a correlation may read past its last pixel.
pub(crate) const SLACK: usize = 64;

/// The inner loops of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// Its name.
    pub(crate) name: &'static str,
    /// Floats of a vector.
    pub(crate) lanes: usize,
    /// Most rows that a correlation computes at once.
    pub(crate) rows: usize,
    /// Taps that products compute at once.
    pub(crate) taps: usize,
    correlate: unsafe fn(&Correlation, &Destination, &mut Vec<f32>),
    multiply: unsafe fn(&mut Products),
}

impl Kernels {
    /// Those of this processor.
    pub(crate) fn detect() -> &'static Self {
        static KERNELS: OnceLock<Kernels> = OnceLock::new();
        KERNELS.get_or_init(|| available()[0])
    }

    /// Runs a correlation; `block` is memory that it may use.
    ///
    /// # Safety
    /// `to` covers every element of every row.
    pub(crate) unsafe fn correlate(
        &self,
        job: &Correlation,
        to: &Destination,
        block: &mut Vec<f32>,
    ) {
        let reach = job.offsets.iter().copied().max().unwrap_or(0);
        let [height, width] = job.size;
        let pixels = (height - 1) * job.grid_width + width;
        assert!(reach + pixels + SLACK <= job.planes.len(), "taps read within the planes");
        assert_eq!(job.panels.len(), job.rows * job.offsets.len(), "every tap has a weight");
        // SAFETY: reads were checked; `available` lists what the processor has; the caller vouches for writes.
        unsafe { (self.correlate)(job, to, block) }
    }

    /// Adds products.
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
        // SAFETY: reads and writes were checked, and `available` lists what the processor has.
        unsafe { (self.multiply)(job) }
    }

    /// Rows of the block that begins at `row` of `rows`.
    fn block(&self, row: usize, rows: usize) -> usize {
        let left = rows - row;
        if left >= self.rows { self.rows } else { 1 << left.ilog2() }
    }

    /// Weights as correlations read them: blocks of rows, tap by tap, of `weight(row, tap)`.
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

/// The instruction set that convolutions use on this processor: `avx512`, `avx2`, `neon` or `portable`.
pub fn instruction_set() -> &'static str {
    Kernels::detect().name
}

/// All that this processor can run, the best first.
pub(crate) fn available() -> Vec<Kernels> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            all.push(avx512::KERNELS);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            all.push(avx2::KERNELS);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        all.push(neon::KERNELS);
    }
    all.push(portable::KERNELS);
    all
}

/// The loops compiled for an instruction set: so many rows and vectors of a correlation, taps and vectors of
/// products, as its registers hold.
macro_rules! kernels {
    ($module:ident, $(#[$feature:meta])? $vector:ty, $name:literal, rows $rows:literal, taps $taps:literal) => {
        mod $module {
            use super::*;

            pub(super) const KERNELS: Kernels = Kernels {
                name: $name,
                lanes: <$vector as Vector>::LANES,
                rows: $rows,
                taps: $taps,
                correlate,
                multiply,
            };

            $(#[$feature])?
            unsafe fn correlate(job: &Correlation, to: &Destination, block: &mut Vec<f32>) {
                // SAFETY: as the caller's.
                unsafe { correlate_all::<$vector, $rows>(job, to, block) }
            }

            $(#[$feature])?
            unsafe fn multiply(job: &mut Products) {
                // SAFETY: as the caller's.
                unsafe { multiply_all::<$vector, $taps>(job) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernels!(avx512, #[target_feature(enable = "avx512f")] std::arch::x86_64::__m512, "avx512", rows 8, taps 12);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, #[target_feature(enable = "avx2,fma")] std::arch::x86_64::__m256, "avx2", rows 4, taps 6);
#[cfg(target_arch = "aarch64")]
kernels!(neon, #[target_feature(enable = "neon")] std::arch::aarch64::float32x4_t, "neon", rows 8, taps 12);
kernels!(portable, Portable, "portable", rows 4, taps 6);

/// Every block of rows, every pixel of the grid, and what lies on the output to its destination.
#[inline(always)]
unsafe fn correlate_all<V: Vector, const ROWS: usize>(
    job: &Correlation,
    to: &Destination,
    block: &mut Vec<f32>,
) {
    let [height, width] = job.size;
    let pixels = (height - 1) * job.grid_width + width;
    let tiles = pixels.div_ceil(V::LANES);
    let length = tiles * V::LANES;
    block.resize(ROWS * length, 0.0);
    let mut panel = job.panels.as_ptr();
    let mut row = 0;
    while row < job.rows {
        let left = job.rows - row;
        let rows = if left >= ROWS { ROWS } else { 1 << left.ilog2() };
        let mut tile = 0;
        while tile < tiles {
            let vectors = (tiles - tile).min(3);
            // SAFETY: a tile reads fewer than SLACK floats past the last pixel; `block` holds all of its rows.
            unsafe {
                let planes = job.planes.as_ptr().add(tile * V::LANES);
                let out = block.as_mut_ptr().add(tile * V::LANES);
                match rows {
                    8 => tile_of::<V, 8>(vectors, job.offsets, planes, panel, out, length),
                    4 => tile_of::<V, 4>(vectors, job.offsets, planes, panel, out, length),
                    2 => tile_of::<V, 2>(vectors, job.offsets, planes, panel, out, length),
                    _ => tile_of::<V, 1>(vectors, job.offsets, planes, panel, out, length),
                }
            }
            tile += vectors;
        }
        for (index, line) in block.chunks_exact(length).take(rows).enumerate() {
            // SAFETY: the caller vouches for the destination; the source lies in `block`.
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
unsafe fn tile_of<V: Vector, const ROWS: usize>(
    vectors: usize,
    offsets: &[usize],
    planes: *const f32,
    panel: *const f32,
    out: *mut f32,
    length: usize,
) {
    // SAFETY: as the caller's.
    unsafe {
        match vectors {
            3 => tile::<V, ROWS, 3>(offsets, planes, panel, out, length),
            2 => tile::<V, ROWS, 2>(offsets, planes, panel, out, length),
            _ => tile::<V, ROWS, 1>(offsets, planes, panel, out, length),
        }
    }
}

#[inline(always)]
unsafe fn tile<V: Vector, const ROWS: usize, const VECTORS: usize>(
    offsets: &[usize],
    planes: *const f32,
    mut panel: *const f32,
    out: *mut f32,
    length: usize,
) {
    // SAFETY: as the caller's.
    unsafe {
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        for offset in offsets {
            let from = planes.add(*offset);
            let mut x = [V::splat(0.0); VECTORS];
            for vector in 0..VECTORS {
                x[vector] = V::load(from.add(vector * V::LANES));
            }
            for row in 0..ROWS {
                let weight = V::splat(*panel.add(row));
                for vector in 0..VECTORS {
                    sums[row][vector] = sums[row][vector].add_product(weight, x[vector]);
                }
            }
            panel = panel.add(ROWS);
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                sums[row][vector].store(out.add(row * length + vector * V::LANES));
            }
        }
    }
}

/// Every block of taps and outputs.
#[inline(always)]
unsafe fn multiply_all<V: Vector, const TAPS: usize>(job: &mut Products) {
    let mut output = 0;
    while output < job.outputs {
        let vectors = ((job.outputs - output) / V::LANES).min(2);
        for first in (0..job.offsets.len()).step_by(TAPS) {
            // SAFETY: outputs are whole vectors, offsets whole blocks; the caller has checked what they read.
            unsafe {
                match vectors {
                    2 => products::<V, TAPS, 2>(job, first, output),
                    _ => products::<V, TAPS, 1>(job, first, output),
                }
            }
        }
        output += vectors * V::LANES;
    }
}

#[inline(always)]
unsafe fn products<V: Vector, const TAPS: usize, const VECTORS: usize>(
    job: &mut Products,
    first: usize,
    output: usize,
) {
    let [height, width] = job.size;
    // SAFETY: as the caller's.
    unsafe {
        let mut sums = [[V::splat(0.0); VECTORS]; TAPS];
        let mut from = [job.planes.as_ptr(); TAPS];
        for tap in 0..TAPS {
            from[tap] = from[tap].add(job.offsets[first + tap]);
        }
        let mut gradients = job.gradients.as_ptr().add(output);
        for _ in 0..height {
            for x in 0..width {
                let mut g = [V::splat(0.0); VECTORS];
                for vector in 0..VECTORS {
                    g[vector] = V::load(gradients.add(vector * V::LANES));
                }
                for tap in 0..TAPS {
                    let value = V::splat(*from[tap].add(x));
                    for vector in 0..VECTORS {
                        sums[tap][vector] = sums[tap][vector].add_product(value, g[vector]);
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
                let to = to.add(vector * V::LANES);
                let one = V::splat(1.0);
                sums[tap][vector].add_product(one, V::load(to)).store(to);
            }
        }
    }
}
