//! The one integration binary: users' behaviour, through the library and the command line.

#[path = "tests/summary.rs"]
mod summary;
