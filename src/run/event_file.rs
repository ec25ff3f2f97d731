//! Event files for TensorBoard in a folder: one at a time, appended to.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::RunError;
use crate::fsx::{self, FsError};

/// How TensorBoard's files begin, and ours end.
const BEGIN: &str = "events.out.tfevents.";
const END: &str = ".xp";

/// Appends to an event file.
#[derive(Debug)]
pub struct EventsWriter {
    file: File,
    path: PathBuf,
}

impl EventsWriter {
    /// Starts a file in `folder` with `bytes` and removes what was written there before. A program
    /// that reads along goes on to the new file, as its name is higher than theirs.
    pub fn create(folder: &Path, host: &str, bytes: &[u8]) -> Result<Self, RunError> {
        fs::create_dir_all(folder).map_err(FsError::at("create", folder))?;
        let older = files(folder)?;
        let newest = older.iter().filter_map(|path| second(path)).max();
        let now = Timestamp::now().as_second();
        let second = newest.map_or(now, |newest| now.max(newest + 1));
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let host: String = host.chars().map(plain).collect();
        let path = folder.join(format!("{BEGIN}{second:010}.{host}{END}"));
        fsx::write_atomic(&path, bytes)?;
        for path in older {
            fs::remove_file(&path).map_err(FsError::at("remove", &path))?;
        }
        let file = File::options().append(true).open(&path);
        Ok(Self {
            file: file.map_err(FsError::at("open", &path))?,
            path,
        })
    }

    /// Appends in one write.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        let written = self.file.write_all(bytes);
        Ok(written.map_err(FsError::at("append to", &self.path))?)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Our event files of a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, RunError> {
    let entries = fs::read_dir(folder).map_err(FsError::at("read", folder))?;
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| second(path).is_some()).collect())
}

/// The second in the name of an event file of ours.
fn second(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    let rest = name.strip_prefix(BEGIN)?.strip_suffix(END)?;
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_has_a_higher_name_and_is_the_only_one_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("events.out.tfevents.1.elsewhere.0");
        fs::write(&foreign, "").unwrap();
        let mut first = EventsWriter::create(folder.path(), "a host.b", b"1").unwrap();
        first.append(b"2").unwrap();
        assert_eq!(fs::read(first.path()).unwrap(), b"12");
        let second = EventsWriter::create(folder.path(), "a host.b", b"3").unwrap();
        assert!(second.path() > first.path() && !first.path().exists());
        assert!(foreign.exists());
        assert_eq!(files(folder.path()).unwrap(), [second.path()]);
    }
}
