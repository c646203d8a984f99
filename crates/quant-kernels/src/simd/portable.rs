//! Portable code.

use super::operations::{Job, Simd};

/// Plain floats, which the compiler turns into the vectors that the program is compiled for: SSE2
/// on x86-64, and `simd128` on WebAssembly if it is enabled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portable;

// SAFETY: no instruction set is needed, and a vector is four floats.
unsafe impl Simd for Portable {
    const NAME: &'static str = "portable";
    const LANES: usize = 4;
    const REGISTERS: usize = 16;
    const COUNTS: usize = COUNTS;
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
        rounded_product(sum, a, b)
    }

    #[inline(always)]
    fn splat_integer(self, value: i32) -> [i32; 4] {
        [value; 4]
    }

    #[inline(always)]
    fn add_integers(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        core::array::from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }

    #[inline(always)]
    fn multiply_integers(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        core::array::from_fn(|lane| a[lane].wrapping_mul(b[lane]))
    }

    #[inline(always)]
    fn shift_left(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        core::array::from_fn(|lane| a[lane].wrapping_shl(b[lane] as u32))
    }

    #[inline(always)]
    fn and(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        core::array::from_fn(|lane| a[lane] & b[lane])
    }

    #[inline(always)]
    fn xor(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        core::array::from_fn(|lane| a[lane] ^ b[lane])
    }

    #[inline(always)]
    fn without(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        core::array::from_fn(|lane| b[lane] & !a[lane])
    }

    #[inline(always)]
    fn add_pair_product(self, sum: [i32; 4], a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        pairs(sum, a, b)
    }

    #[inline(always)]
    fn add_quad_product(self, sum: [i32; 4], a: [i32; 4], w: [i32; 4]) -> [i32; 4] {
        let even = |x: i32| (x & 0xFF) | (x & 0xFF_0000);
        let signed = |x: i32| {
            let [low, high] = [x as i8, (x >> 16) as i8].map(|byte| i32::from(byte) & 0xFFFF);
            low | high << 16
        };
        let sum = pairs(sum, a.map(even), w.map(signed));
        pairs(sum, a.map(|x| even(x >> 8)), w.map(|x| signed(x >> 8)))
    }

    #[inline(always)]
    fn add_short_products(self, sums: [i32; 4], a: [i32; 4], w: [i32; 4]) -> [i32; 4] {
        core::array::from_fn(|lane| {
            let ([a0, a1, a2, a3], w) = (a[lane].to_le_bytes(), w[lane].to_le_bytes());
            let product = |a: u8, w: u8| i32::from(a) * i32::from(w as i8);
            let low = (sums[lane] as i16 as i32) + product(a0, w[0]) + product(a1, w[1]);
            let high = (sums[lane] >> 16) + product(a2, w[2]) + product(a3, w[3]);
            low & 0xFFFF | high << 16
        })
    }

    #[inline(always)]
    fn widen_shorts(self, sum: [i32; 4], shorts: [i32; 4]) -> [i32; 4] {
        core::array::from_fn(|lane| {
            let shorts = shorts[lane];
            sum[lane].wrapping_add(i32::from(shorts as i16) + (shorts >> 16))
        })
    }

    #[inline(always)]
    fn add_count(self, counts: [i32; 4], bits: [i32; 4]) -> [i32; 4] {
        add_count(counts, bits)
    }

    #[inline(always)]
    fn subtract_count(self, counts: [i32; 4], bits: [i32; 4]) -> [i32; 4] {
        subtract_count(counts, bits)
    }

    #[inline(always)]
    fn widen_counts(self, sum: [i32; 4], counts: [i32; 4]) -> [i32; 4] {
        widen_counts(sum, counts)
    }

    #[inline(always)]
    fn add_floats(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        core::array::from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn subtract_floats(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        core::array::from_fn(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    fn multiply_floats(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        core::array::from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn divide_floats(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        core::array::from_fn(|lane| a[lane] / b[lane])
    }

    #[inline(always)]
    fn larger(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        core::array::from_fn(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn smaller(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        core::array::from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn if_positive(self, x: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        core::array::from_fn(|lane| if x[lane] > 0.0 { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn floats_of(self, x: [i32; 4]) -> [f32; 4] {
        x.map(|x| x as f32)
    }

    #[inline(always)]
    fn bits_of(self, x: [f32; 4]) -> [i32; 4] {
        x.map(|x| x.to_bits() as i32)
    }

    #[inline(always)]
    fn add_if_reached(
        self,
        sum: [i32; 4],
        step: [i32; 4],
        x: [f32; 4],
        threshold: [f32; 4],
    ) -> [i32; 4] {
        core::array::from_fn(|lane| {
            sum[lane].wrapping_add(step[lane] & -i32::from(x[lane] >= threshold[lane]))
        })
    }

    #[inline(always)]
    fn add_if_above(
        self,
        sum: [i32; 4],
        step: [i32; 4],
        x: [i32; 4],
        threshold: [i32; 4],
    ) -> [i32; 4] {
        core::array::from_fn(|lane| {
            sum[lane].wrapping_add(step[lane] & -i32::from(x[lane] > threshold[lane]))
        })
    }

    #[inline(always)]
    fn low_bits(self, x: [i32; 4]) -> u32 {
        let [a, b, c, d] = x.map(|x| x as u32 & 1);
        a | b << 1 | c << 2 | d << 3
    }

    #[inline(always)]
    fn second_bits(self, x: [i32; 4]) -> u32 {
        self.low_bits(x.map(|x| x >> 1))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, x: [i32; 4], to: *mut u8) {
        // SAFETY: the caller guarantees four bytes.
        unsafe { to.cast::<[u8; 4]>().write(x.map(|x| x as u8)) }
    }

    #[inline(always)]
    unsafe fn store_shorts(self, x: [i32; 4], to: *mut i16) {
        // SAFETY: the caller guarantees four integers.
        unsafe { to.cast::<[i16; 4]>().write_unaligned(x.map(|x| x as i16)) }
    }

    #[inline(always)]
    fn zip_shorts(self, a: [i32; 4], b: [i32; 4]) -> [[i32; 4]; 2] {
        let pair = |place: usize| {
            let [a, b] = [a, b].map(|x| {
                let [a, b, c, d] = x[place / 2].to_ne_bytes();
                if place.is_multiple_of(2) { [a, b] } else { [c, d] }
            });
            i32::from_ne_bytes([a[0], a[1], b[0], b[1]])
        };
        [core::array::from_fn(pair), core::array::from_fn(|place| pair(place + 4))]
    }

    #[inline(always)]
    fn unzipped(self, zipped: [[i32; 4]; 2]) -> [[i32; 4]; 2] {
        zipped
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
fn rounded_product(sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    use core::arch::x86_64::{__m128, _mm_add_ps, _mm_mul_ps};
    // SAFETY: x86-64 includes SSE, and the vectors have the size of the arrays.
    unsafe {
        let [sum, a, b] = [sum, a, b].map(|x| core::mem::transmute::<[f32; 4], __m128>(x));
        core::mem::transmute(_mm_add_ps(sum, _mm_mul_ps(a, b)))
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn rounded_product(sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    core::array::from_fn(|lane| sum[lane] + a[lane] * b[lane])
}

/// Every processor of x86-64 has this instruction, which compilers do not find in plain code.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pairs(sum: [i32; 4], a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
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
fn pairs(sum: [i32; 4], a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
    use core::arch::wasm32::{i32x4_add, i32x4_dot_i16x8, v128};
    // SAFETY: the vectors have the size of the arrays.
    unsafe {
        let [sum, a, b] = [sum, a, b].map(|x| core::mem::transmute::<[i32; 4], v128>(x));
        core::mem::transmute(i32x4_add(sum, i32x4_dot_i16x8(a, b)))
    }
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
#[inline(always)]
fn pairs(sum: [i32; 4], a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
    let half = |x: i32| i32::from(x as i16);
    core::array::from_fn(|lane| {
        let low = half(a[lane]) * half(b[lane]);
        let high = half(a[lane] >> 16) * half(b[lane] >> 16);
        sum[lane].wrapping_add(low.wrapping_add(high))
    })
}

/// How often bits are counted before the counts must be widened.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
const COUNTS: usize = 15;

/// How often bits are counted before the counts must be widened.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
const COUNTS: usize = usize::MAX;

/// WebAssembly with vectors counts the bits of bytes.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(always)]
fn add_count(counts: [i32; 4], bits: [i32; 4]) -> [i32; 4] {
    use core::arch::wasm32::{i8x16_add, u8x16_popcnt, v128};
    // SAFETY: the vectors have the size of the arrays.
    unsafe {
        let [counts, bits] = [counts, bits].map(|x| core::mem::transmute::<[i32; 4], v128>(x));
        core::mem::transmute(i8x16_add(counts, u8x16_popcnt(bits)))
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(always)]
fn subtract_count(counts: [i32; 4], bits: [i32; 4]) -> [i32; 4] {
    use core::arch::wasm32::{i8x16_sub, u8x16_popcnt, v128};
    // SAFETY: the vectors have the size of the arrays.
    unsafe {
        let [counts, bits] = [counts, bits].map(|x| core::mem::transmute::<[i32; 4], v128>(x));
        core::mem::transmute(i8x16_sub(counts, u8x16_popcnt(bits)))
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(always)]
fn widen_counts(sum: [i32; 4], counts: [i32; 4]) -> [i32; 4] {
    use core::arch::wasm32::{
        i16x8_extadd_pairwise_i8x16, i32x4_add, i32x4_extadd_pairwise_i16x8, v128,
    };
    // SAFETY: the vectors have the size of the arrays.
    unsafe {
        let [sum, counts] = [sum, counts].map(|x| core::mem::transmute::<[i32; 4], v128>(x));
        let counts = i32x4_extadd_pairwise_i16x8(i16x8_extadd_pairwise_i8x16(counts));
        core::mem::transmute(i32x4_add(sum, counts))
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline(always)]
fn add_count(counts: [i32; 4], bits: [i32; 4]) -> [i32; 4] {
    core::array::from_fn(|lane| counts[lane] + bits[lane].count_ones() as i32)
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline(always)]
fn subtract_count(counts: [i32; 4], bits: [i32; 4]) -> [i32; 4] {
    core::array::from_fn(|lane| counts[lane] - bits[lane].count_ones() as i32)
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline(always)]
fn widen_counts(sum: [i32; 4], counts: [i32; 4]) -> [i32; 4] {
    core::array::from_fn(|lane| sum[lane].wrapping_add(counts[lane]))
}
