//! Integer operations of x86-64's vectors, which the sets of one width share.
//!
//! # Safety
//! A function may only be called where the processor has the instructions of its module: AVX2 or
//! AVX-512 with BW.

/// Defines the operations for one width.
macro_rules! x86_vectors {
    (
        $(#[$doc:meta])* $module:ident, $vector:ident, $bytes:ty,
        splat $splat8:ident $splat16:ident,
        add $add8:ident $add16:ident $add32:ident, sub $sub8:ident, multiply $multiply:ident,
        pairs $madd:ident, quads $maddubs:ident, shift $left:ident $right:ident $arithmetic:ident,
        logic $and:ident $xor:ident $andnot:ident, shuffle $shuffle:ident,
        floats $floats:ident $add_ps:ident $sub_ps:ident $mul_ps:ident $div_ps:ident
        $max_ps:ident $min_ps:ident $convert:ident $bits:ident
    ) => {
        $(#[$doc])*
        pub(super) mod $module {
            use core::arch::x86_64::*;

            #[inline(always)]
            pub(crate) unsafe fn add(a: $vector, b: $vector) -> $vector {
                unsafe { $add32(a, b) }
            }

            #[inline(always)]
            pub(crate) unsafe fn add_floats(a: $floats, b: $floats) -> $floats {
                unsafe { $add_ps(a, b) }
            }

            #[inline(always)]
            pub(crate) unsafe fn subtract_floats(a: $floats, b: $floats) -> $floats {
                unsafe { $sub_ps(a, b) }
            }

            #[inline(always)]
            pub(crate) unsafe fn multiply_floats(a: $floats, b: $floats) -> $floats {
                unsafe { $mul_ps(a, b) }
            }

            #[inline(always)]
            pub(crate) unsafe fn divide_floats(a: $floats, b: $floats) -> $floats {
                unsafe { $div_ps(a, b) }
            }

            /// Returns b if one of both is NaN, as the trait's method does.
            #[inline(always)]
            pub(crate) unsafe fn larger(a: $floats, b: $floats) -> $floats {
                unsafe { $max_ps(a, b) }
            }

            /// Returns b if one of both is NaN, as the trait's method does.
            #[inline(always)]
            pub(crate) unsafe fn smaller(a: $floats, b: $floats) -> $floats {
                unsafe { $min_ps(a, b) }
            }

            #[inline(always)]
            pub(crate) unsafe fn floats_of(x: $vector) -> $floats {
                unsafe { $convert(x) }
            }

            #[inline(always)]
            pub(crate) unsafe fn bits_of(x: $floats) -> $vector {
                unsafe { $bits(x) }
            }

            #[inline(always)]
            pub(crate) unsafe fn multiply(a: $vector, b: $vector) -> $vector {
                unsafe { $multiply(a, b) }
            }

            #[inline(always)]
            pub(crate) unsafe fn and(a: $vector, b: $vector) -> $vector {
                unsafe { $and(a, b) }
            }

            #[inline(always)]
            pub(crate) unsafe fn xor(a: $vector, b: $vector) -> $vector {
                unsafe { $xor(a, b) }
            }

            /// Returns the bits of b that are not in a.
            #[inline(always)]
            pub(crate) unsafe fn without(a: $vector, b: $vector) -> $vector {
                unsafe { $andnot(a, b) }
            }

            #[inline(always)]
            pub(crate) unsafe fn pairs(sum: $vector, a: $vector, b: $vector) -> $vector {
                unsafe { $add32(sum, $madd(a, b)) }
            }

            /// Even and odd bytes as pairs of 16 bits, which cannot saturate.
            #[inline(always)]
            pub(crate) unsafe fn quads(sum: $vector, a: $vector, w: $vector) -> $vector {
                unsafe {
                    let even = $madd($and(a, $splat16(255)), $arithmetic::<8>($left::<8>(w)));
                    let odd = $madd($right::<8>(a), $arithmetic::<8>(w));
                    $add32(sum, $add32(even, odd))
                }
            }

            #[inline(always)]
            pub(crate) unsafe fn shorts(sum: $vector, a: $vector, w: $vector) -> $vector {
                unsafe { $add16(sum, $maddubs(a, w)) }
            }

            #[inline(always)]
            pub(crate) unsafe fn widen_shorts(sum: $vector, shorts: $vector) -> $vector {
                unsafe { $add32(sum, $madd(shorts, $splat16(1))) }
            }

            /// The number of bits in each byte, by a table of the counts of four bits.
            #[inline(always)]
            unsafe fn counts(bits: $vector) -> $vector {
                const COUNTS: $bytes = {
                    let mut counts = [0; size_of::<$bytes>()];
                    let mut at = 0;
                    while at < counts.len() {
                        counts[at] = ((at & 15) as u8).count_ones() as u8;
                        at += 1;
                    }
                    counts
                };
                unsafe {
                    let table = core::mem::transmute::<$bytes, $vector>(COUNTS);
                    let (low, high) = ($splat8(15), $right::<4>(bits));
                    $add8($shuffle(table, $and(bits, low)), $shuffle(table, $and(high, low)))
                }
            }

            #[inline(always)]
            pub(crate) unsafe fn add_count(sum: $vector, bits: $vector) -> $vector {
                unsafe { $add8(sum, counts(bits)) }
            }

            #[inline(always)]
            pub(crate) unsafe fn subtract_count(sum: $vector, bits: $vector) -> $vector {
                unsafe { $sub8(sum, counts(bits)) }
            }

            #[inline(always)]
            pub(crate) unsafe fn widen_counts(sum: $vector, counts: $vector) -> $vector {
                unsafe { widen_shorts(sum, $maddubs($splat8(1), counts)) }
            }
        }
    };
}

x86_vectors!(
    /// Vectors of 256 bits.
    narrow, __m256i, [u8; 32],
    splat _mm256_set1_epi8 _mm256_set1_epi16,
    add _mm256_add_epi8 _mm256_add_epi16 _mm256_add_epi32, sub _mm256_sub_epi8,
    multiply _mm256_mullo_epi32, pairs _mm256_madd_epi16, quads _mm256_maddubs_epi16,
    shift _mm256_slli_epi16 _mm256_srli_epi16 _mm256_srai_epi16,
    logic _mm256_and_si256 _mm256_xor_si256 _mm256_andnot_si256, shuffle _mm256_shuffle_epi8,
    floats __m256 _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_div_ps
    _mm256_max_ps _mm256_min_ps _mm256_cvtepi32_ps _mm256_castps_si256
);

x86_vectors!(
    /// Vectors of 512 bits.
    wide, __m512i, [u8; 64],
    splat _mm512_set1_epi8 _mm512_set1_epi16,
    add _mm512_add_epi8 _mm512_add_epi16 _mm512_add_epi32, sub _mm512_sub_epi8,
    multiply _mm512_mullo_epi32, pairs _mm512_madd_epi16, quads _mm512_maddubs_epi16,
    shift _mm512_slli_epi16 _mm512_srli_epi16 _mm512_srai_epi16,
    logic _mm512_and_si512 _mm512_xor_si512 _mm512_andnot_si512, shuffle _mm512_shuffle_epi8,
    floats __m512 _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_div_ps
    _mm512_max_ps _mm512_min_ps _mm512_cvtepi32_ps _mm512_castps_si512
);

/// Comparisons of vectors of 256 bits, and what is stored of them.
pub(super) mod narrow_masks {
    use core::arch::x86_64::*;

    #[inline(always)]
    pub(crate) unsafe fn shift_left(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_sllv_epi32(a, b) }
    }

    #[inline(always)]
    pub(crate) unsafe fn zip_shorts(a: __m256i, b: __m256i) -> [__m256i; 2] {
        unsafe { [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)] }
    }

    /// Each vector has half of the pairs of every 128 bits.
    #[inline(always)]
    pub(crate) unsafe fn unzipped(a: __m256i, b: __m256i) -> [__m256i; 2] {
        unsafe {
            [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)]
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn if_positive(x: __m256, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(b, a, _mm256_cmp_ps::<_CMP_GT_OQ>(x, _mm256_setzero_ps())) }
    }

    #[inline(always)]
    pub(crate) unsafe fn add_if_reached(
        sum: __m256i,
        step: __m256i,
        x: __m256,
        threshold: __m256,
    ) -> __m256i {
        unsafe {
            let mask = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GE_OQ>(x, threshold));
            _mm256_add_epi32(sum, _mm256_and_si256(step, mask))
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn add_if_above(
        sum: __m256i,
        step: __m256i,
        x: __m256i,
        threshold: __m256i,
    ) -> __m256i {
        unsafe { _mm256_add_epi32(sum, _mm256_and_si256(step, _mm256_cmpgt_epi32(x, threshold))) }
    }

    #[inline(always)]
    pub(crate) unsafe fn low_bits(x: __m256i) -> u32 {
        unsafe { _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_slli_epi32::<31>(x))) as u32 }
    }

    #[inline(always)]
    pub(crate) unsafe fn second_bits(x: __m256i) -> u32 {
        unsafe { _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_slli_epi32::<30>(x))) as u32 }
    }

    #[inline(always)]
    pub(crate) unsafe fn store_bytes(x: __m256i, to: *mut u8) {
        unsafe {
            let places = _mm256_set1_epi64x(0x8080_8080_0C08_0400_u64 as i64);
            let bytes = _mm256_shuffle_epi8(x, places);
            let halves = [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)];
            _mm_storeu_si64(to, _mm_unpacklo_epi32(halves[0], halves[1]));
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn store_shorts(x: __m256i, to: *mut i16) {
        unsafe {
            let places = _mm256_set_epi64x(
                0x8080_8080_8080_8080_u64 as i64,
                0x0D0C_0908_0504_0100,
                0x8080_8080_8080_8080_u64 as i64,
                0x0D0C_0908_0504_0100,
            );
            let shorts = _mm256_shuffle_epi8(x, places);
            let halves = [_mm256_castsi256_si128(shorts), _mm256_extracti128_si256::<1>(shorts)];
            _mm_storeu_si128(to.cast(), _mm_unpacklo_epi64(halves[0], halves[1]));
        }
    }
}

