//! The one integration binary: users' behaviour, through the library and the command line.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tests/augment.rs"]
mod augment;
#[path = "tests/backbones.rs"]
mod backbones;
#[path = "tests/config_augment.rs"]
mod config_augment;
#[path = "tests/config_errors.rs"]
mod config_errors;
#[path = "tests/config_layers.rs"]
mod config_layers;
#[path = "tests/config_loop.rs"]
mod config_loop;
#[path = "tests/config_phases.rs"]
mod config_phases;
#[path = "tests/damage.rs"]
mod damage;
#[path = "tests/data_errors.rs"]
mod data_errors;
#[path = "tests/data_sources.rs"]
mod data_sources;
#[path = "tests/experiments.rs"]
mod experiments;
#[path = "tests/explain.rs"]
mod explain;
#[path = "tests/feature_cache.rs"]
mod feature_cache;
#[path = "tests/help.rs"]
mod help;
#[path = "tests/incoming.rs"]
mod incoming;
#[path = "tests/intervals.rs"]
mod intervals;
#[allow(dead_code, reason = "the library's own tests use all of it")]
#[path = "../src/fetch/loopback.rs"]
mod loopback;
#[path = "tests/lr_find.rs"]
mod lr_find;
#[path = "tests/models.rs"]
mod models;
#[path = "tests/network_errors.rs"]
mod network_errors;
#[path = "tests/new.rs"]
mod new;
#[path = "tests/output.rs"]
mod output;
#[path = "tests/page.rs"]
mod page;
#[path = "tests/parity.rs"]
mod parity;
#[path = "tests/plot.rs"]
mod plot;
#[path = "tests/ranks.rs"]
mod ranks;
#[path = "tests/readme.rs"]
mod readme;
#[path = "tests/resume.rs"]
mod resume;
#[path = "tests/runs.rs"]
mod runs;
#[path = "tests/summary.rs"]
mod summary;
#[path = "tests/sweeps.rs"]
mod sweeps;
#[path = "tests/tracking.rs"]
mod tracking;
#[path = "tests/tutorials.rs"]
mod tutorials;
#[path = "tests/watch.rs"]
mod watch;
