//! The allocator. Blocks have sizes that are powers of two, and a block that is freed is used again
//! for one of its size.

use core::{
    alloc::{GlobalAlloc, Layout},
    arch::wasm32,
    cell::UnsafeCell,
    ptr,
};

/// The allocator of the program.
struct Blocks(UnsafeCell<State>);

struct State {
    /// For each power of two, the first free block. It has the address of the next.
    free: [*mut u8; usize::BITS as usize],
    /// Where memory that was never used begins, and where it ends.
    unused: [usize; 2],
}

const PAGE: usize = 64 * 1024;
/// The smallest block, which has the alignment of vectors.
const SMALLEST: usize = 16;

#[global_allocator]
static ALLOCATOR: Blocks = Blocks(UnsafeCell::new(State {
    free: [ptr::null_mut(); usize::BITS as usize],
    unused: [0, 0],
}));

// SAFETY: the program has one thread.
unsafe impl Sync for Blocks {}

unsafe extern "C" {
    static __heap_base: u8;
}

/// Returns the size of the block of a layout, which is a power of two. It is `None` if the address
/// space has no such block.
fn block(layout: Layout) -> Option<usize> {
    layout.size().max(layout.align()).max(SMALLEST).checked_next_power_of_two()
}

// SAFETY: blocks never overlap: each is cut from unused memory, which belongs to this allocator
// alone, or was freed before. A block has the size and the alignment of its layout.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the program has one thread, and nothing below calls the allocator.
        let state = unsafe { &mut *self.0.get() };
        let Some(size) = block(layout) else { return ptr::null_mut() };
        let free = &mut state.free[size.trailing_zeros() as usize];
        if !free.is_null() {
            let found = *free;
            // SAFETY: a free block begins with the address of the next one, see `dealloc`.
            *free = unsafe { found.cast::<*mut u8>().read() };
            return found;
        }
        state.cut(size, layout.align().max(SMALLEST)).unwrap_or(ptr::null_mut())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the program has one thread, and nothing below calls the allocator.
        let state = unsafe { &mut *self.0.get() };
        let Some(size) = block(layout) else { return };
        let free = &mut state.free[size.trailing_zeros() as usize];
        // SAFETY: the block is ours again. It has room for an address, and its alignment.
        unsafe { pointer.cast::<*mut u8>().write(*free) };
        *free = pointer;
    }
}

impl State {
    /// Cuts a block from the unused memory, and asks for more where that is needed.
    fn cut(&mut self, size: usize, align: usize) -> Option<*mut u8> {
        if self.unused[1] == 0 {
            self.unused = [&raw const __heap_base as usize, wasm32::memory_size::<0>() * PAGE];
        }
        let start = self.unused[0].checked_next_multiple_of(align)?;
        let end = start.checked_add(size)?;
        if end > self.unused[1] {
            let pages = (end - self.unused[1]).div_ceil(PAGE);
            if wasm32::memory_grow::<0>(pages) == usize::MAX {
                return None;
            }
            self.unused[1] += pages * PAGE;
        }
        self.unused[0] = end;
        Some(start as *mut u8)
    }
}
