//! Files that others write, read again when they have changed.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::fsx;
use crate::run::RunError;

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// A file that was replaced is another one, whatever its time.
    file: u64,
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            modified: found.modified().ok(),
            length: found.len(),
            file: fsx::file_number(found),
        }
    }
}

/// The content of a file as it was last read.
#[derive(Debug)]
pub struct Kept<T> {
    stamp: Option<Stamp>,
    content: Option<Result<T, RunError>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            stamp: None,
            content: None,
        }
    }
}

impl<T> Kept<T> {
    /// Reads the file if it has changed, and says whether it did. Of one that cannot be read, that it
    /// was good before is forgotten.
    pub fn look(&mut self, path: &Path, read: impl FnOnce(&Path) -> Result<T, RunError>) -> bool {
        let stamp = fs::metadata(path).ok().as_ref().map(Stamp::of);
        let failed = matches!(self.content, Some(Err(_)));
        // What failed may have been half-written, within one tick of the clock.
        if self.content.is_some() && stamp == self.stamp && !failed {
            return false;
        }
        self.content = Some(read(path));
        let changed = stamp != self.stamp;
        self.stamp = stamp;
        changed || failed
    }

    /// What it says, if it can be read.
    pub fn get(&self) -> Option<&T> {
        self.content.as_ref()?.as_ref().ok()
    }

    /// Why it cannot be read, if it is there.
    pub fn damage(&self) -> Option<&RunError> {
        self.stamp?;
        self.error()
    }

    /// Why it cannot be read.
    pub fn error(&self) -> Option<&RunError> {
        self.content.as_ref()?.as_ref().err()
    }

    /// Time since its last change, by the clock of this machine.
    pub fn age(&self) -> Duration {
        let modified = self.stamp.and_then(|stamp| stamp.modified);
        let age = modified.and_then(|time| SystemTime::now().duration_since(time).ok());
        age.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut kept = Kept::default();
        let mut reads = 0;
        let mut look = |kept: &mut Kept<String>| {
            kept.look(&path, |path| {
                reads += 1;
                let text = crate::fsx::read_text(path)?;
                match text.as_str() {
                    "half" => Err(RunError::NotARun {
                        path: path.to_owned(),
                        reason: "half",
                    }),
                    _ => Ok(text),
                }
            })
        };
        assert!(!look(&mut kept) && kept.damage().is_none() && kept.error().is_some());
        fs::write(&path, "a").unwrap();
        assert!(look(&mut kept) && !look(&mut kept));
        assert_eq!(kept.get().map(String::as_str), Some("a"));
        fs::write(&path, "half").unwrap();
        assert!(look(&mut kept) && kept.get().is_none() && kept.damage().is_some());
        fs::write(&path, "whole").unwrap();
        assert!(look(&mut kept));
        fs::remove_file(&path).unwrap();
        assert!(look(&mut kept) && kept.get().is_none() && kept.damage().is_none());
        assert_eq!(reads, 5);
    }
}
