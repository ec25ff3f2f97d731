//! Panics of decoders: a defect that one hostile file brings out must cost that file alone, not the
//! scan, the run or the other pictures, and must not be told on the terminal as if it were ours.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` returns; `None` if it panicked, which the log tells and the terminal does not.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| match GUARDED.get() {
            true => tracing::warn!("a decoder failed: {panic}"),
            false => others(panic),
        }));
    });
    let before = GUARDED.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_the_work_alone() {
        assert_eq!(guarded(|| 1), Some(1));
        assert_eq!(guarded(|| -> i32 { panic!("as asked for") }), None);
        assert!(!GUARDED.get());
    }
}
