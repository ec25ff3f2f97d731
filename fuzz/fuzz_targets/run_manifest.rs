//! Any bytes as the `manifest.json` of a run, read and listed as `xp runs` does.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xp::run::{Manifest, list};
use xp_fuzz::Scratch;

static SCRATCH: Scratch = Scratch::new();

fuzz_target!(|bytes: &[u8]| {
    let path = SCRATCH.write("runs/2026-01-02T030405-fuzz/manifest.json", bytes);
    match Manifest::read(&path) {
        Ok(manifest) => {
            // What is written again must read as the same.
            let text = serde_json::to_vec(&manifest).expect("a manifest is JSON");
            let again = SCRATCH.write("again.json", &text);
            let again = Manifest::read(&again).expect("a manifest that was written");
            assert_eq!(serde_json::to_vec(&again).expect("JSON"), text);
        }
        Err(error) => drop(error.to_string()),
    }
    let listed = list::list(&SCRATCH.path("runs")).expect("a folder of runs");
    assert_eq!(listed.len(), 1);
    serde_json::to_string(&listed).expect("a listing is JSON");
});
