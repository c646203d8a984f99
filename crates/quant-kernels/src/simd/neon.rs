//! Integer operations of NEON's vectors.
//!
//! # Safety
//! A function may only be called where the processor has NEON and, for two of them, the extension
//! that they name.

use core::arch::{aarch64::*, asm};

#[inline(always)]
pub(super) unsafe fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    unsafe { vaddq_s32(a, b) }
}

#[inline(always)]
pub(super) unsafe fn multiply(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    unsafe { vmulq_s32(a, b) }
}

#[inline(always)]
pub(super) unsafe fn shift_left(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    unsafe { vshlq_s32(a, b) }
}

#[inline(always)]
pub(super) unsafe fn and(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    unsafe { vandq_s32(a, b) }
}

#[inline(always)]
pub(super) unsafe fn xor(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    unsafe { veorq_s32(a, b) }
}

/// Returns the bits of b that are not in a.
#[inline(always)]
pub(super) unsafe fn without(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    unsafe { vbicq_s32(b, a) }
}

#[inline(always)]
pub(super) unsafe fn pairs(sum: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
    unsafe {
        let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
        let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
        vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(a, b)))
    }
}

/// The products of unsigned and signed bytes have 16 bits, so the factors are widened first.
#[inline(always)]
unsafe fn products(a: int32x4_t, w: int32x4_t) -> [int16x8_t; 2] {
    unsafe {
        let (a, w) = (vreinterpretq_u8_s32(a), vreinterpretq_s8_s32(w));
        let low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(a)));
        let high = vreinterpretq_s16_u16(vmovl_high_u8(a));
        [vmulq_s16(low, vmovl_s8(vget_low_s8(w))), vmulq_s16(high, vmovl_high_s8(w))]
    }
}

#[inline(always)]
pub(super) unsafe fn quads(sum: int32x4_t, a: int32x4_t, w: int32x4_t) -> int32x4_t {
    unsafe {
        let [low, high] = products(a, w).map(|products| vpaddlq_s16(products));
        vaddq_s32(sum, vpaddq_s32(low, high))
    }
}

/// Dot products of signed bytes, for `dotprod`. 128 is subtracted from those of a.
#[inline(always)]
pub(super) unsafe fn quads_of_signed(mut sum: int32x4_t, a: int32x4_t, w: int32x4_t) -> int32x4_t {
    unsafe {
        let a = veorq_s32(a, vdupq_n_s32(i32::from_ne_bytes([128; 4])));
        asm!(
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sum, in(vreg) a, in(vreg) w, options(pure, nomem, nostack)
        );
    }
    sum
}

/// Dot products of unsigned and signed bytes, for `i8mm`.
#[inline(always)]
pub(super) unsafe fn quads_of_mixed(mut sum: int32x4_t, a: int32x4_t, w: int32x4_t) -> int32x4_t {
    unsafe {
        asm!(
            "usdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sum, in(vreg) a, in(vreg) w, options(pure, nomem, nostack)
        );
    }
    sum
}

#[inline(always)]
pub(super) unsafe fn shorts(sums: int32x4_t, a: int32x4_t, w: int32x4_t) -> int32x4_t {
    unsafe {
        let [low, high] = products(a, w);
        let sums = vaddq_s16(vreinterpretq_s16_s32(sums), vpaddq_s16(low, high));
        vreinterpretq_s32_s16(sums)
    }
}

#[inline(always)]
pub(super) unsafe fn widen_shorts(sum: int32x4_t, shorts: int32x4_t) -> int32x4_t {
    unsafe { vpadalq_s16(sum, vreinterpretq_s16_s32(shorts)) }
}

#[inline(always)]
unsafe fn counts(bits: int32x4_t) -> int8x16_t {
    unsafe { vcntq_s8(vreinterpretq_s8_s32(bits)) }
}

#[inline(always)]
pub(super) unsafe fn add_count(sum: int32x4_t, bits: int32x4_t) -> int32x4_t {
    unsafe { vreinterpretq_s32_s8(vaddq_s8(vreinterpretq_s8_s32(sum), counts(bits))) }
}

