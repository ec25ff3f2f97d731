//! Folders made of files from elsewhere: each is there as a whole, or not at all.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FetchError;
use crate::fsx::{self, FsError, Lock};

const FILES: &str = "files";
const RECORD: &str = "record.json";

/// Where the files of a folder came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Address, hub id or file.
    pub origin: String,
    /// SHA-256 of what was downloaded from an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Commit that a hub's revision stood for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How many files there are.
    #[serde(default)]
    pub files: u64,
    /// And their bytes.
    #[serde(default)]
    pub bytes: u64,
}

/// A folder that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// With the files.
    pub folder: PathBuf,
    /// Where they came from.
    pub record: Record,
}

/// The parent of such folders.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// In the user's cache, `~/.cache/xp/data` on Linux.
    pub fn of_user() -> Option<Self> {
        Some(Self::new(dirs::cache_dir()?.join("xp").join("data")))
    }

    /// Elsewhere.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file name for what `identity` tells apart, `label` being for people.
    pub fn key(label: &str, identity: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let label: String = label.chars().filter(|&c| plain(c)).collect();
        let label = label.trim_start_matches('.');
        let from = label.len().saturating_sub(60);
        let hash = blake3::hash(identity.as_bytes()).to_hex();
        format!("{}-{}", &label[from..], &hash[..16])
    }

    /// The folder of that name, if it is there; an error if files of it are gone or were cut.
    pub fn find(&self, key: &str) -> Result<Option<Stored>, FetchError> {
        let folder = self.root.join(key);
        let record = folder.join(RECORD);
        let Ok(bytes) = std::fs::read(&record) else {
            return Ok(None);
        };
        let folder = folder.join(FILES);
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
            let damaged = std::io::Error::other(error);
            FetchError::unreadable(&record)(damaged)
        })?;
        let (files, bytes) = size(&folder)?;
        if (files, bytes) != (record.files, record.bytes) {
            let shown = |files: u64, bytes: u64| format!("{files} files of {bytes} bytes");
            return Err(FetchError::Altered {
                folder: self.root.join(key),
                expected: shown(record.files, record.bytes),
                found: shown(files, bytes),
            });
        }
        Ok(Some(Stored { folder, record }))
    }

    /// The folder of that name, made by `fill` if it is not there. Where another process is at it,
    /// waits for that.
    pub fn make<E: From<FetchError>>(
        &self,
        key: &str,
        fill: impl FnOnce(&Path) -> Result<Record, E>,
    ) -> Result<Stored, E> {
        create(&self.root)?;
        let lock = Lock::acquire(&self.root.join(format!("{key}.lock")));
        let _lock = lock.map_err(FetchError::from)?;
        if let Some(stored) = self.find(key)? {
            return Ok(stored);
        }
        // With the lock held, what lies here was left by a process that is gone.
        let staged = self.root.join(format!(".{key}.part"));
        remove(&staged)?;
        remove(&self.root.join(key))?;
        let files = staged.join(FILES);
        create(&files)?;
        let filled = fill(&files).and_then(|record| {
            let (files, bytes) = size(&files)?;
            let record = Record {
                files,
                bytes,
                ..record
            };
            let json = serde_json::to_vec_pretty(&record).unwrap_or_default();
            fsx::write_atomic(&staged.join(RECORD), &json).map_err(FetchError::from)?;
            Ok(())
        });
        if let Err(error) = filled {
            // That it failed matters more than what it leaves.
            let _ = remove(&staged);
            return Err(error);
        }
        let folder = self.root.join(key);
        std::fs::rename(&staged, &folder)
            .map_err(FsError::at("rename", &staged))
            .and_then(|()| fsx::sync_dir(&self.root))
            .map_err(FetchError::from)?;
        let missing = || FetchError::unreadable(&folder)(std::io::ErrorKind::NotFound.into());
        Ok(self.find(key)?.ok_or_else(missing)?)
    }
}

fn create(folder: &Path) -> Result<(), FetchError> {
    let made = std::fs::create_dir_all(folder).map_err(FsError::at("create", folder));
    Ok(made?)
}

fn remove(folder: &Path) -> Result<(), FetchError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FsError::at("remove", folder)(error).into())
        }
        _ => Ok(()),
    }
}

/// Files and bytes below a folder, without the hidden ones that file managers leave.
fn size(folder: &Path) -> Result<(u64, u64), FetchError> {
    let (mut files, mut bytes) = (0, 0);
    let unreadable = |error| FetchError::unreadable(folder)(error);
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(FetchError::unreadable(folder))?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.metadata().map_err(FetchError::unreadable(folder))?;
        if kind.is_dir() {
            let below = size(&entry.path())?;
            files += below.0;
            bytes += below.1;
        } else {
            files += 1;
            bytes += kind.len();
        }
    }
    Ok((files, bytes))
}
