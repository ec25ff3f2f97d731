//! What the server has done so far, in Prometheus' text format,
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the buckets of request times, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counts, all of them since the start.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By path and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    /// Requests within each bucket, not those of lesser ones.
    buckets: [u64; BUCKETS.len() + 1],
    seconds: f64,
    batches: u64,
    pictures: u64,
}

impl Metrics {
    /// A request was answered.
    pub(super) fn request(&self, path: &'static str, status: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|end| seconds <= *end);
        let mut counts = self.counts();
        *counts.requests.entry((path, status)).or_default() += 1;
        counts.buckets[bucket.unwrap_or(BUCKETS.len())] += 1;
        counts.seconds += seconds;
    }

    /// So many pictures were computed together.
    pub(super) fn batch(&self, pictures: usize) {
        let mut counts = self.counts();
        counts.batches += 1;
        counts.pictures += pictures as u64;
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it as text; `busy` requests are at work or waiting.
    pub(super) fn text(&self, busy: usize) -> String {
        let counts = self.counts();
        let mut text = String::new();
        let _ = writeln!(text, "# HELP xp_requests_total Requests answered.");
        let _ = writeln!(text, "# TYPE xp_requests_total counter");
        for ((path, status), count) in &counts.requests {
            let _ = writeln!(
                text,
                "xp_requests_total{{path=\"{path}\",status=\"{status}\"}} {count}"
            );
        }
        let _ = writeln!(text, "# HELP xp_request_seconds Time of requests.");
        let _ = writeln!(text, "# TYPE xp_request_seconds histogram");
        let mut below = 0;
        for (index, count) in counts.buckets.iter().enumerate() {
            below += count;
            let end = BUCKETS.get(index).map_or("+Inf".into(), f64::to_string);
            let _ = writeln!(text, "xp_request_seconds_bucket{{le=\"{end}\"}} {below}");
        }
        let _ = writeln!(text, "xp_request_seconds_sum {}", counts.seconds);
        let _ = writeln!(text, "xp_request_seconds_count {below}");
        for (name, kind, help, value) in [
            (
                "xp_pictures_total",
                "counter",
                "Pictures classified.",
                counts.pictures,
            ),
            (
                "xp_batches_total",
                "counter",
                "Batches computed.",
                counts.batches,
            ),
            (
                "xp_requests_busy",
                "gauge",
                "Requests at work or waiting.",
                busy as u64,
            ),
        ] {
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        }
        text
    }
}
