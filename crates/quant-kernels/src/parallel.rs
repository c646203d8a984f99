//! Loops over tasks. With the feature `rayon` they run on all threads of the pool, otherwise on the
//! calling thread.
//!
//! Tasks never depend on the number of threads, so sums are computed in the same order everywhere.

use alloc::vec::Vec;

#[cfg(feature = "rayon")]
use rayon::prelude::*;

/// Returns the number of threads that share the work.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    1
}

/// Applies `f` to each item and its index, and returns the results in the order of the items.
pub(crate) fn map<T: Send, R: Send>(
    items: Vec<T>,
    f: impl Fn(usize, T) -> R + Send + Sync,
) -> Vec<R> {
    #[cfg(feature = "rayon")]
    return items.into_par_iter().enumerate().map(|(index, item)| f(index, item)).collect();
    #[cfg(not(feature = "rayon"))]
    items.into_iter().enumerate().map(|(index, item)| f(index, item)).collect()
}

/// Calls `f` with each chunk of `length` elements and its index; the last chunk may be shorter.
/// `scratch` creates memory that consecutive calls on one thread may share.
pub(crate) fn for_each_chunk_mut<T>(
    values: &mut [f32],
    length: usize,
    scratch: impl Fn() -> T + Send + Sync,
    f: impl Fn(&mut T, usize, &mut [f32]) + Send + Sync,
) {
    #[cfg(feature = "rayon")]
    if values.len() > length {
        let chunks = values.par_chunks_mut(length).enumerate();
        return chunks.for_each_init(scratch, |scratch, (index, chunk)| f(scratch, index, chunk));
    }
    let mut scratch = scratch();
    for (index, chunk) in values.chunks_mut(length).enumerate() {
        f(&mut scratch, index, chunk);
    }
}
