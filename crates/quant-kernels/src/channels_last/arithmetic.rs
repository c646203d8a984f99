//! What the words of an image stand for, and how sums of their products are computed.

use super::sums::Sums;
use crate::simd::{InstructionSet, Simd};

/// A way to compute sums of products. Its types say what a tap is.
pub trait Arithmetic: Copy + Sealed {
    /// What an image and weights consist of: floats, or words of 32 bits.
    type Word: Copy + Default + Send + Sync;
    /// The words of a tap of one output.
    type Tap: Copy + Default + AsRef<[Self::Word]>;
    /// A sum of products: a float, or an integer of 32 bits.
    type Sum: Copy + Default + Send + Sync;
}

/// Floats. The sum begins with 0 and runs in the order of the taps; products and sums are rounded
/// on their own, so that all instruction sets compute the same bits.
#[derive(Debug, Clone, Copy)]
pub struct Floats;

/// Integers of 16 bits, two in a word.
#[derive(Debug, Clone, Copy)]
pub struct Pairs;

/// Bytes, four in a word: those of the image from 0 to 255, and those of the weights from -128 to
/// 127.
#[derive(Debug, Clone, Copy)]
pub struct Bytes;

/// The same bytes, where the products are so small that several fit into sums of 16 bits. This is
/// for processors without instructions for dot products of bytes.
#[derive(Debug, Clone, Copy)]
pub struct SmallBytes;

/// Bits, 32 in a word. The sum is the number of bits in which the image and the weights differ: of
/// n factors that are -1 or 1, it is (n - the sum of the products)/2.
#[derive(Debug, Clone, Copy)]
pub struct Signs;

/// The numbers -1, 0 and 1, 32 in two words. The first word has the bits of those that are not 0,
/// and the second those of the negative ones.
#[derive(Debug, Clone, Copy)]
pub struct Ternary;

macro_rules! words {
    ($($arithmetic:ident: [$word:ty; $count:literal] -> $sum:ty),*) => {
        $(
            impl Arithmetic for $arithmetic {
                type Word = $word;
                type Tap = [$word; $count];
                type Sum = $sum;
            }
        )*
    };
}

words!(
    Floats: [f32; 1] -> f32,
    Pairs: [u32; 1] -> i32,
    Bytes: [u32; 1] -> i32,
    SmallBytes: [u32; 1] -> i32,
    Signs: [u32; 1] -> i32,
    Ternary: [u32; 2] -> i32
);

mod sealed {
    use super::{Arithmetic, InstructionSet, Sums};

    /// How sums are computed. The inner loop implements it, and only for arithmetics of this crate.
    pub trait Sealed: Sized {
        #[expect(private_interfaces, reason = "only this crate implements arithmetics")]
        fn run(set: InstructionSet, sums: Sums<'_, Self::Word, Self::Sum>)
        where
            Self: Arithmetic;
    }
}

pub(super) use sealed::Sealed;

/// The vectors of an instruction set that hold words and sums.
pub(super) trait Products<S: Simd>: Arithmetic {
    /// A vector of sums.
    type Vector: Copy;
    /// The words of a tap, for each lane.
    type Operand: Copy;
    /// Whether products are added in another form first, which must be widened from time to time.
    const WIDENS: bool = false;
    /// Whether several positions are computed together. Portable code does so only in arithmetics
    /// that can be the fastest there: the loops of the others would be a large part of a program.
    const TILES: bool = true;

    fn zero(simd: S) -> Self::Vector;

    /// Returns copies of the tap at a pointer.
    ///
    /// # Safety
    /// The pointer must be valid for reads of a tap.
    unsafe fn splat(simd: S, from: *const Self::Word) -> Self::Operand;

    /// Returns taps, of which each word begins `distance` after the one before it.
    ///
    /// # Safety
    /// The pointer must be valid for reads of a vector, for each word.
    unsafe fn load(simd: S, from: *const Self::Word, distance: usize) -> Self::Operand;

