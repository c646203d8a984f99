//! The instruction sets. Each is a token that only detection creates, with the vectors that it
//! allows.

use super::Job;

/// An instruction set whose vectors the loops of this crate use. A value proves that the processor
/// has the set, so computing is safe; the caller only has to guarantee that pointers are valid.
///
/// # Safety
/// Values may only exist if the processor has the instruction set, and vectors must hold
/// [`LANES`](Self::LANES) floats.
pub(crate) unsafe trait Simd: Copy + Send + Sync {
    /// The name of the instruction set.
    const NAME: &'static str;
    /// Number of floats in a vector.
    const LANES: usize;
    /// Number of vector registers of the processor.
    const REGISTERS: usize;
    /// A vector of floats.
    type Floats: Copy;
    /// A vector of as many integers of 32 bits, or pairs of integers of 16 bits.
    type Integers: Copy;

    /// Returns a vector in which every float is `value`.
    fn splat(self, value: f32) -> Self::Floats;

    /// Returns sum + a·b. The operation is fused, and rounded once, if the instruction set supports
    /// that.
    fn add_product(self, sum: Self::Floats, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// Returns sum + a·b, where the product and the sum are rounded on their own.
    fn add_rounded_product(
        self,
        sum: Self::Floats,
        a: Self::Floats,
        b: Self::Floats,
    ) -> Self::Floats;

    /// Returns a vector in which every integer of 32 bits is `value`.
    fn splat_integer(self, value: i32) -> Self::Integers;

    /// Returns sum + a₀·b₀ + a₁·b₁ for the pairs of integers of 16 bits in each lane of a and b.
    /// Sums wrap around.
    fn add_pair_product(
        self,
        sum: Self::Integers,
        a: Self::Integers,
        b: Self::Integers,
    ) -> Self::Integers;

    /// Reads the vector of integers at a pointer.
    ///
    /// # Safety
    /// `from` must be valid for reads of [`LANES`](Self::LANES) integers, at any alignment.
    unsafe fn load_integers(self, from: *const i32) -> Self::Integers;

    /// Writes a vector of integers to a pointer.
    ///
    /// # Safety
    /// `to` must be valid for writes of [`LANES`](Self::LANES) integers, at any alignment.
    unsafe fn store_integers(self, vector: Self::Integers, to: *mut i32);

    /// Reads the vector at a pointer.
    ///
    /// # Safety
    /// `from` must be valid for reads of [`LANES`](Self::LANES) floats, at any alignment.
    unsafe fn load(self, from: *const f32) -> Self::Floats;

    /// Writes a vector to a pointer.
    ///
    /// # Safety
    /// `to` must be valid for writes of [`LANES`](Self::LANES) floats, at any alignment.
    unsafe fn store(self, vector: Self::Floats, to: *mut f32);

    /// Runs a job as it was compiled for the instruction set.
    fn run<J: Job>(self, job: J) -> J::Output;
}

/// Plain floats, which the compiler turns into the vectors that the program is compiled for: SSE2
/// on x86-64, and `simd128` on WebAssembly if it is enabled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portable;

// SAFETY: no instruction set is needed, and a vector is four floats.
unsafe impl Simd for Portable {
    const NAME: &'static str = "portable";
    const LANES: usize = 4;
    const REGISTERS: usize = 16;
    type Floats = [f32; 4];
    type Integers = [i32; 4];

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 4] {
        [value; 4]
    }

    #[inline(always)]
    fn add_product(self, sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        core::array::from_fn(|lane| sum[lane] + a[lane] * b[lane])
    }

    #[inline(always)]
    fn add_rounded_product(self, sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        portable_rounded_product(sum, a, b)
    }

    #[inline(always)]
    fn splat_integer(self, value: i32) -> [i32; 4] {
        [value; 4]
    }

    #[inline(always)]
    fn add_pair_product(self, sum: [i32; 4], a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        portable_pair_product(sum, a, b)
    }

