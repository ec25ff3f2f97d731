//! The binary from outside: what it prints, writes and exits with.

#[path = "tests/plot.rs"]
mod plot;
