//! The allocator of every binary that links xp, how it is set, and what it says when there is no
//! memory left.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_long;
use std::sync::atomic::{AtomicBool, Ordering};

use libmimalloc_sys::{mi_option_set, mi_option_t};
use mimalloc::MiMalloc;

/// A training step frees and takes the same tensors again: an allocator that keeps its pages saves
/// as much time as the arithmetic takes.
#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// mimalloc on large pages, and whether it has refused this thread anything.
struct Watched;

/// Set once mimalloc knows that it is to take large pages, which must be before it first asks the
/// system for memory: products walk over more small ones than a processor keeps track of.
static TOLD: AtomicBool = AtomicBool::new(false);

#[inline]
fn tell() {
    if !TOLD.load(Ordering::Relaxed) {
        TOLD.store(true, Ordering::Relaxed);
        // SAFETY: sets an integer of an option that exists, and allocates nothing.
        unsafe { mi_option_set(LARGE_PAGES, 1) }
    }
}

thread_local! {
    /// Bytes of the last request that was refused; 0 if none was.
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

fn noted(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() {
        // Gone only while the thread ends; there is nobody to tell then.
        let _ = REFUSED.try_with(|refused| refused.set(bytes));
    }
    memory
}

// SAFETY: every call goes on to mimalloc unchanged, and what it returns comes back unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        tell();
        // SAFETY: the caller's promises are passed on.
        noted(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        tell();
        // SAFETY: as above.
        noted(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        noted(unsafe { MiMalloc.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }
}

/// Positions in `mi_option_e` of mimalloc.h, which the crate does not name; the same in versions 2
/// and 3.
const LARGE_PAGES: mi_option_t = 6;
const PURGE_DELAY: mi_option_t = 15;

/// Longer than the longest step, so that what it freed is still there for the next.
const DELAY_MS: c_long = 10_000;

/// Keeps freed memory for some seconds before it goes back to the system. `MIMALLOC_PURGE_DELAY` in
/// the environment wins.
pub fn keep_freed_memory() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: sets an integer of an option that exists.
        unsafe { mi_option_set(PURGE_DELAY, DELAY_MS) }
    }
}

/// Makes want of memory end the process with this exit code and advice. Rust aborts then, and lets
/// only unstable code say otherwise; a request that may fail, of a decoder that was lied to, never
/// comes this far.
pub fn explain_refusals(exit: u8) {
    #[cfg(unix)]
    abort::explain(exit);
    #[cfg(not(unix))]
    let _ = exit;
}

#[cfg(unix)]
mod abort {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::REFUSED;

    static EXIT: AtomicU8 = AtomicU8::new(1);

    const ADVICE: &[u8] = b"error: out of memory\n  help: a smaller `train.batch_size` or \
        `data.image_size`, fewer `threads`, or `memory_limit` to give cached features less room; \
        `xp run CONFIG --dry-run` estimates what a run takes\n";

    pub(super) fn explain(exit: u8) {
        EXIT.store(exit, Ordering::Relaxed);
        let handler: extern "C" fn(i32) = on_abort;
        // SAFETY: the handler calls nothing but `write` and `_exit`, which signal handlers may.
        unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
    }

    extern "C" fn on_abort(_: i32) {
        // Any other abort goes on when this returns.
        if REFUSED.try_with(std::cell::Cell::get).unwrap_or(0) > 0 {
            // SAFETY: writes a static text and ends the process. It must end here, without its
            // destructors: they would ask for memory.
            unsafe {
                libc::write(2, ADVICE.as_ptr().cast(), ADVICE.len());
                libc::_exit(i32::from(EXIT.load(Ordering::Relaxed)))
            }
        }
    }
}
