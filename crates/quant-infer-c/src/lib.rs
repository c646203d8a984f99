//! The C interface of `quant-infer`. `include/quant_infer.h` is its documentation: every function
//! here has its declaration there, with the same name.
//!
//! Each function checks what can be checked of its arguments, and turns errors and panics into a
//! result that says so, with a text.

#![expect(unsafe_code, reason = "C passes pointers, whose meaning only the header states")]

mod error;
#[cfg(test)]
mod tests;

use std::{
    ffi::{CStr, CString, c_char, c_int},
    path::PathBuf,
    ptr, slice,
    sync::{Arc, Mutex, TryLockError},
};

use error::{c_string, guard};
use quant_infer::{Error, Image, Network, Session};

/// `qnet_network` of the header.
#[derive(Debug)]
pub struct NetworkHandle {
    network: Arc<Network>,
    name: CString,
    classes: Vec<CString>,
}

impl NetworkHandle {
    /// Returns a pointer that [`qnet_free`] takes back.
    fn new(network: Network) -> *mut Self {
        let name = c_string(network.name());
        let classes = network.classes().iter().map(|class| c_string(class)).collect();
        Box::into_raw(Box::new(Self { network: Arc::new(network), name, classes }))
    }
}

/// `qnet_session` of the header.
#[derive(Debug)]
pub struct SessionHandle {
    /// Borrows from `network`, and is dropped before it.
    session: Mutex<Session<'static>>,
    network: Arc<Network>,
}

/// Returns what a pointer from C points to.
///
/// # Safety
/// The pointer is null, or what it points to is a valid value that nobody changes during `'a`.
unsafe fn reference<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, String> {
    if !pointer.is_null() && !pointer.is_aligned() {
        return Err(format!("{what} is not a pointer that this library returned"));
    }
    // SAFETY: the caller guarantees it of every pointer that is not null, and it is aligned.
    unsafe { pointer.as_ref() }.ok_or_else(|| format!("{what} is a null pointer"))
}

/// Returns the bytes at a pointer from C.
///
/// # Safety
/// The pointer is null, or points to `length` bytes that nobody changes during `'a`.
unsafe fn bytes_at<'a>(pointer: *const u8, length: usize, what: &str) -> Result<&'a [u8], String> {
    if pointer.is_null() {
        return Err(format!("{what} is a null pointer"));
    }
    if isize::try_from(length).is_err() {
        return Err(format!("{what} cannot have {length} bytes, which no memory holds"));
    }
    // SAFETY: the caller guarantees that the bytes are there, and that they do not change. The
    // pointer is not null, bytes need no alignment, and the length fits in an `isize`.
    Ok(unsafe { slice::from_raw_parts(pointer, length) })
}

fn text_of(error: Error) -> String {
    error.to_string()
}

/// Returns the text of this thread's last error.
#[unsafe(no_mangle)]
pub extern "C" fn qnet_error() -> *const c_char {
    // The text stays where it is until the next error of this thread.
    error::last(c"".as_ptr(), CStr::as_ptr)
}

/// Reads a packed file.
///
/// # Safety
/// `path` is null, or points to a text that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_load(path: *const c_char) -> *mut NetworkHandle {
    guard(ptr::null_mut(), || {
        if path.is_null() {
            return Err("path is a null pointer".into());
        }
        // SAFETY: the caller guarantees the zero at the end, and the pointer is not null.
        let path = path_of(unsafe { CStr::from_ptr(path) })?;
        Network::load(path).map(NetworkHandle::new).map_err(text_of)
    })
}

/// Returns the bytes as a path: paths are bytes there.
#[cfg(unix)]
fn path_of(text: &CStr) -> Result<PathBuf, String> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    Ok(PathBuf::from(OsStr::from_bytes(text.to_bytes())))
}

/// Returns a text in UTF-8 as a path.
#[cfg(not(unix))]
fn path_of(text: &CStr) -> Result<PathBuf, String> {
    let text = text.to_str().map_err(|_| "path is not UTF-8, which this system needs")?;
    Ok(PathBuf::from(text))
}

/// Reads the bytes of a packed file.
///
/// # Safety
/// `bytes` is null, or points to `length` bytes that do not change during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_from_bytes(bytes: *const u8, length: usize) -> *mut NetworkHandle {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller guarantees the same.
        let bytes = unsafe { bytes_at(bytes, length, "bytes") }?;
        Network::from_bytes(bytes).map(NetworkHandle::new).map_err(text_of)
    })
}

/// Frees a network.
///
/// # Safety
/// `network` is null, or a network of this library that is not used any more and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_free(network: *mut NetworkHandle) {
    guard((), || {
        if !network.is_null() {
            // SAFETY: the caller guarantees that the pointer is from `NetworkHandle::new`, and
            // that this is its last use.
            drop(unsafe { Box::from_raw(network) });
        }
        Ok(())
    });
}

/// Returns the name of a network.
///
/// # Safety
/// `network` is null, or a network of this library that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_name(network: *const NetworkHandle) -> *const c_char {
    guard(ptr::null(), || {
        // SAFETY: the caller guarantees that it is valid, and networks do not change.
        let network = unsafe { reference(network, "network") }?;
        Ok(network.name.as_ptr())
    })
}

