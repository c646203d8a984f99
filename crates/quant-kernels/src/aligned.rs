//! Numbers that begin at a line of the caches.

use alloc::{vec, vec::Vec};
use core::{
    fmt::{self, Debug, Formatter},
    ops::{Deref, DerefMut},
};

/// The number of bytes of a line of the caches, and of the largest vector.
pub(crate) const LINE: usize = 64;

/// A slice whose first number lies at the beginning of a line of the processor's caches. Allocators
/// only promise 16 bytes: of vectors of 64 bytes from there, every one lies in two lines, and takes
/// about twice as long to read.
///
/// ```
/// use quant_kernels::Aligned;
///
/// let mut numbers = Aligned::filled(5, 0.5f32);
/// numbers[4] = 2.0;
/// assert_eq!(numbers[..], [0.5, 0.5, 0.5, 0.5, 2.0]);
/// assert_eq!(numbers.as_ptr() as usize % 64, 0);
/// ```
pub struct Aligned<T> {
    /// The numbers, with other ones before and behind them.
    storage: Vec<T>,
    first: usize,
    length: usize,
}

impl<T: Clone> Aligned<T> {
    /// Returns `length` copies of a number.
    pub fn filled(length: usize, number: T) -> Self {
        let others = LINE / size_of::<T>().clamp(1, LINE) - 1;
        let storage = vec![number; length + others];
        // If no number begins at a line, as with numbers of 3 bytes, the first one is taken.
        let first = Some(storage.as_ptr().align_offset(LINE)).filter(|first| *first <= others);
        Self { storage, first: first.unwrap_or(0), length }
    }
}

impl<T: Clone> From<&[T]> for Aligned<T> {
    fn from(numbers: &[T]) -> Self {
        let Some(first) = numbers.first() else { return Self::default() };
        let mut aligned = Self::filled(numbers.len(), first.clone());
        aligned.clone_from_slice(numbers);
        aligned
    }
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { storage: Vec::new(), first: 0, length: 0 }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.storage[self.first..][..self.length]
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.storage[self.first..][..self.length]
    }
}

/// A copy lies elsewhere, so its numbers may have another place in its storage.
impl<T: Clone> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        Self::from(&self[..])
    }
}

impl<T: PartialEq> PartialEq for Aligned<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Debug> Debug for Aligned<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self[..].fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn numbers_and_copies_begin_at_a_line() {
        let all: Vec<_> = (1..100).map(|length| Aligned::filled(length, length as i16)).collect();
        for numbers in all.iter().chain(&all.clone()) {
            assert_eq!(numbers.as_ptr().align_offset(LINE), 0);
            assert!(numbers.iter().all(|number| *number as usize == numbers.len()));
        }
        assert_eq!(Aligned::from(&[1.5, 2.5][..])[..], [1.5, 2.5]);
        assert_eq!(Aligned::<u8>::default()[..], []);
    }

    #[test]
    fn numbers_of_other_sizes_are_kept_too() {
        let odd = Aligned::from(&[[1u8, 2, 3], [4, 5, 6]][..]);
        assert_eq!((odd[1], odd.clone() == odd), ([4, 5, 6], true));
        assert_eq!(Aligned::filled(3, [7u32; 20])[2][19], 7);
    }
}
