//! Any bytes as `metrics.csv`: read, and drawn where it has rows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xp::report;
use xp::run::MetricsLog;
use xp_fuzz::Scratch;

static SCRATCH: Scratch = Scratch::new();

fuzz_target!(|bytes: &[u8]| {
    let path = SCRATCH.write("metrics.csv", bytes);
    match MetricsLog::read(&path) {
        Ok(log) if !log.rows.is_empty() => {
            for drawing in [
                report::curves(&log.rows, "fuzz", None),
                report::lr(&log.rows, "fuzz", None),
                report::overlay(&[("fuzz".into(), log.rows)]),
            ] {
                let _ = (drawing.png(), drawing.svg());
            }
        }
        Ok(_) => {}
        Err(error) => drop(error.to_string()),
    }
});
