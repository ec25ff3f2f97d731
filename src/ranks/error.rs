//! What may go wrong among ranks.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Exit codes, as commands have them.
const INTERRUPTED: u8 = 75;
const OTHER: u8 = 1;

/// Why ranks cannot go on together. Travels from rank to rank.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum RankError {
    /// A rank is not there any more, or does not answer.
    #[error("rank {rank} on `{host}` {how}")]
    Lost {
        /// Its number.
        rank: usize,
        /// Its machine.
        host: String,
        /// What its neighbour sees of it.
        how: String,
    },
    /// A rank has failed of something of its own.
    #[error("rank {rank} on `{host}`: {message}")]
    Failed {
        /// Its number.
        rank: usize,
        /// Its machine.
        host: String,
        /// The exit code that it ends with.
        exit: u8,
        /// What went wrong there.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// The ranks do not come together.
    #[error("{message}")]
    Apart {
        /// Why.
        message: String,
        /// What to do about it.
        help: String,
    },
}

impl RankError {
    pub(super) fn apart(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Apart {
            message: message.into(),
            help: help.into(),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Lost { .. } => None,
            Self::Failed { help, .. } => help.as_deref(),
            Self::Apart { help, .. } => Some(help),
        }
    }

    /// The exit code of what has failed; a rank that is gone has left something to be resumed.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Lost { .. } => INTERRUPTED,
            Self::Failed { exit, .. } => *exit,
            Self::Apart { .. } => OTHER,
        }
    }

    /// The number of the rank that it is about.
    pub fn rank(&self) -> Option<usize> {
        match self {
            Self::Lost { rank, .. } | Self::Failed { rank, .. } => Some(*rank),
            Self::Apart { .. } => None,
        }
    }
}