#[inline(always)]
pub(super) unsafe fn subtract_count(sum: int32x4_t, bits: int32x4_t) -> int32x4_t {
    unsafe { vreinterpretq_s32_s8(vsubq_s8(vreinterpretq_s8_s32(sum), counts(bits))) }
}

#[inline(always)]
pub(super) unsafe fn widen_counts(sum: int32x4_t, counts: int32x4_t) -> int32x4_t {
    unsafe { vpadalq_s16(sum, vpaddlq_s8(vreinterpretq_s8_s32(counts))) }
}

#[inline(always)]
pub(super) unsafe fn add_floats(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vaddq_f32(a, b) }
}

#[inline(always)]
pub(super) unsafe fn subtract_floats(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vsubq_f32(a, b) }
}

#[inline(always)]
pub(super) unsafe fn multiply_floats(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vmulq_f32(a, b) }
}

#[inline(always)]
pub(super) unsafe fn divide_floats(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vdivq_f32(a, b) }
}

/// NEON's own maximum returns NaN where one number is NaN.
#[inline(always)]
pub(super) unsafe fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

#[inline(always)]
pub(super) unsafe fn smaller(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
}

#[inline(always)]
pub(super) unsafe fn if_positive(x: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcgtzq_f32(x), a, b) }
}

#[inline(always)]
pub(super) unsafe fn floats_of(x: int32x4_t) -> float32x4_t {
    unsafe { vcvtq_f32_s32(x) }
}

#[inline(always)]
pub(super) unsafe fn bits_of(x: float32x4_t) -> int32x4_t {
    unsafe { vreinterpretq_s32_f32(x) }
}

#[inline(always)]
pub(super) unsafe fn add_if_reached(
    sum: int32x4_t,
    step: int32x4_t,
    x: float32x4_t,
    threshold: float32x4_t,
) -> int32x4_t {
    unsafe {
        let mask = vreinterpretq_s32_u32(vcgeq_f32(x, threshold));
        vaddq_s32(sum, vandq_s32(step, mask))
    }
}

#[inline(always)]
pub(super) unsafe fn add_if_above(
    sum: int32x4_t,
    step: int32x4_t,
    x: int32x4_t,
    threshold: int32x4_t,
) -> int32x4_t {
    unsafe {
        let mask = vreinterpretq_s32_u32(vcgtq_s32(x, threshold));
        vaddq_s32(sum, vandq_s32(step, mask))
    }
}

#[inline(always)]
pub(super) unsafe fn low_bits(x: int32x4_t) -> u32 {
    const PLACES: [i32; 4] = [0, 1, 2, 3];
    unsafe {
        let bits = vandq_s32(x, vdupq_n_s32(1));
        vaddvq_s32(vshlq_s32(bits, vld1q_s32(PLACES.as_ptr()))) as u32
    }
}

#[inline(always)]
pub(super) unsafe fn second_bits(x: int32x4_t) -> u32 {
    unsafe { low_bits(vshrq_n_s32::<1>(x)) }
}

#[inline(always)]
pub(super) unsafe fn store_bytes(x: int32x4_t, to: *mut u8) {
    unsafe {
        let shorts = vmovn_u32(vreinterpretq_u32_s32(x));
        let bytes = vreinterpret_u32_u8(vmovn_u16(vcombine_u16(shorts, shorts)));
        to.cast::<u32>().write_unaligned(vget_lane_u32::<0>(bytes));
    }
}

#[inline(always)]
pub(super) unsafe fn store_shorts(x: int32x4_t, to: *mut i16) {
    unsafe { vst1_s16(to, vmovn_s32(x)) }
}

#[inline(always)]
pub(super) unsafe fn zip_shorts(a: int32x4_t, b: int32x4_t) -> [int32x4_t; 2] {
    unsafe {
        let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
        [vreinterpretq_s32_s16(vzip1q_s16(a, b)), vreinterpretq_s32_s16(vzip2q_s16(a, b))]
    }
}

#[inline(always)]
pub(super) unsafe fn unzipped(a: int32x4_t, b: int32x4_t) -> [int32x4_t; 2] {
    [a, b]
}
