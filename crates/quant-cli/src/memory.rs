//! Settings of the process: freed memory is kept from one training step to the next, and a file
//! that grows too large is an error instead of the end of the program.

/// Keeps freed memory in the program instead of returning it to the system. Programs that train
/// call this function when they start.
///
/// A training step frees memory that the next step needs again. If the memory was returned in
/// between, the system has to clear every page of it once more, which took a tenth of a step's
/// time. The function changes settings of glibc, which returns memory by default; with other C
/// libraries it does nothing.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a setting of the C library")]
    // SAFETY: both settings accept any number, and may be changed whether or not memory has been
    // allocated already.
    unsafe {
        // This is the largest threshold that glibc accepts. Smaller blocks come from the heap,
        // which the second setting prevents from shrinking.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Makes a write beyond the limit of file sizes (`ulimit -f`) fail, so that the error names the
/// file. By default the signal SIGXFSZ ends the program without a message. Programs that write
/// files call this function when they start.
pub fn report_large_files() {
    #[cfg(unix)]
    #[expect(unsafe_code, reason = "a setting of the C library")]
    // SAFETY: ignoring a signal runs no code when it arrives.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
