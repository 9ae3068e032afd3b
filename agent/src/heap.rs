//! What the C library does with memory that is free again.

/// Bytes: larger blocks are mapped one by one, and go back to the system when they are freed; so
/// does what is free at the end of the heap. glibc's own threshold begins at 128 KiB and rises to
/// 32 MiB with what it sees, and the arrays that loading a model needs for an instant then stay:
/// 41 to 47 MB resident with MobileNetV2, 26.5 MB with this.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const THRESHOLD: std::ffi::c_int = 64 * 1024;

/// From now on, freed memory goes back to the system soon. Other C libraries than glibc do so anyway.
///
/// # Source
/// mallopt(3).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // The C library has no other way to set these than an environment variable.
pub fn give_back_early() {
    let set = |parameter| {
        // SAFETY: mallopt takes any values, and any time to be called.
        unsafe { libc::mallopt(parameter, THRESHOLD) == 1 }
    };
    if !set(libc::M_MMAP_THRESHOLD) || !set(libc::M_TRIM_THRESHOLD) {
        tracing::warn!("the C library keeps freed memory longer than it needs to");
    }
}

/// Nothing to do here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back_early() {}
