//! How a command fails: one message with what, where and what to do, and an exit code.

use std::fmt;

use crate::config;
use crate::run::RunError;
use crate::train::feed::FeedError;
use crate::train::fit::FitError;

/// Exit codes of the command line; see the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything without a code of its own.
    Other = 1,
    /// Usage or configuration.
    Config = 2,
    /// Data.
    Data = 3,
    /// Out of memory.
    Memory = 4,
    /// The loss is not finite.
    NonFinite = 5,
    /// Interrupted and resumable.
    Interrupted = 75,
}

/// A failed command.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// What went wrong and where; may span lines.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            help: None,
        }
    }

    /// Adds what to do.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

impl From<config::Report> for Failure {
    fn from(report: config::Report) -> Self {
        Self::new(Exit::Config, report)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Other, error)
    }
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::new(Exit::Other, error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let help = error.help();
        let failure = Self::new(Exit::Other, error);
        help.map_or(failure.clone(), |help| failure.help(help))
    }
}

impl From<FeedError> for Failure {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Data(error) => error.into(),
            FeedError::Tensor(error) => error.into(),
        }
    }
}

impl From<FitError> for Failure {
    fn from(error: FitError) -> Self {
        match error {
            FitError::Feed(error) => error.into(),
            FitError::Engine(error) => error.into(),
            FitError::NonFinite { .. } => Self::new(Exit::NonFinite, error)
                .help("lower the learning rate of that phase, or give its schedule a `warmup_epochs`"),
            FitError::SelfCheck(_) | FitError::Observer(_) => Self::new(Exit::Other, error),
        }
    }
}
