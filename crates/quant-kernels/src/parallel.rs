//! Loops over tasks, on all threads of the pool where the feature `rayon` is on, else on the thread
//! that calls.
//!
//! Tasks never depend on the number of threads, so that sums are taken in the same order
//! everywhere.

use alloc::vec::Vec;

#[cfg(feature = "rayon")]
use rayon::prelude::*;

/// Threads that share the work.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    1
}

/// f of each item and its index, in the items' order.
pub(crate) fn map<T: Send, R: Send>(
    items: Vec<T>,
    f: impl Fn(usize, T) -> R + Send + Sync,
) -> Vec<R> {
    #[cfg(feature = "rayon")]
    return items.into_par_iter().enumerate().map(|(index, item)| f(index, item)).collect();
    #[cfg(not(feature = "rayon"))]
    items.into_iter().enumerate().map(|(index, item)| f(index, item)).collect()
}

/// Calls `f` with each chunk of so many elements, the last of which may be shorter, and its index.
/// `scratch` makes what consecutive calls on one thread may share.
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
