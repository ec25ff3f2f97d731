//! Tracing events: into the run's `log.jsonl` once there is one, and to stderr as `RUST_LOG` asks.

use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

static LOG_FILE: OnceLock<File> = OnceLock::new();

/// Installs the subscriber; `coloured` says whether stderr takes colours.
pub fn init(coloured: bool) {
    let file = tracing_subscriber::fmt::layer()
        .json()
        .with_writer(|| LogFile)
        .with_filter(LevelFilter::INFO);
    let terminal = std::env::var_os("RUST_LOG").map(|_| {
        tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(coloured)
            .with_filter(EnvFilter::from_default_env())
    });
    // A second initialisation (from a test in the same process) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(file)
        .with(terminal)
        .try_init();
}

/// Appends events to this file from now on.
pub fn log_to(file: File) {
    // A process trains one run; a second file would be a bug elsewhere, and the first stays.
    let _ = LOG_FILE.set(file);
}

struct LogFile;

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match LOG_FILE.get() {
            Some(mut file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        LOG_FILE.get().map_or(Ok(()), |mut file| file.flush())
    }
}
