//! Loops that the compiler turns into vector instructions, compiled once more for newer processors.
//!
//! Programs for x86-64 may use no more than its oldest processors have: vectors of four floats. [`vectorized`] runs a
//! closure that was compiled for eight, where the processor has them. Results are the same to the bit: nothing is
//! contracted or reordered.
//!
//! ```
//! let mut y = [1.0f32; 100];
//! let x = [2.0f32; 100];
//! quant_kernels::simd::vectorized(#[inline(always)] || y.iter_mut().zip(&x).for_each(|(y, x)| *y += 3.0 * x));
//! assert_eq!(y[0], 7.0);
//! ```

/// Calls `f`, compiled for the processor's vectors. What `f` calls is so too if it is inlined: mark it, and the closure,
/// `#[inline(always)]`.
#[inline]
#[expect(unsafe_code, reason = "functions for instructions that not every processor has")]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { with_avx2(f) };
    }
    f()
}

/// x, as a number that is stored whatever was there before: -0 becomes 0.
///
/// Where a loop keeps or clears numbers in place, compilers leave out the stores of those that are kept, and write the others
/// under a mask, which takes some processors longer than all the rest.
#[inline(always)]
pub fn stored(x: f32) -> f32 {
    x + 0.0
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_the_same_to_the_bit() {
        let x: Vec<f32> = (0..1000).map(|i| (i as f32).sin() * 1e3).collect();
        let f = || x.iter().map(|x| x * 1.1 + 0.3 / (x - 0.7)).collect::<Vec<f32>>();
        assert_eq!(f(), vectorized(f));
    }
}
