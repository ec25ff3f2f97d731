//! Placeholder.

pub mod generate;
