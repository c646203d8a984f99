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
        logic $and:ident $xor:ident $andnot:ident, shuffle $shuffle:ident
    ) => {
        $(#[$doc])*
        pub(super) mod $module {
            use core::arch::x86_64::*;

            #[inline(always)]
            pub(crate) unsafe fn add(a: $vector, b: $vector) -> $vector {
                unsafe { $add32(a, b) }
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
    logic _mm256_and_si256 _mm256_xor_si256 _mm256_andnot_si256, shuffle _mm256_shuffle_epi8
);

x86_vectors!(
    /// Vectors of 512 bits.
    wide, __m512i, [u8; 64],
    splat _mm512_set1_epi8 _mm512_set1_epi16,
    add _mm512_add_epi8 _mm512_add_epi16 _mm512_add_epi32, sub _mm512_sub_epi8,
    multiply _mm512_mullo_epi32, pairs _mm512_madd_epi16, quads _mm512_maddubs_epi16,
    shift _mm512_slli_epi16 _mm512_srli_epi16 _mm512_srai_epi16,
    logic _mm512_and_si512 _mm512_xor_si512 _mm512_andnot_si512, shuffle _mm512_shuffle_epi8
);

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
