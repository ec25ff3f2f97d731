//! Features on disk, for other runs and processes: content-addressed, append-only, safe to kill.
//!
//! The folder holds one entry (a folder) per [`key`], and an entry holds segments: immutable files
//! of rows, found by the hash of their picture. A process computes the rows that it misses and adds
//! them as new segments, each written under a temporary name, synced and renamed. There are no
//! locks: two processes that write the same rows write the same file, and what is removed under a
//! reader stays mapped. Only files that [`Entry::append`] made are ever removed.

mod key;
mod segment;
mod tidy;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::fsx::{self, FsError};
pub use key::key;
use segment::Segment;
pub use tidy::{Stored, Tidied};

/// BLAKE3 of a picture's bytes.
pub type PictureHash = [u8; 32];

/// Describes an entry to people; its modification time is when the entry was last used.
const ABOUT: &str = "about.json";

/// Extension of empty files, each named for a build of xp that computes what an entry holds.
const AGREED: &str = "agreed";

/// Why features could not be kept or found again. Never fatal: they can be computed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A segment is not what was written.
    #[error("cached features in `{}` are damaged: {reason}; they are computed again", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What an entry holds, for `xp cache ls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Name of the backbone.
    pub backbone: String,
    /// Names of the stored layers.
    pub layers: Vec<String>,
    /// From picture to input.
    pub input: String,
    /// Version of xp that made the entry.
    pub xp_version: String,
}

/// A folder of feature entries.
#[derive(Debug, Clone)]
pub struct FeatureStore {
    root: PathBuf,
    max_bytes: u64,
}

impl FeatureStore {
    /// The store in this folder, which need not exist. [`Self::evict`] keeps it below `max_bytes`.
    pub fn new(root: PathBuf, max_bytes: u64) -> Self {
        Self { root, max_bytes }
    }

    /// The user's own: `xp/features` in the cache directory of the system. `None` where there is
    /// none, for want of a home directory.
    pub fn default_root() -> Option<PathBuf> {
        Some(dirs::cache_dir()?.join("xp").join("features"))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Most bytes that it should hold.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Maps what there is of a key, with `elements` values per picture, and notes that it is used.
    /// Damaged segments are removed and reported.
    pub fn open(
        &self,
        key: &blake3::Hash,
        elements: usize,
        about: About,
    ) -> (Entry, Vec<StoreError>) {
        let folder = self.root.join(&key.to_hex()[..tidy::NAME]);
        let mut entry = Entry {
            folder,
            elements,
            about,
            segments: Vec::new(),
            rows: HashMap::new(),
        };
        let opened: Vec<_> = tidy::segments(&entry.folder)
            .into_par_iter()
            .map(|path| (Segment::open(&path, elements, true), path))
            .collect();
        let mut errors = Vec::new();
        for (segment, path) in opened {
            match segment {
                Ok(segment) => entry.add(segment),
                Err(error) => {
                    // Another process may have tidied up.
                    if path.exists() {
                        errors.push(error);
                    }
                    if matches!(errors.last(), Some(StoreError::Damaged { .. })) {
                        // What cannot be removed will be reported again.
                        let _ = fs::remove_file(&path);
                    }
                }
            }
        }
        entry.touch();
        (entry, errors)
    }
}

/// The stored features of one key.
#[derive(Debug)]
pub struct Entry {
    folder: PathBuf,
    elements: usize,
    about: About,
    segments: Vec<Segment>,
    /// Segment and row of each picture.
    rows: HashMap<PictureHash, (usize, usize)>,
}

impl Entry {
    /// Whether the picture's features are stored.
    pub fn holds(&self, picture: &PictureHash) -> bool {
        self.rows.contains_key(picture)
    }

    /// Copies the picture's values from `offset` on; `false` if they are not stored.
    pub fn read(&self, picture: &PictureHash, offset: usize, to: &mut [f32]) -> bool {
        let Some(&(segment, row)) = self.rows.get(picture) else {
            return false;
        };
        self.segments[segment].read(row, offset, to);
        true
    }

    /// Writes rows as a segment and maps it.
    pub fn append(&mut self, pictures: &[PictureHash], values: &[f32]) -> Result<(), StoreError> {
        fs::create_dir_all(&self.folder).map_err(FsError::at("create", &self.folder))?;
        let about = self.folder.join(ABOUT);
        if !about.exists() {
            let json = serde_json::to_vec_pretty(&self.about).unwrap_or_default();
            fsx::write_atomic(&about, &json)?;
        }
        let path = segment::write(&self.folder, pictures, values)?;
        self.add(Segment::open(&path, self.elements, false)?);
        self.touch();
        Ok(())
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether a build of xp is known to compute what is stored.
    pub fn is_agreed(&self, build: &str) -> bool {
        self.agreed(build).exists()
    }

    /// Notes that. Where it cannot be noted, it will be asked again.
    pub fn agree(&self, build: &str) {
        let path = self.agreed(build);
        if self.folder.exists() && !path.exists() {
            let _ = fs::File::create(path);
        }
    }

    /// Forgets what is known of all builds: rows are coming that none of them was compared with.
    pub fn disagree(&self) {
        for path in tidy::agreed(&self.folder) {
            // One that stays is compared no worse than before.
            let _ = fs::remove_file(path);
        }
    }

    fn agreed(&self, build: &str) -> PathBuf {
        self.folder.join(format!("{build}.{AGREED}"))
    }

    /// Removes everything that is stored, here and on disk.
    pub fn discard(&mut self) -> Result<(), FsError> {
        self.rows.clear();
        self.segments.clear();
        tidy::remove(&self.folder)
    }

    /// Name of the entry's folder.
    pub fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn add(&mut self, segment: Segment) {
        let number = self.segments.len();
        for (row, picture) in segment.pictures().enumerate() {
            self.rows.entry(picture).or_insert((number, row));
        }
        self.segments.push(segment);
    }

    /// Notes the time of use. Where that is not allowed, the entry is only evicted earlier.
    fn touch(&self) {
        let about = fs::File::options()
            .append(true)
            .open(self.folder.join(ABOUT));
        let _ = about.and_then(|file| file.set_modified(SystemTime::now()));
    }
}

#[cfg(test)]
mod tests;
