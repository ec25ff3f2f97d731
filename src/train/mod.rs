//! Phases, loop, optimizers, schedules and metrics: never prints, opens no file.

mod deal;
pub mod early_stopping;
pub mod ema;
pub mod evaluate;
mod extract;
pub mod features;
pub mod feed;
pub mod fit;
mod gradients;
pub mod inputs;
pub mod labels;
pub mod memory;
pub mod metrics;
pub mod observer;
pub mod optimizer;
pub mod pace;
pub mod phase;
pub mod position;
pub mod range;
mod rule;
pub mod sampler;
pub mod schedule;
pub mod selfcheck;
mod step;
mod step_there;
pub mod suggest;

#[cfg(test)]
mod cutoffs;
#[cfg(test)]
mod test_support;