    /// # Safety
    /// The pointer must be valid for writes of a vector.
    unsafe fn store(simd: S, sums: Self::Vector, to: *mut Self::Sum);

    /// Reads a vector of sums.
    ///
    /// # Safety
    /// `from` must be valid for reads of a vector of sums.
    unsafe fn load_sums(simd: S, from: *const Self::Sum) -> Self::Vector;

    /// Adds the product of two taps.
    fn add(simd: S, sum: Self::Vector, a: Self::Operand, w: Self::Operand) -> Self::Vector;

    /// Returns the sum plus the products, which may have another form.
    fn widen(simd: S, sum: Self::Vector, products: Self::Vector) -> Self::Vector;

    /// Returns the sum times a factor.
    fn times(simd: S, sum: Self::Vector, factor: Self::Vector) -> Self::Vector;

    /// Returns the sum times the powers of 2 with these exponents.
    fn shifted(simd: S, sum: Self::Vector, exponent: Self::Vector) -> Self::Vector;

    /// Returns the sum plus the numbers at a pointer, plus a number.
    ///
    /// # Safety
    /// The pointer must be valid for reads of a vector of sums.
    unsafe fn plus(
        simd: S,
        sum: Self::Vector,
        base: *const Self::Sum,
        extra: Self::Sum,
    ) -> Self::Vector;

    /// Returns copies of a sum.
    fn splat_sum(simd: S, sum: Self::Sum) -> Self::Vector;
}

impl<S: Simd> Products<S> for Floats {
    type Vector = S::Floats;
    type Operand = S::Floats;

    #[inline(always)]
    fn zero(simd: S) -> S::Floats {
        simd.splat(0.0)
    }

    #[inline(always)]
    unsafe fn splat(simd: S, from: *const f32) -> S::Floats {
        // SAFETY: the caller guarantees a float.
        simd.splat(unsafe { *from })
    }

    #[inline(always)]
    unsafe fn load(simd: S, from: *const f32, _: usize) -> S::Floats {
        // SAFETY: the caller guarantees the floats.
        unsafe { simd.load(from) }
    }

    #[inline(always)]
    unsafe fn store(simd: S, sums: S::Floats, to: *mut f32) {
        // SAFETY: the caller guarantees the floats.
        unsafe { simd.store(sums, to) }
    }

    #[inline(always)]
    unsafe fn load_sums(simd: S, from: *const f32) -> S::Floats {
        // SAFETY: the caller guarantees the reads.
        unsafe { simd.load(from) }
    }

    #[inline(always)]
    fn add(simd: S, sum: S::Floats, a: S::Floats, w: S::Floats) -> S::Floats {
        simd.add_rounded_product(sum, a, w)
    }

    #[inline(always)]
    fn widen(_: S, _: S::Floats, products: S::Floats) -> S::Floats {
        products
    }

    #[inline(always)]
    fn times(_: S, sum: S::Floats, _: S::Floats) -> S::Floats {
        sum
    }

    #[inline(always)]
    fn shifted(_: S, sum: S::Floats, _: S::Floats) -> S::Floats {
        sum
    }

    #[inline(always)]
    unsafe fn plus(_: S, sum: S::Floats, _: *const f32, _: f32) -> S::Floats {
        sum
    }

