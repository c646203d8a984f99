//! Memory between the steps of training.

/// Keeps freed memory in the program. A training step frees what the next one needs again: given back to the system in
/// between, every page of it is cleared once more, which took a tenth of a step's time. For the start of programs
/// that train; it does something with glibc, whose default it is to give back, and nothing elsewhere.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a setting of the C library")]
    // SAFETY: both settings take any number, before or after memory is in use.
    unsafe {
        // The largest that glibc takes: smaller blocks come from memory that stays.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
