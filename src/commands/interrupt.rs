//! Signals that end a run in good order: SIGINT, SIGTERM and SIGUSR1, with which Slurm warns of the
//! end of a job.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::Failure;

/// What a shell reports of a process that SIGINT ended.
const ENDED_AT_ONCE: i32 = 130;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on these signals only ask for an end. A second SIGINT ends the process at once.
pub fn watch() -> Result<(), Failure> {
    let asked = ASKED.get_or_init(Arc::default);
    let twice = Arc::new(AtomicBool::new(false));
    // In this order: the first one finds the flag down.
    flag::register_conditional_shutdown(SIGINT, ENDED_AT_ONCE, Arc::clone(&twice))?;
    flag::register(SIGINT, twice)?;
    flag::register(SIGINT, Arc::clone(asked))?;
    flag::register(SIGTERM, Arc::clone(asked))?;
    #[cfg(unix)]
    flag::register(signal_hook::consts::SIGUSR1, Arc::clone(asked))?;
    Ok(())
}

/// Whether an end has been asked for.
pub fn asked() -> bool {
    ASKED
        .get()
        .is_some_and(|asked| asked.load(Ordering::Relaxed))
}