/// Returns the number of classes.
///
/// # Safety
/// `network` is null, or a network of this library that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_classes(network: *const NetworkHandle) -> usize {
    guard(0, || {
        // SAFETY: the caller guarantees that it is valid, and networks do not change.
        let network = unsafe { reference(network, "network") }?;
        Ok(network.network.outputs())
    })
}

/// Returns the name of a class.
///
/// # Safety
/// `network` is null, or a network of this library that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_class_name(
    network: *const NetworkHandle,
    index: usize,
) -> *const c_char {
    guard(ptr::null(), || {
        // SAFETY: the caller guarantees that it is valid, and networks do not change.
        let network = unsafe { reference(network, "network") }?;
        let name = network.classes.get(index).ok_or_else(|| {
            let (classes, names) = (network.network.outputs(), network.classes.len());
            format!("class {index} has no name: the network has {classes} classes, {names} names")
        })?;
        Ok(name.as_ptr())
    })
}

/// Returns the height of the images with which the network was trained.
///
/// # Safety
/// `network` is null, or a network of this library that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_height(network: *const NetworkHandle) -> usize {
    guard(0, || {
        // SAFETY: the caller guarantees that it is valid, and networks do not change.
        let network = unsafe { reference(network, "network") }?;
        Ok(network.network.input().size[0])
    })
}

/// Returns the width of the images with which the network was trained.
///
/// # Safety
/// `network` is null, or a network of this library that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_width(network: *const NetworkHandle) -> usize {
    guard(0, || {
        // SAFETY: the caller guarantees that it is valid, and networks do not change.
        let network = unsafe { reference(network, "network") }?;
        Ok(network.network.input().size[1])
    })
}

/// Returns the number of channels of an image.
///
/// # Safety
/// `network` is null, or a network of this library that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_channels(network: *const NetworkHandle) -> usize {
    guard(0, || {
        // SAFETY: the caller guarantees that it is valid, and networks do not change.
        let network = unsafe { reference(network, "network") }?;
        Ok(network.network.input().scale.len())
    })
}

/// Returns the length to which the shorter side of a picture is resized, or 0.
///
/// # Safety
/// `network` is null, or a network of this library that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_shorter_side(network: *const NetworkHandle) -> usize {
    guard(0, || {
        // SAFETY: the caller guarantees that it is valid, and networks do not change.
        let network = unsafe { reference(network, "network") }?;
        Ok(network.network.input().shorter_side.unwrap_or(0))
    })
}

/// Makes a session of a network.
///
/// # Safety
/// `network` is null, or a network of this library that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_session_new(network: *const NetworkHandle) -> *mut SessionHandle {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller guarantees that it is valid, and networks do not change.
        let network = Arc::clone(&unsafe { reference(network, "network") }?.network);
        // SAFETY: the handle keeps the network alive for as long as the session, which is dropped
        // first. It is not moved, because an `Arc` holds it, and nobody can change it.
        let borrowed: &'static Network = unsafe { &*Arc::as_ptr(&network) };
        let session = Mutex::new(borrowed.session());
        Ok(Box::into_raw(Box::new(SessionHandle { session, network })))
    })
}

/// Frees a session.
///
/// # Safety
/// `session` is null, or a session of this library that is not used any more and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_session_free(session: *mut SessionHandle) {
    guard((), || {
        if !session.is_null() {
            // SAFETY: the caller guarantees that the pointer is from `qnet_session_new`, and that
            // this is its last use.
            drop(unsafe { Box::from_raw(session) });
        }
        Ok(())
    });
}

/// Computes the scores of an image. Returns 0, or -1 if there is an error.
///
/// # Safety
/// `session` is null, or a session of this library that was not freed. `pixels` is null, or points
/// to `pixels_length` bytes that do not change during the call. `scores` is null, or points to
/// `scores_length` floats that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_run(
    session: *mut SessionHandle,
    pixels: *const u8,
    pixels_length: usize,
    height: usize,
    width: usize,
    scores: *mut f32,
    scores_length: usize,
) -> c_int {
    guard(-1, || {
        // SAFETY: the caller guarantees that it is valid. What changes in it is behind a mutex.
        let handle = unsafe { reference(session.cast_const(), "session") }?;
        // SAFETY: the caller guarantees the same.
        let pixels = unsafe { bytes_at(pixels, pixels_length, "pixels") }?;
        if scores.is_null() {
            return Err("scores is a null pointer".into());
        }
        if !scores.is_aligned() {
            return Err("scores is not aligned as floats are".into());
        }
        let classes = handle.network.outputs();
        if scores_length != classes {
            return Err(format!(
                "scores has room for {scores_length} numbers, and the network has {classes} \
                 classes; pass as many as qnet_classes returns"
            ));
        }
        let mut session = handle.session.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                "another thread is running this session; make one for each thread"
            }
            TryLockError::Poisoned(_) => {
                "an earlier image left this session unusable; make another"
            }
        })?;
        let found = session.run(&Image::interleaved(pixels, [height, width])).map_err(text_of)?;
        if found.len() != classes {
            return Err(format!("the network has {} scores instead of {classes}", found.len()));
        }
        // SAFETY: `scores` points to as many floats as `found` has, and is aligned. They may
        // overlap with the pixels, which are not read any more.
        unsafe { ptr::copy(found.as_ptr(), scores, classes) };
        Ok(0)
    })
}
