//! Problems of a configuration, located in the file, environment variable or flag they come from.

use thiserror::Error;

/// Something wrong with a key, in words; where it stands is found by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, for example `model.head[2].dense` or `phase[1].freeze_before`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// All problems of a configuration, rendered with their source lines.
#[derive(Debug, Error)]
#[error("{rendered}")]
pub struct Report {
    /// How many there are.
    pub count: usize,
    /// One block a problem: file, line, column, the source line underlined, what to do.
    pub rendered: String,
}
