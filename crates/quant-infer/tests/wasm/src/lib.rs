//! The equality test of the engine for WebAssembly, where no test program can run: random models,
//! whose scores and codes are those of the reference with every packing of operands.

#![no_std]

extern crate alloc;

#[path = "../../common/mod.rs"]
mod common;

use alloc::vec::Vec;
use core::{
    alloc::{GlobalAlloc, Layout},
    arch::wasm32,
    sync::atomic::{AtomicUsize, Ordering},
};

use common::{Random, bits, lowest_code};
use quant_infer::{Image, Network, Packing, reference};
use quant_kernels::simd::InstructionSet;

/// An allocator that frees everything at once: see [`reset`].
struct Bump {
    next: AtomicUsize,
}

const PAGE: usize = 64 * 1024;

// SAFETY: the memory above the program's own data belongs to this allocator alone. Each allocation
// lies behind the one before, and the memory is grown before it is used. There is one thread.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let next = self.next.load(Ordering::Relaxed);
        let start = if next == 0 { heap() } else { next };
        let start = start.next_multiple_of(layout.align());
        let end = start + layout.size();
        let missing = end.saturating_sub(wasm32::memory_size::<0>() * PAGE).div_ceil(PAGE);
        if missing > 0 && wasm32::memory_grow::<0>(missing) == usize::MAX {
            return core::ptr::null_mut();
        }
        self.next.store(end, Ordering::Relaxed);
        start as *mut u8
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump { next: AtomicUsize::new(0) };

unsafe extern "C" {
    static __heap_base: u8;
}

/// Returns where the program's own data end.
fn heap() -> usize {
    &raw const __heap_base as usize
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    wasm32::unreachable()
}

/// Frees all memory. Nothing that was allocated before may be used afterwards.
#[unsafe(no_mangle)]
pub extern "C" fn reset() {
    ALLOCATOR.next.store(0, Ordering::Relaxed);
}

/// Returns the number of instruction sets, which are tested one after another.
#[unsafe(no_mangle)]
pub extern "C" fn sets() -> usize {
    InstructionSet::available().count()
}

/// Compares the engine with the reference for the random model of a seed. Returns 0 if they are
/// equal, 1 if the model is not valid, and else the index of what differs, from 2 on.
#[unsafe(no_mangle)]
pub extern "C" fn compare(seed: u32) -> usize {
    let mut random = Random(u64::from(seed));
    let model = random.model();
    if model.check().is_err() {
        return 1;
    }
    let size = model.input.size;
    let bytes = random.bytes(model.input.scale.len() * size[0] * size[1]);
    let image = Image::interleaved(&bytes, size);
    let Ok(expected) = reference::run(&model, &image) else { return 1 };
    let packings = || core::iter::once(None).chain(Packing::ALL.map(Some));
    let sets = InstructionSet::available();
    let cases = sets.flat_map(|set| packings().map(move |packing| (set, packing)));
    for (case, (set, packing)) in cases.enumerate() {
        let Ok(network) = Network::with_packing(&model, set, packing) else { return 2 };
        let mut session = network.session();
        for layer in 0..model.nodes.len() {
            session.watch(layer);
        }
        let Ok(scores) = session.run(&image).map(<[f32]>::to_vec) else { return 3 };
        if bits(&scores) != bits(expected.scores()) {
            return 10 + case;
        }
        for (layer, codes) in expected.codes.iter().enumerate() {
            let Some(codes) = codes else { continue };
            let Some(found) = session.codes(layer) else { return 50 + case };
            let node = &model.nodes[layer];
            let [channels, height, width] = expected.values[node.inputs[0]].shape;
            let lowest: Vec<u8> = (codes.iter().enumerate())
                .map(|(at, code)| lowest_code(&node.op, channels, at / (height * width), *code))
                .collect();
            if found != lowest {
                return 100 + case;
            }
        }
    }
    0
}
