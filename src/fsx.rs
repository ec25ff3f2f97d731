//! Atomic files and locks.
