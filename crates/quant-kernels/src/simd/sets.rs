//! The instruction sets of x86-64 and of 64-bit ARM. Each is a token that only detection creates,
//! with the vectors that it allows.

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::{
    _mm256_dpbusd_avx_epi32, _mm256_dpwssd_avx_epi32, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32,
};

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::operations::{Job, Simd};
#[cfg(target_arch = "x86_64")]
use super::x86::{narrow, narrow_masks, popcnt, wide, wide_masks};

/// Defines methods that call a function of integer vectors.
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
                shift_left(a, b) $masks::shift_left,
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
            fn zip_shorts(self, a: Self::Integers, b: Self::Integers) -> [Self::Integers; 2] {
                // SAFETY: the token proves that the processor has the instructions.
                unsafe { $masks::zip_shorts(a, b) }
            }

            #[inline(always)]
            fn unzipped(self, [a, b]: [Self::Integers; 2]) -> [Self::Integers; 2] {
                // SAFETY: the token proves that the processor has the instructions.
                unsafe { $masks::unzipped(a, b) }
            }

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
