//! What can go wrong with a run directory.

use std::path::PathBuf;

use thiserror::Error;

use super::Process;
use crate::fsx::FsError;

/// A run directory that cannot be made, read or written.
#[derive(Debug, Error)]
pub enum RunError {
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FsError),
    /// The path is not a run directory.
    #[error("`{}` is not a run directory: {reason}", path.display())]
    NotARun {
        /// What was given.
        path: PathBuf,
        /// Why it is none.
        reason: &'static str,
    },
    /// Another process works in this run directory.
    #[error("another process is working in `{}`{}", path.display(), which(by.as_ref()))]
    Locked {
        /// The run directory.
        path: PathBuf,
        /// Which, if it is known.
        by: Option<Process>,
    },
    /// A file is there but its content is not what was written.
    #[error("`{}` is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the line where there are lines.
        reason: String,
        /// What to do.
        help: &'static str,
    },
    /// A file is sound but not one of ours.
    #[error("`{}` {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, or lacks.
        reason: String,
        /// What to do.
        help: &'static str,
    },
    /// A value cannot be stored.
    #[error("cannot store {what} in `{}`: {reason}", path.display())]
    Unstorable {
        /// The value.
        what: String,
        /// Where it was to go.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

fn which(process: Option<&Process>) -> String {
    process.map_or_else(String::new, |Process { pid, host, .. }| {
        format!(": process {pid} on `{host}`")
    })
}

impl RunError {
    /// What to do about it, where the message does not say.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::File(_) | Self::Unstorable { .. } => None,
            Self::NotARun { .. } => Some(
                "give a folder made by `xp run`, for example `runs/2026-11-21T18-03-11_NAME_ab12cd`",
            ),
            Self::Locked { .. } => Some(
                "wait until it ends, or stop it; one on another machine that was killed counts as \
                 dead some minutes after its last heartbeat",
            ),
            Self::Damaged { help, .. } | Self::Foreign { help, .. } => Some(help),
        }
    }
}
