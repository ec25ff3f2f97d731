//! Any text as a configuration: read, diagnosed, resolved, built into a network and printed, as
//! `xp summary` and `xp check` do.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xp::commands::blueprint::Blueprint;
use xp::config;
use xp::graph::summary::Summary;
use xp_fuzz::Scratch;

static SCRATCH: Scratch = Scratch::new();

fuzz_target!(|bytes: &[u8]| {
    let path = SCRATCH.write("config.toml", bytes);
    let loaded = match config::load(&path, &[]) {
        Ok(loaded) => loaded,
        Err(report) => {
            report.to_string();
            return;
        }
    };
    assert!(!loaded.hash().is_empty());
    // What a run keeps as `resolved.toml` must be a configuration again, and the same.
    let resolved = SCRATCH.write("resolved.toml", loaded.resolved().as_bytes());
    let again = config::load(&resolved, &[]).expect("resolved.toml is sound");
    assert_eq!(again.hash(), loaded.hash(), "resolved.toml says the same");
    if let Ok(blueprint) = Blueprint::from_loaded(loaded) {
        let phases = blueprint.phases.iter();
        let phases: Vec<_> = phases
            .map(|plan| (plan.name.clone(), plan.trainable.clone()))
            .collect();
        Summary::new(&blueprint.graph, &phases).text();
    }
});
