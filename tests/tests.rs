//! The integration tests, in one binary.

#[path = "tests/data_errors.rs"]
mod data_errors;
