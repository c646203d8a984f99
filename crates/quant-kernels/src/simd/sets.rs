//! The instruction sets. Each is a token that only detection creates, with the vectors that it
//! allows.

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::{
    _mm256_dpbusd_avx_epi32, _mm256_dpwssd_avx_epi32, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32,
};

use super::Job;
#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::x86::{narrow, narrow_masks, popcnt, wide, wide_masks};

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
    /// A vector of as many integers of 32 bits, or of the smaller integers that have their place.
    type Integers: Copy;
    /// Whether [`add_quad_product`](Self::add_quad_product) takes the bytes of a less 128.
    const SHIFTS_QUADS: bool = false;
    /// How often counts are added or subtracted before they must be widened.
    const COUNTS: usize;

    /// Returns a vector in which every float is `value`.
    fn splat(self, value: f32) -> Self::Floats;

    /// Returns sum + a·b. The operation is fused, and rounded once, if the instruction set supports
    /// that.
    #[cfg_attr(not(feature = "training"), expect(dead_code, reason = "only training uses it"))]
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

    /// Returns a + b. Sums wrap around.
    fn add_integers(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// Returns a·b. Products wrap around.
    fn multiply_integers(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// Returns the bits of both a and b.
    fn and(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// Returns the bits that differ between a and b.
    fn xor(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// Returns the bits of b that are not in a.
    fn without(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// Returns sum + a₀·w₀ + ... + a₃·w₃ for the four bytes in each lane, those of a from 0 to 255
    /// and those of w from -128 to 127. If [`SHIFTS_QUADS`](Self::SHIFTS_QUADS) is true, 128 is
    /// subtracted from each byte of a first. Sums wrap around.
    fn add_quad_product(
        self,
        sum: Self::Integers,
        a: Self::Integers,
        w: Self::Integers,
    ) -> Self::Integers;

    /// Adds a₀·w₀ + a₁·w₁ for the pairs of bytes in a and w to sums of 16 bits, two in each lane.
    /// The caller guarantees that neither the summand nor the sum exceeds 16 bits.
    fn add_short_products(
        self,
        sums: Self::Integers,
        a: Self::Integers,
        w: Self::Integers,
    ) -> Self::Integers;

    /// Adds the two sums of 16 bits in each lane to a sum of 32 bits.
    fn widen_shorts(self, sum: Self::Integers, shorts: Self::Integers) -> Self::Integers;

    /// Adds the number of bits to counts. They may be kept in parts of a lane, so they are added up
    /// by [`widen_counts`](Self::widen_counts), after at most [`COUNTS`](Self::COUNTS) calls.
    fn add_count(self, counts: Self::Integers, bits: Self::Integers) -> Self::Integers;

    /// Subtracts the number of bits from counts.
    fn subtract_count(self, counts: Self::Integers, bits: Self::Integers) -> Self::Integers;

    /// Returns the sum plus the counts of each lane.
    fn widen_counts(self, sum: Self::Integers, counts: Self::Integers) -> Self::Integers;

    /// Returns sum + a₀·b₀ + a₁·b₁ for the pairs of integers of 16 bits in each lane of a and b.
    /// Sums wrap around.
    fn add_pair_product(
        self,
        sum: Self::Integers,
        a: Self::Integers,
        b: Self::Integers,
    ) -> Self::Integers;

    /// Returns a + b.
    fn add_floats(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// Returns a - b.
    fn subtract_floats(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// Returns a·b.
    fn multiply_floats(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// Returns a/b.
    fn divide_floats(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// Returns a where a > b, else b.
    fn larger(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// Returns a where a < b, else b.
    fn smaller(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// Returns a where x > 0, else b.
    fn if_positive(self, x: Self::Floats, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// Returns the floats nearest to integers.
    fn floats_of(self, x: Self::Integers) -> Self::Floats;

    /// Returns the bits of floats.
    fn bits_of(self, x: Self::Floats) -> Self::Integers;

    /// Returns sum + step where x ≥ threshold, else the sum.
    fn add_if_reached(
        self,
        sum: Self::Integers,
        step: Self::Integers,
        x: Self::Floats,
        threshold: Self::Floats,
    ) -> Self::Integers;

    /// Returns sum + step where x > threshold, else the sum.
    fn add_if_above(
        self,
        sum: Self::Integers,
        step: Self::Integers,
        x: Self::Integers,
        threshold: Self::Integers,
    ) -> Self::Integers;

    /// Returns the lowest bit of each integer, that of the first one as the lowest bit.
    fn low_bits(self, x: Self::Integers) -> u32;

    /// Returns the second bit of each integer, that of the first one as the lowest bit.
    fn second_bits(self, x: Self::Integers) -> u32;

    /// Writes the lowest byte of each integer.
    ///
    /// # Safety
    /// `to` must be valid for writes of [`LANES`](Self::LANES) bytes.
    unsafe fn store_bytes(self, x: Self::Integers, to: *mut u8);

    /// Writes the lowest 16 bits of each integer.
    ///
    /// # Safety
    /// `to` must be valid for writes of [`LANES`](Self::LANES) integers, at any alignment.
    unsafe fn store_shorts(self, x: Self::Integers, to: *mut i16);

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

/// Defines methods that call a function of integer vectors.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! operations {
    ($($name:ident($($argument:ident),*) $function:path),*) => {
        $(
            #[inline(always)]
            fn $name(self, $($argument: Self::Integers),*) -> Self::Integers {
                // SAFETY: the token proves that the processor has the instructions.
                unsafe { $function($($argument),*) }
            }
        )*
    };
}

/// Defines methods that call the function of the same name in a module.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! operations_of_floats {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty, $module:ident);* $(;)?) => {
        $(
            #[inline(always)]
            fn $name(self, $($argument: $type),*) -> $result {
                // SAFETY: the token proves that the processor has the instructions.
                unsafe { $module::$name($($argument),*) }
            }
        )*
    };
}

/// Defines a token and its vectors with the intrinsics of `$arch`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! instruction_set {
    (
        $token:ident, $name:literal, $arch:ident, $detected:ident, [$($feature:tt),*],
        lanes $lanes:literal,
        registers $registers:literal, $floats:ident, $splat:ident, $load:ident, $store:ident,
        |$sum:ident, $a:ident, $b:ident| $fused:expr, $rounded:expr,
        $integers:ident, $splat_integer:ident, $load_integers:ident, $store_integers:ident,
        operations $operations:ident, masks $masks:ident,
        pairs $pairs:path, quads $quads:path, shifts $shifts:literal,
        counts $counts:literal $add_count:path, $subtract_count:path, $widen_counts:path
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
            const SHIFTS_QUADS: bool = $shifts;
            const COUNTS: usize = $counts;
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

            operations!(
                add_integers(a, b) $operations::add,
                multiply_integers(a, b) $operations::multiply,
                and(a, b) $operations::and,
                xor(a, b) $operations::xor,
                without(a, b) $operations::without,
                add_pair_product(sum, a, b) $pairs,
                add_quad_product(sum, a, w) $quads,
                add_short_products(sums, a, w) $operations::shorts,
                widen_shorts(sum, shorts) $operations::widen_shorts,
                add_count(counts, bits) $add_count,
                subtract_count(counts, bits) $subtract_count,
                widen_counts(sum, counts) $widen_counts
            );

            operations_of_floats!(
                add_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats, $operations;
                subtract_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats, $operations;
                multiply_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats, $operations;
                divide_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats, $operations;
                larger(a: Self::Floats, b: Self::Floats) -> Self::Floats, $operations;
                smaller(a: Self::Floats, b: Self::Floats) -> Self::Floats, $operations;
                floats_of(x: Self::Integers) -> Self::Floats, $operations;
                bits_of(x: Self::Floats) -> Self::Integers, $operations;
                if_positive(
                    x: Self::Floats, a: Self::Floats, b: Self::Floats
                ) -> Self::Floats, $masks;
                add_if_reached(
                    sum: Self::Integers, step: Self::Integers,
                    x: Self::Floats, threshold: Self::Floats
                ) -> Self::Integers, $masks;
                add_if_above(
                    sum: Self::Integers, step: Self::Integers,
                    x: Self::Integers, threshold: Self::Integers
                ) -> Self::Integers, $masks;
                low_bits(x: Self::Integers) -> u32, $masks;
                second_bits(x: Self::Integers) -> u32, $masks;
            );

            #[inline(always)]
            unsafe fn store_bytes(self, x: Self::Integers, to: *mut u8) {
                // SAFETY: the token proves that the processor has the instructions; the caller
                // guarantees the bytes.
                unsafe { $masks::store_bytes(x, to) }
            }

            #[inline(always)]
            unsafe fn store_shorts(self, x: Self::Integers, to: *mut i16) {
                // SAFETY: the token proves that the processor has the instructions; the caller
                // guarantees the integers.
                unsafe { $masks::store_shorts(x, to) }
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
    ["avx512f", "avx512bw", "avx512dq", "avx512vl"],
    lanes 16, registers 32,
    __m512, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    |sum, a, b| core::arch::x86_64::_mm512_fmadd_ps(a, b, sum),
    core::arch::x86_64::_mm512_add_ps(sum, core::arch::x86_64::_mm512_mul_ps(a, b)),
    __m512i, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
    operations wide, masks wide_masks, pairs wide::pairs, quads wide::quads,
    shifts false,
    counts 15 wide::add_count, wide::subtract_count, wide::widen_counts
);

#[cfg(target_arch = "x86_64")]
instruction_set!(
    Avx512Vnni, "avx512vnni", x86_64, is_x86_feature_detected,
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"],
    lanes 16, registers 32,
    __m512, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    |sum, a, b| core::arch::x86_64::_mm512_fmadd_ps(a, b, sum),
    core::arch::x86_64::_mm512_add_ps(sum, core::arch::x86_64::_mm512_mul_ps(a, b)),
    __m512i, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
    operations wide, masks wide_masks, pairs _mm512_dpwssd_epi32, quads _mm512_dpbusd_epi32,
    shifts false,
    counts 15 wide::add_count, wide::subtract_count, wide::widen_counts
);

#[cfg(target_arch = "x86_64")]
instruction_set!(
    Avx512Popcnt, "avx512vpopcntdq", x86_64, is_x86_feature_detected,
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512vpopcntdq"],
    lanes 16, registers 32,
    __m512, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps,
    |sum, a, b| core::arch::x86_64::_mm512_fmadd_ps(a, b, sum),
    core::arch::x86_64::_mm512_add_ps(sum, core::arch::x86_64::_mm512_mul_ps(a, b)),
    __m512i, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512,
    operations wide, masks wide_masks, pairs _mm512_dpwssd_epi32, quads _mm512_dpbusd_epi32,
    shifts false,
    counts 0x7FFF_FFFF popcnt::add_count, popcnt::subtract_count, wide::add
);

#[cfg(target_arch = "x86_64")]
instruction_set!(
    Avx2Vnni, "avx2vnni", x86_64, is_x86_feature_detected,
    ["avx2", "fma", "avxvnni"],
    lanes 8, registers 16,
    __m256, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps,
    |sum, a, b| core::arch::x86_64::_mm256_fmadd_ps(a, b, sum),
    core::arch::x86_64::_mm256_add_ps(sum, core::arch::x86_64::_mm256_mul_ps(a, b)),
    __m256i, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256,
    operations narrow, masks narrow_masks,
    pairs _mm256_dpwssd_avx_epi32, quads _mm256_dpbusd_avx_epi32, shifts false,
    counts 15 narrow::add_count, narrow::subtract_count, narrow::widen_counts
);

#[cfg(target_arch = "x86_64")]
instruction_set!(
    Avx2, "avx2", x86_64, is_x86_feature_detected,
    ["avx2", "fma"],
    lanes 8, registers 16,
    __m256, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps,
    |sum, a, b| core::arch::x86_64::_mm256_fmadd_ps(a, b, sum),
    core::arch::x86_64::_mm256_add_ps(sum, core::arch::x86_64::_mm256_mul_ps(a, b)),
    __m256i, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256,
    operations narrow, masks narrow_masks, pairs narrow::pairs, quads narrow::quads,
    shifts false,
    counts 15 narrow::add_count, narrow::subtract_count, narrow::widen_counts
);

#[cfg(target_arch = "aarch64")]
instruction_set!(
    Neon, "neon", aarch64, is_aarch64_feature_detected,
    ["neon"],
    lanes 4, registers 32,
    float32x4_t, vdupq_n_f32, vld1q_f32, vst1q_f32,
    |sum, a, b| core::arch::aarch64::vfmaq_f32(sum, a, b),
    core::arch::aarch64::vaddq_f32(sum, core::arch::aarch64::vmulq_f32(a, b)),
    int32x4_t, vdupq_n_s32, vld1q_s32, vst1q_s32,
    operations neon, masks neon, pairs neon::pairs, quads neon::quads,
    shifts false,
    counts 15 neon::add_count, neon::subtract_count, neon::widen_counts
);

#[cfg(target_arch = "aarch64")]
instruction_set!(
    NeonDot, "neondot", aarch64, is_aarch64_feature_detected,
    ["neon", "dotprod"],
    lanes 4, registers 32,
    float32x4_t, vdupq_n_f32, vld1q_f32, vst1q_f32,
    |sum, a, b| core::arch::aarch64::vfmaq_f32(sum, a, b),
    core::arch::aarch64::vaddq_f32(sum, core::arch::aarch64::vmulq_f32(a, b)),
    int32x4_t, vdupq_n_s32, vld1q_s32, vst1q_s32,
    operations neon, masks neon, pairs neon::pairs, quads neon::quads_of_signed,
    shifts true,
    counts 15 neon::add_count, neon::subtract_count, neon::widen_counts
);

#[cfg(target_arch = "aarch64")]
instruction_set!(
    NeonI8mm, "neoni8mm", aarch64, is_aarch64_feature_detected,
    ["neon", "dotprod", "i8mm"],
    lanes 4, registers 32,
    float32x4_t, vdupq_n_f32, vld1q_f32, vst1q_f32,
    |sum, a, b| core::arch::aarch64::vfmaq_f32(sum, a, b),
    core::arch::aarch64::vaddq_f32(sum, core::arch::aarch64::vmulq_f32(a, b)),
    int32x4_t, vdupq_n_s32, vld1q_s32, vst1q_s32,
    operations neon, masks neon, pairs neon::pairs, quads neon::quads_of_mixed,
    shifts false,
    counts 15 neon::add_count, neon::subtract_count, neon::widen_counts
);
