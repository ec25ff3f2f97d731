//! xp: declarative transfer learning for image classification.
//!
//! One TOML file becomes one experiment. The line through the code is
//! [`commands`]`/run.rs`; everything else is a value on that line.
//!
//! Layers, importing only downward (neighbours in a row do not see each other):
//!
//! | layer | holds |
//! |---|---|
//! | [`commands`], [`cli`], `main` | wires everything; the only place that prints and decides exit codes |
//! | [`sweep`] | axes to trials to processes to a leaderboard; sees runs only as directories |
//! | [`train`], [`export`], [`serve`] | phases, loop, optimizers, schedules, metrics; never prints, opens no file. Networks in formats of other tools. A network behind HTTP |
//! | [`data`], [`engine`], [`run`], [`report`], [`tracking`] | pictures to batches; graph and parameters to tensors; the run directory; rows to PNG, HTML and Markdown; rows to TensorBoard and MLflow |
//! | [`graph`] (with [`zoo`]), [`ops`], [`gpu`], [`weights`] | architectures as data; operations with gradients; devices and operations there; files to named tensors |
//! | [`fetch`] | files from elsewhere: downloads, the hub, archives unpacked |
//! | [`config`], [`records`], [`geometry`], [`rng`], [`fsx`], [`allocator`], [`program`], [`ranks`] | no Candle here; of the last, several processes as one |
//! | [`activation`], [`precision`] | words that configurations, graphs and kernels share |
//!
//! Invariants: only [`run`] writes under a run directory; only the printer of [`commands`] writes
//! to the terminal, and its `terminal.rs` draws on it where a command lives there; only [`rng`] makes randomness; [`report`] works from CSV and JSON alone; the
//! configuration is read once and never mutated; a module gets its own section of it.

pub mod activation;
pub mod allocator;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod engine;
pub mod export;
pub mod fetch;
pub mod fsx;
pub mod geometry;
pub mod gpu;
pub mod graph;
pub mod ops;
pub mod precision;
pub mod program;
pub mod ranks;
pub mod records;
pub mod report;
pub mod rng;
pub mod run;
pub mod serve;
pub mod sweep;
pub mod tracking;
pub mod train;
pub mod weights;
pub mod zoo;
