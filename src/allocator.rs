//! The allocator of every binary that links xp, and how it is set.

use std::ffi::c_long;

/// A training step frees and takes the same tensors again: an allocator that keeps its pages saves
/// as much time as the arithmetic takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the crate does not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Longer than the longest step, so that what it freed is still there for the next.
const DELAY_MS: c_long = 10_000;

/// Keeps freed memory for some seconds before it goes back to the system. `MIMALLOC_PURGE_DELAY` in
/// the environment wins.
pub fn keep_freed_memory() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: sets an integer; the option exists in versions 2 and 3 of mimalloc.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, DELAY_MS) }
    }
}
