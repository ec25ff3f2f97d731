//! Phases, loop, optimizers, schedules and metrics: never prints, opens no file.

pub mod early_stopping;
pub mod metrics;
pub mod optimizer;
mod rule;
pub mod schedule;
pub mod selfcheck;
