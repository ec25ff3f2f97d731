//! What runs trials: processes of this machine, or a cluster's scheduler.

use thiserror::Error;

use super::{SweepDir, Trial};
use crate::run::RunError;

/// How a trial ended, or why it has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It is complete.
    Done,
    /// It has reached the epoch that it was to stop at.
    Paused,
    /// It was asked to stop, and can go on.
    Interrupted,
    /// It failed, with what it said in one line.
    Failed(String),
    /// Another process is at work on it.
    Elsewhere,
    /// Its turn has not come.
    Waiting,
}

impl Ended {
    /// The outcome in a word, as tables have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Paused => "stopped",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "failed",
            Self::Elsewhere => "running",
            Self::Waiting => "waiting",
        }
    }

    /// Why it came to that, where there is more to say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}

/// Who is told how trials fare.
pub trait Watcher {
    /// A trial has ended.
    fn ended(&mut self, trial: &Trial, ended: &Ended);
    /// Some time has passed.
    fn passed(&mut self, running: &[&Trial], waiting: usize);
    /// Something that the user should know.
    fn note(&mut self, message: &str);
    /// Whether all should stop.
    fn stop(&self) -> bool;
}

/// Runs trials.
pub trait Launcher {
    /// Runs trials, as far as epoch `until` if given: what is done is skipped, what was interrupted
    /// goes on. One outcome a trial.
    ///
    /// # Errors
    /// If trials cannot be started or a file not be written.
    fn run(
        &self,
        trials: &[&Trial],
        until: Option<usize>,
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<Ended>, LaunchError>;

    /// Where the trials lie.
    fn sweep(&self) -> &SweepDir;
}

/// Trials that cannot be run.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// A file or process of ours.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A program of the scheduler.
    #[error("`{command}` failed: {reason}")]
    Scheduler {
        /// The command as it could be typed.
        command: String,
        /// What it said.
        reason: String,
    },
}