    #[inline(always)]
    unsafe fn load_integers(self, from: *const i32) -> [i32; 4] {
        // SAFETY: the caller guarantees four integers.
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_integers(self, vector: [i32; 4], to: *mut i32) {
        // SAFETY: the caller guarantees four integers.
        unsafe { to.cast::<[i32; 4]>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [f32; 4] {
        // SAFETY: the caller guarantees four floats.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, vector: [f32; 4], to: *mut f32) {
        // SAFETY: the caller guarantees four floats.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(vector) }
    }

    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        job.run(self)
    }
}

/// Compilers do not keep many of these arrays in vectors, so the vectors are named where every
/// processor has them.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn portable_rounded_product(sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    use core::arch::x86_64::{__m128, _mm_add_ps, _mm_mul_ps};
    // SAFETY: x86-64 includes SSE, and the vectors have the size of the arrays.
    unsafe {
        let [sum, a, b] = [sum, a, b].map(|x| core::mem::transmute::<[f32; 4], __m128>(x));
        core::mem::transmute(_mm_add_ps(sum, _mm_mul_ps(a, b)))
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn portable_rounded_product(sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    core::array::from_fn(|lane| sum[lane] + a[lane] * b[lane])
}

/// Every processor of x86-64 has this instruction, which compilers do not find in plain code.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn portable_pair_product(sum: [i32; 4], a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
    use core::arch::x86_64::{__m128i, _mm_add_epi32, _mm_madd_epi16};
    // SAFETY: x86-64 includes SSE2, and the vectors have the size of the arrays.
    unsafe {
        let [sum, a, b] = [sum, a, b].map(|x| core::mem::transmute::<[i32; 4], __m128i>(x));
        core::mem::transmute(_mm_add_epi32(sum, _mm_madd_epi16(a, b)))
    }
}

/// WebAssembly with vectors has the same instruction.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(always)]
fn portable_pair_product(sum: [i32; 4], a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
    use core::arch::wasm32::{i32x4_add, i32x4_dot_i16x8, v128};
    // SAFETY: the vectors have the size of the arrays.
    unsafe {
        let [sum, a, b] = [sum, a, b].map(|x| core::mem::transmute::<[i32; 4], v128>(x));
        core::mem::transmute(i32x4_add(sum, i32x4_dot_i16x8(a, b)))
    }
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
#[inline(always)]
fn portable_pair_product(sum: [i32; 4], a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
    let half = |x: i32| i32::from(x as i16);
    core::array::from_fn(|lane| {
        let low = half(a[lane]) * half(b[lane]);
        let high = half(a[lane] >> 16) * half(b[lane] >> 16);
        sum[lane].wrapping_add(low.wrapping_add(high))
    })
}

/// Defines a token and its vectors with the intrinsics of `$arch`.
#[allow(unused_macros, reason = "other processors only have portable code")]
macro_rules! instruction_set {
    (
        $token:ident, $name:literal, $arch:ident, $detected:ident, [$($feature:tt),*],
        lanes $lanes:literal,
        registers $registers:literal, $floats:ident, $splat:ident, $load:ident, $store:ident,
        |$sum:ident, $a:ident, $b:ident| $fused:expr, $rounded:expr,
        $integers:ident, $splat_integer:ident, $load_integers:ident, $store_integers:ident,
        |$isum:ident, $ia:ident, $ib:ident| $pairs:expr
    ) => {
        #[doc = concat!("The proof that the processor has ", $name, "'s vectors.")]
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $token(());

        impl $token {
            /// Returns the token if the processor has all features or, without `std`, if the
            /// program is compiled for them.
            #[inline]
            pub(super) fn detect() -> Option<Self> {
                #[cfg(feature = "std")]
                let has = $(std::arch::$detected!($feature))&&*;
                #[cfg(not(feature = "std"))]
                let has = cfg!(all($(target_feature = $feature),*));
                has.then_some(Self(()))
            }
        }

        // SAFETY: only `detect` creates a token, and a vector holds `$lanes` floats.
        unsafe impl Simd for $token {
            const NAME: &'static str = $name;
            const LANES: usize = $lanes;
            const REGISTERS: usize = $registers;
            type Floats = core::arch::$arch::$floats;
            type Integers = core::arch::$arch::$integers;

            #[inline(always)]
            fn splat(self, value: f32) -> Self::Floats {
                // SAFETY: the token proves that the processor has the instruction.
                unsafe { core::arch::$arch::$splat(value) }
            }

            #[inline(always)]
            fn add_product(
                self,
                $sum: Self::Floats,
                $a: Self::Floats,
                $b: Self::Floats,
            ) -> Self::Floats {
                // SAFETY: the token proves that the processor has the instruction.
                unsafe { $fused }
            }

            #[inline(always)]
            fn add_rounded_product(
                self,
                $sum: Self::Floats,
                $a: Self::Floats,
                $b: Self::Floats,
            ) -> Self::Floats {
                // SAFETY: the token proves that the processor has the instructions.
                unsafe { $rounded }
            }

            #[inline(always)]
            fn splat_integer(self, value: i32) -> Self::Integers {
                // SAFETY: the token proves that the processor has the instruction.
                unsafe { core::arch::$arch::$splat_integer(value) }
            }

            #[inline(always)]
            fn add_pair_product(
                self,
                $isum: Self::Integers,
                $ia: Self::Integers,
                $ib: Self::Integers,
            ) -> Self::Integers {
                // SAFETY: the token proves that the processor has the instructions.
                unsafe { $pairs }
            }

            #[inline(always)]
            unsafe fn load_integers(self, from: *const i32) -> Self::Integers {
                // SAFETY: the token proves that the processor has the instruction; the caller
                // guarantees the integers.
                unsafe { core::arch::$arch::$load_integers(from.cast()) }
            }

            #[inline(always)]
            unsafe fn store_integers(self, vector: Self::Integers, to: *mut i32) {
                // SAFETY: the token proves that the processor has the instruction; the caller
                // guarantees the integers.
                unsafe { core::arch::$arch::$store_integers(to.cast(), vector) }
            }

            #[inline(always)]
            unsafe fn load(self, from: *const f32) -> Self::Floats {
                // SAFETY: the token proves that the processor has the instruction; the caller
                // guarantees the floats.
                unsafe { core::arch::$arch::$load(from) }
            }

            #[inline(always)]
            unsafe fn store(self, vector: Self::Floats, to: *mut f32) {
                // SAFETY: the token proves that the processor has the instruction; the caller
                // guarantees the floats.
                unsafe { core::arch::$arch::$store(to, vector) }
            }

            #[inline(always)]
            fn run<J: Job>(self, job: J) -> J::Output {
                #[target_feature($(enable = $feature),*)]
                fn enabled<J: Job>(simd: $token, job: J) -> J::Output {
                    job.run(simd)
                }
                // SAFETY: the token proves that the processor has the features.
                unsafe { enabled(self, job) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
instruction_set!(
    Avx512, "avx512", x86_64, is_x86_feature_detected,
    ["avx512f", "avx512bw", "avx512dq", "avx512vl"], lanes 16, registers 32,
    __m512, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    |sum, a, b| core::arch::x86_64::_mm512_fmadd_ps(a, b, sum),
    core::arch::x86_64::_mm512_add_ps(sum, core::arch::x86_64::_mm512_mul_ps(a, b)),
    __m512i, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
    |sum, a, b| core::arch::x86_64::_mm512_add_epi32(
        sum, core::arch::x86_64::_mm512_madd_epi16(a, b)
    )
);

#[cfg(target_arch = "x86_64")]
instruction_set!(
    Avx512Vnni, "avx512vnni", x86_64, is_x86_feature_detected,
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"], lanes 16, registers 32,
    __m512, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    |sum, a, b| core::arch::x86_64::_mm512_fmadd_ps(a, b, sum),
    core::arch::x86_64::_mm512_add_ps(sum, core::arch::x86_64::_mm512_mul_ps(a, b)),
    __m512i, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
    |sum, a, b| core::arch::x86_64::_mm512_dpwssd_epi32(sum, a, b)
);

#[cfg(target_arch = "x86_64")]
instruction_set!(
    Avx2Vnni, "avx2vnni", x86_64, is_x86_feature_detected, ["avx2", "fma", "avxvnni"], lanes 8,
    registers 16, __m256, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps,
    |sum, a, b| core::arch::x86_64::_mm256_fmadd_ps(a, b, sum),
    core::arch::x86_64::_mm256_add_ps(sum, core::arch::x86_64::_mm256_mul_ps(a, b)),
    __m256i, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256,
    |sum, a, b| core::arch::x86_64::_mm256_dpwssd_avx_epi32(sum, a, b)
);

#[cfg(target_arch = "x86_64")]
instruction_set!(
    Avx2, "avx2", x86_64, is_x86_feature_detected, ["avx2", "fma"], lanes 8, registers 16,
    __m256, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps,
    |sum, a, b| core::arch::x86_64::_mm256_fmadd_ps(a, b, sum),
    core::arch::x86_64::_mm256_add_ps(sum, core::arch::x86_64::_mm256_mul_ps(a, b)),
    __m256i, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256,
    |sum, a, b| core::arch::x86_64::_mm256_add_epi32(
        sum, core::arch::x86_64::_mm256_madd_epi16(a, b)
    )
);

#[cfg(target_arch = "aarch64")]
instruction_set!(
    Neon, "neon", aarch64, is_aarch64_feature_detected, ["neon"], lanes 4, registers 32,
    float32x4_t, vdupq_n_f32, vld1q_f32, vst1q_f32,
    |sum, a, b| core::arch::aarch64::vfmaq_f32(sum, a, b),
    core::arch::aarch64::vaddq_f32(sum, core::arch::aarch64::vmulq_f32(a, b)),
    int32x4_t, vdupq_n_s32, vld1q_s32, vst1q_s32,
    |sum, a, b| {
        use core::arch::aarch64::{
            vaddq_s32, vget_low_s16, vmull_high_s16, vmull_s16, vpaddq_s32, vreinterpretq_s16_s32,
        };
        let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
        let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
        vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(a, b)))
    }
);
