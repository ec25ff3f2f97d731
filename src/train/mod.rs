//! Phases, loop, optimizers, schedules and metrics: never prints, opens no file.

pub mod early_stopping;
pub mod evaluate;
mod extract;
pub mod features;
pub mod feed;
pub mod fit;
pub mod inputs;
pub mod labels;
pub mod metrics;
pub mod observer;
pub mod optimizer;
pub mod phase;
mod rule;
pub mod schedule;
pub mod selfcheck;

#[cfg(test)]
mod cutoffs;
