//! Counts the bytes that a test's thread holds, and its allocations, in the program's allocator.

#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator with counts of the bytes held and of the allocations.
#[derive(Debug)]
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

std::thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Tests run on threads of their own. What one thread takes and another gives back is left out.
fn took(bytes: usize) {
    let held = HELD.get().saturating_add(bytes);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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

/// Returns the number of allocations of this thread so far. Memory that grows counts as new.
pub(crate) fn allocations() -> usize {
    ALLOCATIONS.get()
}
