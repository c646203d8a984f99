//! Vectors of floats of one instruction set each: kernels are written once over [`Vector`].

/// Floats that are computed with at once.
///
/// # Safety
/// Methods may only be called where the instruction set is there, and inlined into functions that enable it.
/// `load` and `store` access [`LANES`](Self::LANES) floats from the pointer on, at any alignment.
pub(crate) unsafe trait Vector: Copy {
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// self + a·b.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Plain floats, which compilers turn into whatever vectors every processor of a kind has.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

// SAFETY: no instruction set is needed, and pointers are read and written as the trait says.
unsafe impl Vector for Portable {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for four floats.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for four floats.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        let mut sum = self.0;
        for lane in 0..4 {
            sum[lane] += a.0[lane] * b.0[lane];
        }
        Self(sum)
    }
}

macro_rules! vector {
    ($type:ty, $lanes:literal, $splat:path, $load:path, $store:path, |$sum:ident, $a:ident, $b:ident| $fma:expr) => {
        // SAFETY: the intrinsics do what the trait says.
        unsafe impl Vector for $type {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $splat(value) }
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller vouches for the instruction set and the floats.
                unsafe { $load(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller vouches for the instruction set and the floats.
                unsafe { $store(to, self) }
            }

            #[inline(always)]
            unsafe fn add_product(self, $a: Self, $b: Self) -> Self {
                let $sum = self;
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $fma }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    vector!(__m512, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, |sum, a, b| {
        _mm512_fmadd_ps(a, b, sum)
    });
    vector!(__m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, |sum, a, b| {
        _mm256_fmadd_ps(a, b, sum)
    });
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::Vector;

    vector!(float32x4_t, 4, vdupq_n_f32, vld1q_f32, vst1q_f32, |sum, a, b| {
        vfmaq_f32(sum, a, b)
    });
}
