//! How a command fails: one message with what, where and what to do, and an exit code.

use std::fmt;

use crate::config;

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
#[derive(Debug)]
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
