//! `log.jsonl`: what a run has said, read as it grows.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::fsx;

/// Of a long log, only so much of its end is read: the last of it matters.
const MOST_BYTES: u64 = 256 << 10;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// For those who look for something.
    Trace,
    /// Likewise.
    Debug,
    /// What happened.
    Info,
    /// Something that the user should know.
    Warn,
    /// Something failed.
    Error,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// When.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// How much it matters.
    pub level: Level,
    /// The message, as `message`, and what belongs to it.
    #[serde(default)]
    pub fields: Map<String, Value>,
}

impl Event {
    /// What happened.
    pub fn message(&self) -> &str {
        let message = self.fields.get("message").and_then(Value::as_str);
        message.unwrap_or_default()
    }

    /// A number that belongs to it.
    pub fn number(&self, field: &str) -> Option<f64> {
        self.fields.get(field)?.as_f64()
    }

    /// A text that belongs to it.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }
}

/// Reads a log from where it was read last. Lines that are no events are passed over; one that is
/// still being written waits for its end.
#[derive(Debug, Default)]
pub struct EventLog {
    read: u64,
    /// The number of the file that that was.
    file: Option<u64>,
}

impl EventLog {
    /// The events since the last call; of a file that was replaced or cut short, all of the new one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_new(&mut self, path: &Path) -> io::Result<Vec<Event>> {
        let found = fs::metadata(path)?;
        let file = Some(fsx::file_number(&found));
        if file != self.file || found.len() < self.read {
            *self = Self { read: 0, file };
        }
        let skipped = found.len().saturating_sub(self.read + MOST_BYTES);
        if !found.is_file() || found.len() == self.read {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        let mut log = File::open(path)?;
        log.seek(SeekFrom::Start(self.read + skipped))?;
        log.take(MOST_BYTES).read_to_end(&mut bytes)?;
        let Some(end) = memchr::memrchr(b'\n', &bytes) else {
            return Ok(Vec::new());
        };
        self.read += skipped + end as u64 + 1;
        let lines = bytes[..end].split(|&byte| byte == b'\n');
        // What was skipped ends within a line.
        let lines = lines.skip(usize::from(skipped > 0));
        let events = lines.filter_map(|line| serde_json::from_slice(line).ok());
        Ok(events.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LINE: &str = r#"{"timestamp":"2026-11-21T18:03:11Z","level":"WARN","fields":{"message":"m","epoch":3},"target":"x"}"#;

    #[test]
    fn a_log_is_read_as_it_grows_and_anew_when_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = EventLog::default();
        assert!(log.read_new(&path).is_err());
        let append = |text: &str| {
            let mut file = File::options()
                .create(true)
                .append(true)
                .open(&path)
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append(&format!("{LINE}\nno event\n{}", &LINE[..20]));
        let events = log.read_new(&path).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].level, events[0].message()), (Level::Warn, "m"));
        assert_eq!(events[0].number("epoch"), Some(3.0));
        assert!(log.read_new(&path).unwrap().is_empty());
        append(&format!("{}\n", &LINE[20..]));
        assert_eq!(log.read_new(&path).unwrap().len(), 1);
        fs::remove_file(&path).unwrap();
        append(&format!("{LINE}\n"));
        assert_eq!(log.read_new(&path).unwrap().len(), 1);
    }

    #[test]
    fn of_a_long_log_the_end_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        fs::write(&path, format!("{LINE}\n").repeat(10_000)).unwrap();
        let events = EventLog::default().read_new(&path).unwrap();
        let expected = MOST_BYTES as usize / (LINE.len() + 1);
        assert!(events.len().abs_diff(expected) <= 1, "{}", events.len());
    }
}
