//! The engine as WebAssembly. `engine.js` calls these functions, and README.md says how it is
//! built.
//!
//! An instance runs one network. Numbers and texts lie in the memory of the instance: the caller
//! writes the bytes of a file and of images there, and reads scores and texts from there.

#![no_std]
#![expect(unsafe_code, reason = "JavaScript passes addresses and reads memory")]

extern crate alloc;

mod memory;

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::{arch::wasm32, cell::UnsafeCell, panic::PanicInfo, ptr};

use quant_infer::{Image, Network, Session};

/// Everything that an instance holds.
struct State {
    /// The bytes of the file, before it is read.
    file: Vec<u8>,
    running: Option<Running>,
    /// The text that was asked for last.
    text: String,
}

/// The network with its memory.
struct Running {
    network: &'static Network,
    session: Session<'static>,
    /// The image, `[height, width, channels]`.
    pixels: Vec<u8>,
    scores: Vec<f32>,
}

struct Cell(UnsafeCell<State>);

// SAFETY: the program has one thread.
unsafe impl Sync for Cell {}

static STATE: Cell =
    Cell(UnsafeCell::new(State { file: Vec::new(), running: None, text: String::new() }));

/// Calls a function with the state.
fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    // SAFETY: the program has one thread, and no function that is passed here calls `with`. After a
    // panic, which ends the program inside of one, the text alone is read.
    work(unsafe { &mut *STATE.0.get() })
}

/// Keeps the message for the caller, whose call ends with an error.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let text = format!("an error inside the engine: {info}");
    // SAFETY: the program has one thread. It ends here, so no reference to the text is used again.
    unsafe { (&raw mut (*STATE.0.get()).text).write(text) };
    wasm32::unreachable()
}

/// Makes room for a file of `length` bytes, and returns its address. It is 0 if there is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn file(length: usize) -> *mut u8 {
    with(|state| {
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(length).is_err() {
            return ptr::null_mut();
        }
        bytes.resize(length, 0);
        state.file = bytes;
        state.file.as_mut_ptr()
    })
}

/// Reads the file and prepares its network. Returns 1, or 0 if there is an error, whose message is
/// the text.
#[unsafe(no_mangle)]
pub extern "C" fn load() -> u32 {
    with(|state| {
        let bytes = core::mem::take(&mut state.file);
        if state.running.is_some() {
            state.text = "this instance has a network already; make another instance".into();
            return 0;
        }
        match Network::from_bytes(&bytes) {
            Ok(network) => {
                // It lives as long as the instance.
                let network: &'static Network = Box::leak(Box::new(network));
                let input = network.input();
                let pixels = vec![0; input.size[0] * input.size[1] * input.scale.len()];
                let scores = vec![0.0; network.outputs()];
                let session = network.session();
                state.running = Some(Running { network, session, pixels, scores });
                1
            }
            Err(error) => {
                state.text = error.to_string();
                0
            }
        }
    })
}

/// Computes the scores of the image. Returns 1, or 0 if there is an error, whose message is the
/// text.
#[unsafe(no_mangle)]
pub extern "C" fn run() -> u32 {
    with(|state| {
        let Some(running) = &mut state.running else {
            state.text = "no network is loaded".into();
            return 0;
        };
        let image = Image::interleaved(&running.pixels, running.network.input().size);
        match running.session.run(&image) {
            Ok(scores) => {
                running.scores.clear();
                running.scores.extend_from_slice(scores);
                1
            }
            Err(error) => {
                state.text = error.to_string();
                0
            }
        }
    })
}

/// Returns a fact about the network, or `none` if no network is loaded.
fn fact<T>(none: T, read: impl FnOnce(&mut Running) -> T) -> T {
    with(|state| state.running.as_mut().map(read)).unwrap_or(none)
}

/// Returns the address of the image's bytes, `[height, width, channels]`.
#[unsafe(no_mangle)]
pub extern "C" fn pixels() -> *mut u8 {
    fact(ptr::null_mut(), |running| running.pixels.as_mut_ptr())
}

/// Returns the address of the scores, which are 32-bit floats.
#[unsafe(no_mangle)]
pub extern "C" fn scores() -> *const f32 {
    fact(ptr::null(), |running| running.scores.as_ptr())
}

/// Returns the number of classes.
#[unsafe(no_mangle)]
pub extern "C" fn classes() -> usize {
    fact(0, |running| running.scores.len())
}

/// Returns the height of an image.
#[unsafe(no_mangle)]
pub extern "C" fn height() -> usize {
    fact(0, |running| running.network.input().size[0])
}

/// Returns the width of an image.
#[unsafe(no_mangle)]
pub extern "C" fn width() -> usize {
    fact(0, |running| running.network.input().size[1])
}

/// Returns the number of channels of an image.
#[unsafe(no_mangle)]
pub extern "C" fn channels() -> usize {
    fact(0, |running| running.network.input().scale.len())
}

/// Returns the length to which the shorter side of a picture is resized, or 0 if it is only cut.
#[unsafe(no_mangle)]
pub extern "C" fn shorter_side() -> usize {
    fact(0, |running| running.network.input().shorter_side.unwrap_or(0))
}

/// Makes the name of the network the text.
#[unsafe(no_mangle)]
pub extern "C" fn name() {
    with(|state| {
        let name = state.running.as_ref().map(|running| running.network.name().to_string());
        state.text = name.unwrap_or_default();
    });
}

/// Makes the name of a class the text. A class without a name has its number.
#[unsafe(no_mangle)]
pub extern "C" fn class_name(index: usize) {
    with(|state| {
        let classes = state.running.as_ref().map_or(&[][..], |running| running.network.classes());
        state.text = classes.get(index).cloned().unwrap_or_else(|| index.to_string());
    });
}

/// Returns the address of the text, which is UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn text() -> *const u8 {
    with(|state| state.text.as_ptr())
}

/// Returns the length of the text in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn text_length() -> usize {
    with(|state| state.text.len())
}
