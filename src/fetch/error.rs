//! What can go wrong on the way here.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::fsx::FsError;

/// Why a file from elsewhere cannot be had.
#[derive(Debug, Error)]
pub enum FetchError {
    /// A file of the cache cannot be read or written.
    #[error("cannot read `{}`: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder of the cache cannot be made.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// There is nowhere to keep it.
    #[error("`{0}` cannot be kept: this user has no folder for caches")]
    NoCache(String),
    /// An address that asks for a check that cannot be made.
    #[error("`{what}` {reason}")]
    Refused {
        /// The address, or the file of one.
        what: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        help: String,
    },
    /// The hub cannot be reached, or has no such file.
    #[error("cannot fetch `{id}` from the hub: {reason}")]
    Hub {
        /// Hub id.
        id: String,
        /// Where the file would come from.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// A file cannot be downloaded from its address.
    #[error("cannot download `{url}`: {reason}")]
    Download {
        /// The address.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// A downloaded file is not what it should be; it has been removed from the cache.
    #[error("the download of `{id}` is damaged: its SHA-256 is {found}, not {expected}")]
    Checksum {
        /// Hub id or address.
        id: String,
        /// What it should be.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// An archive that cannot or must not be unpacked.
    #[error("`{archive}` cannot be unpacked: {reason}")]
    Archive {
        /// Where it came from.
        archive: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        help: &'static str,
        /// Whether the archive may be sound, and this machine is at fault.
        ours: bool,
    },
    /// An unpacked folder that is not what was unpacked.
    #[error("`{}` was changed since it was unpacked: it holds {found} where {expected} were", .folder.display())]
    Altered {
        /// The folder.
        folder: PathBuf,
        /// Files and bytes that were unpacked.
        expected: String,
        /// Files and bytes that there are.
        found: String,
    },
}

impl FetchError {
    /// Says which file could not be read, for `map_err`.
    pub(crate) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Unreadable {
            path: path.to_owned(),
            source,
        }
    }

    /// What to do about it; `instead` names the key that takes the file from this disk.
    pub fn help(&self, instead: &str) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } => "check the path and who may read it".into(),
            Self::Fs(_) => return None,
            Self::NoCache(_) => format!("download it by other means and set {instead}"),
            Self::Refused { help, .. } => help.clone(),
            Self::Hub { url, .. } => {
                format!("download {url} where there is a network and set {instead}")
            }
            Self::Download { url, .. } => {
                format!("download {url} by other means and set {instead}")
            }
            Self::Checksum { .. } => "run it again to download it anew".into(),
            Self::Archive { help, .. } => (*help).into(),
            Self::Altered { folder, .. } => format!(
                "delete the folder `{}`; the next run makes it anew",
                folder.display()
            ),
        })
    }
}