    #[inline(always)]
    fn splat_sum(simd: S, sum: f32) -> S::Floats {
        simd.splat(sum)
    }
}

/// Implements the arithmetics of integers, which differ in their products.
macro_rules! integers {
    (
        $arithmetic:ident, words $words:literal, widens $widens:literal, portable $portable:literal,
        |$simd:ident, $sum:ident, $a:ident, $w:ident| $add:expr,
        $widen:expr
    ) => {
        impl<S: Simd> Products<S> for $arithmetic {
            type Vector = S::Integers;
            type Operand = [S::Integers; $words];
            const WIDENS: bool = $widens;
            const TILES: bool = $portable || S::LANES > 4 || S::REGISTERS > 16;

            #[inline(always)]
            fn zero(simd: S) -> S::Integers {
                simd.splat_integer(0)
            }

            #[inline(always)]
            unsafe fn splat(simd: S, from: *const u32) -> [S::Integers; $words] {
                // SAFETY: the caller guarantees the words.
                core::array::from_fn(|word| unsafe {
                    simd.splat_integer(from.add(word).cast::<i32>().read())
                })
            }

            #[inline(always)]
            unsafe fn load(simd: S, from: *const u32, distance: usize) -> [S::Integers; $words] {
                // SAFETY: the caller guarantees a vector of each word.
                core::array::from_fn(|word| unsafe {
                    simd.load_integers(from.add(word * distance).cast())
                })
            }

            #[inline(always)]
            unsafe fn store(simd: S, sums: S::Integers, to: *mut i32) {
                // SAFETY: the caller guarantees the integers.
                unsafe { simd.store_integers(sums, to) }
            }

            #[inline(always)]
            unsafe fn load_sums(simd: S, from: *const i32) -> S::Integers {
                // SAFETY: the caller guarantees the reads.
                unsafe { simd.load_integers(from) }
            }

            #[inline(always)]
            fn add(
                $simd: S,
                $sum: S::Integers,
                $a: [S::Integers; $words],
                $w: [S::Integers; $words],
            ) -> S::Integers {
                $add
            }

            #[inline(always)]
            fn widen(simd: S, sum: S::Integers, products: S::Integers) -> S::Integers {
                let widen: fn(S, S::Integers, S::Integers) -> S::Integers = $widen;
                widen(simd, sum, products)
            }

            #[inline(always)]
            fn times(simd: S, sum: S::Integers, factor: S::Integers) -> S::Integers {
                simd.multiply_integers(sum, factor)
            }

            #[inline(always)]
            fn shifted(simd: S, sum: S::Integers, exponent: S::Integers) -> S::Integers {
                simd.shift_left(sum, exponent)
            }

            #[inline(always)]
            unsafe fn plus(simd: S, sum: S::Integers, base: *const i32, extra: i32) -> S::Integers {
                // SAFETY: the caller guarantees the integers.
                let base = unsafe { simd.load_integers(base) };
                simd.add_integers(simd.add_integers(sum, base), simd.splat_integer(extra))
            }

            #[inline(always)]
            fn splat_sum(simd: S, sum: i32) -> S::Integers {
                simd.splat_integer(sum)
            }
        }
    };
}

integers!(
    Pairs,
    words 1,
    widens false,
    portable true,
    |simd, sum, a, w| simd.add_pair_product(sum, a[0], w[0]),
    |_, _, products| products
);
integers!(
    Bytes,
    words 1,
    widens false,
    portable false,
    |simd, sum, a, w| simd.add_quad_product(sum, a[0], w[0]),
    |_, _, products| products
);
integers!(
    SmallBytes,
    words 1,
    widens true,
    portable false,
    |simd, sum, a, w| simd.add_short_products(sum, a[0], w[0]),
    |simd, sum, products| simd.widen_shorts(sum, products)
);
integers!(
    Signs,
    words 1,
    widens true,
    portable true,
    |simd, sum, a, w| simd.add_count(sum, simd.xor(a[0], w[0])),
    |simd, sum, products| simd.widen_counts(sum, products)
);
integers!(
    Ternary,
    words 2,
    widens true,
    portable false,
    |simd, sum, a, w| {
        let nonzero = simd.and(a[0], w[0]);
        let differ = simd.xor(a[1], w[1]);
        let sum = simd.add_count(sum, simd.without(differ, nonzero));
        simd.subtract_count(sum, simd.and(differ, nonzero))
    },
    |simd, sum, products| simd.widen_counts(sum, products)
);
