//! The operations that every instruction set has on its vectors, and the jobs that are written with
//! them.

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

    /// Returns a·2ᵇ, for exponents b from 0 to 31. Products wrap around.
    fn shift_left(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;

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

    /// Returns the pairs of the integers of 16 bits at the same places of a and b. Which of the two
    /// vectors a pair is in, and where, is up to the instruction set.
    fn zip_shorts(self, a: Self::Integers, b: Self::Integers) -> [Self::Integers; 2];

    /// Returns integers that lie where [`zip_shorts`](Self::zip_shorts) puts pairs, in the order of
    /// the pairs.
    fn unzipped(self, zipped: [Self::Integers; 2]) -> [Self::Integers; 2];

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

    /// Asks the processor to read the line at a pointer into its caches. The pointer need not be
    /// valid. It does nothing on other processors than x86-64.
    #[inline(always)]
    fn prefetch<T>(self, from: *const T) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every x86-64 processor has the instruction, which reads nothing by itself.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(from.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = from;
    }

    /// Runs a job as it was compiled for the instruction set.
    fn run<J: Job>(self, job: J) -> J::Output;
}

/// Code that is compiled for each instruction set.
pub(crate) trait Job {
    /// The result of the job.
    type Output;

    /// Runs the job. Implementations, and the functions that they call, must be
    /// `#[inline(always)]`: only then are they compiled for the instruction set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
