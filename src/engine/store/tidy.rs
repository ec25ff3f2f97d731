//! What the store holds, and making room.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::segment::{EXTENSION, Header};
use super::{ABOUT, AGREED, About, FeatureStore};
use crate::fsx::{self, FsError};

/// Hex digits of an entry's name.
pub(super) const NAME: usize = 32;

/// Temporary files older than this were left by a process that was killed: a segment takes seconds.
const ABANDONED: Duration = Duration::from_secs(3600);

/// An entry, as listed.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Name of its folder: the key, shortened.
    pub name: String,
    /// What it holds.
    pub about: About,
    /// Rows in all its segments.
    pub pictures: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// When a run last read or wrote it.
    pub used: SystemTime,
}

/// What tidying removed, or would remove.
#[derive(Debug, Clone, Default)]
pub struct Tidied {
    /// Entries, least recently used first.
    pub removed: Vec<Stored>,
    /// Bytes of these entries.
    pub bytes: u64,
    /// Bytes that are left.
    pub left: u64,
}

impl FeatureStore {
    /// All entries, most recently used first. A store that does not exist is empty.
    pub fn list(&self) -> Result<Vec<Stored>, FsError> {
        let folders = match fs::read_dir(&self.root) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FsError::at("read", &self.root)(error)),
        };
        let mut entries: Vec<Stored> = folders
            .flatten()
            .filter(|folder| is_entry(&folder.path()))
            .map(|folder| stored(&folder.path()))
            .collect();
        entries.sort_by(|a, b| (b.used, &a.name).cmp(&(a.used, &b.name)));
        Ok(entries)
    }

    /// Removes least recently used entries until at most `max_bytes` are left, sparing those
    /// named in `spared`, and files that killed processes left. With `dry` it only says what it
    /// would remove.
    pub fn tidy(
        &self,
        max_bytes: u64,
        spared: &BTreeSet<String>,
        dry: bool,
    ) -> Result<Tidied, FsError> {
        let entries = self.list()?;
        if !dry {
            for entry in &entries {
                remove_abandoned(&self.root.join(&entry.name));
            }
        }
        let mut tidied = Tidied {
            left: entries.iter().map(|entry| entry.bytes).sum(),
            ..Tidied::default()
        };
        let mut failed = Ok(());
        for entry in entries.into_iter().rev() {
            // An empty one may be just about to be filled.
            let fresh = entry.used.elapsed().is_ok_and(|age| age < ABANDONED);
            let keeps = tidied.left <= max_bytes && (entry.pictures > 0 || fresh);
            if keeps || spared.contains(&entry.name) {
                continue;
            }
            if !dry && let Err(error) = remove(&self.root.join(&entry.name)) {
                // The rest may still make room.
                failed = failed.and(Err(error));
                continue;
            }
            tidied.left -= entry.bytes;
            tidied.bytes += entry.bytes;
            tidied.removed.push(entry);
        }
        failed.map(|()| tidied)
    }

    /// Keeps the store below its limit; entries named in `spared` are in use.
    pub fn evict(&self, spared: &BTreeSet<String>) -> Result<Tidied, FsError> {
        self.tidy(self.max_bytes, spared, false)
    }
}

fn is_entry(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    folder.is_dir() && name.is_some_and(|name| name.len() == NAME && name.bytes().all(is_hex))
}

fn stored(folder: &Path) -> Stored {
    let about = folder.join(ABOUT);
    let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let segments = segments(folder);
    let headers = segments.iter().filter_map(|path| Header::read(path));
    Stored {
        name: name(folder),
        about: fsx::read(&about)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default(),
        pictures: headers.map(|header| header.rows).sum(),
        bytes: ours(folder)
            .filter_map(|path| Some(fs::metadata(path).ok()?.len()))
            .sum(),
        used: modified(&about)
            .or_else(|| modified(folder))
            .unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The segments of an entry, in the order of their names.
pub(super) fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ours(folder)
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == EXTENSION)
        })
        .collect();
    found.sort();
    found
}

/// The files of an entry that are named for builds.
pub(super) fn agreed(folder: &Path) -> impl Iterator<Item = PathBuf> {
    ours(folder).filter(|path| path.extension().is_some_and(|it| it == AGREED))
}

/// The files of an entry that xp wrote.
fn ours(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let known = [Some(EXTENSION), Some(AGREED)];
        name(path) == ABOUT || known.contains(&extension) || is_temporary(path)
    })
}

fn is_temporary(path: &Path) -> bool {
    let name = name(path);
    name.starts_with('.') && name.ends_with(".tmp")
}

fn remove_abandoned(folder: &Path) {
    for path in ours(folder).filter(|path| is_temporary(path)) {
        let age = fs::metadata(&path).and_then(|data| data.modified()).ok();
        let age = age.and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED) {
            // The next time will do as well.
            let _ = fs::remove_file(&path);
        }
    }
}

/// Removes an entry, but nothing in its folder that is not xp's.
pub(super) fn remove(folder: &Path) -> Result<(), FsError> {
    for path in ours(folder) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FsError::at("remove", &path)(error));
            }
            _ => {}
        }
    }
    match fs::remove_dir(folder) {
        // Another process writes into it just now, or someone keeps files there.
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(FsError::at("remove", folder)(error))
        }
        _ => Ok(()),
    }
}