/// Comparisons of vectors of 512 bits, and what is stored of them.
pub(super) mod wide_masks {
    use core::arch::x86_64::*;

    #[inline(always)]
    pub(crate) unsafe fn shift_left(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sllv_epi32(a, b) }
    }

    #[inline(always)]
    pub(crate) unsafe fn zip_shorts(a: __m512i, b: __m512i) -> [__m512i; 2] {
        unsafe { [_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)] }
    }

    /// Each vector has half of the pairs of every 128 bits.
    #[inline(always)]
    pub(crate) unsafe fn unzipped(a: __m512i, b: __m512i) -> [__m512i; 2] {
        unsafe {
            let first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
            let second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
            [_mm512_permutex2var_epi64(a, first, b), _mm512_permutex2var_epi64(a, second, b)]
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn if_positive(x: __m512, a: __m512, b: __m512) -> __m512 {
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_setzero_ps());
            _mm512_mask_blend_ps(mask, b, a)
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn add_if_reached(
        sum: __m512i,
        step: __m512i,
        x: __m512,
        threshold: __m512,
    ) -> __m512i {
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, threshold);
            _mm512_mask_add_epi32(sum, mask, sum, step)
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn add_if_above(
        sum: __m512i,
        step: __m512i,
        x: __m512i,
        threshold: __m512i,
    ) -> __m512i {
        unsafe {
            let mask = _mm512_cmpgt_epi32_mask(x, threshold);
            _mm512_mask_add_epi32(sum, mask, sum, step)
        }
    }

    #[inline(always)]
    pub(crate) unsafe fn low_bits(x: __m512i) -> u32 {
        unsafe { u32::from(_mm512_test_epi32_mask(x, _mm512_set1_epi32(1))) }
    }

    #[inline(always)]
    pub(crate) unsafe fn second_bits(x: __m512i) -> u32 {
        unsafe { u32::from(_mm512_test_epi32_mask(x, _mm512_set1_epi32(2))) }
    }

    #[inline(always)]
    pub(crate) unsafe fn store_bytes(x: __m512i, to: *mut u8) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(x)) }
    }

    #[inline(always)]
    pub(crate) unsafe fn store_shorts(x: __m512i, to: *mut i16) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(x)) }
    }
}

/// Counts of bits in lanes of 32 bits.
pub(super) mod popcnt {
    use core::arch::x86_64::{__m512i, _mm512_add_epi32, _mm512_popcnt_epi32, _mm512_sub_epi32};

    #[inline(always)]
    pub(crate) unsafe fn add_count(counts: __m512i, bits: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(counts, _mm512_popcnt_epi32(bits)) }
    }

    #[inline(always)]
    pub(crate) unsafe fn subtract_count(counts: __m512i, bits: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi32(counts, _mm512_popcnt_epi32(bits)) }
    }
}
