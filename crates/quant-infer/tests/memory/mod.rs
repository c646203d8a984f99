//! Counts the bytes that a test's thread holds, in the program's allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator with a count of the bytes held.
#[derive(Debug)]
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

std::thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// Tests run on threads of their own. What one thread takes and another gives back is left out.
fn took(bytes: usize) {
    let held = HELD.get().saturating_add(bytes);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

fn gave(bytes: usize) {
    HELD.set(HELD.get().saturating_sub(bytes));
}

#[expect(unsafe_code, reason = "the trait of allocators is unsafe")]
// SAFETY: the system's allocator does all the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller guarantees the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller guarantees the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Starts a new measurement of the peak, and returns the bytes that are held now.
pub(crate) fn watch() -> usize {
    PEAK.set(HELD.get());
    HELD.get()
}

/// Returns the largest number of bytes held since [`watch`].
pub(crate) fn peak() -> usize {
    PEAK.get()
}
