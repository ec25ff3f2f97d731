//! Files by their address: downloaded once, kept with their checksum, verified at every use.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::WeightsError;
use super::http;
use super::hub::Download;
use super::source::unreadable;
use crate::fsx;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 18;

/// The address of a file and, after `#sha256=`, what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Without what follows `#`.
    pub url: String,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: Option<String>,
}

impl Address {
    /// An `http://` or `https://` address; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if !["https://", "http://"]
            .iter()
            .any(|it| text.starts_with(it))
        {
            return None;
        }
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let sum = fragment.strip_prefix("sha256=").map(str::to_lowercase);
        Some(Self {
            url: url.into(),
            sha256: sum,
        })
    }

    /// Name of the file at the address.
    fn file_name(&self) -> String {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        let name = path.trim_end_matches('/').rsplit('/').next();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name: String = name
            .unwrap_or_default()
            .chars()
            .filter(|&c| plain(c))
            .collect();
        // Long names are not for every file system.
        name.chars().skip(name.len().saturating_sub(80)).collect()
    }
}

/// What is kept beside a file.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    url: String,
    sha256: String,
    bytes: u64,
}

/// A folder of downloaded files.
#[derive(Debug)]
pub struct Downloads {
    folder: PathBuf,
}

impl Downloads {
    /// The user's cache, `~/.cache/xp/weights` on Linux.
    pub fn of_user() -> Option<Self> {
        Some(Self::new(dirs::cache_dir()?.join("xp").join("weights")))
    }

    /// Another folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where the file of an address is or will be.
    fn path(&self, address: &Address) -> PathBuf {
        let key = blake3::hash(address.url.as_bytes()).to_hex();
        self.folder
            .join(format!("{}-{}", &key[..16], address.file_name()))
    }

    /// The file of an address, if it has been downloaded.
    pub fn cached(&self, address: &Address) -> Option<PathBuf> {
        let path = self.path(address);
        (path.is_file() && record_of(&path).is_file()).then_some(path)
    }

    /// The file of an address, downloaded if it is not there.
    pub fn fetch(
        &self,
        address: &Address,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, WeightsError> {
        match self.cached(address) {
            Some(path) => verify(address, &path)?,
            None => self.download(address, progress)?,
        }
        Ok(self.path(address))
    }

    fn download(
        &self,
        address: &Address,
        progress: &mut dyn FnMut(Download),
    ) -> Result<(), WeightsError> {
        let url = &address.url;
        let failed = |reason: String| WeightsError::Download {
            url: url.clone(),
            reason,
        };
        let path = self.path(address);
        std::fs::create_dir_all(&self.folder).map_err(|error| unreadable(&self.folder, &error))?;
        let request = http::agent().get(url).header("Accept-Encoding", "identity");
        let mut answer = request
            .call()
            .map_err(|error| failed(http::reason(&error)))?;
        if answer.body().mime_type() == Some("text/html") {
            return Err(failed("there is a web page, not a file".into()));
        }
        let total = answer.body().content_length();
        let mut body = answer.body_mut().as_reader();
        let mut record = None;
        let written = fsx::write_atomic_with(&path, |file| {
            let (sum, done) = copy(&mut body, file, total, progress)?;
            if let Some(total) = total.filter(|&total| total != done) {
                let reason = format!("it broke off after {done} of {total} bytes");
                return Err(std::io::Error::other(reason));
            }
            if let Some(expected) = address.sha256.as_ref().filter(|&it| *it != sum) {
                let reason = format!("its SHA-256 is {sum}, not {expected}");
                return Err(std::io::Error::other(reason));
            }
            record = Some(Record {
                url: url.clone(),
                sha256: sum,
                bytes: done,
            });
            Ok(())
        });
        written.map_err(|error| failed(error.source.to_string()))?;
        // Without its record a file counts as not downloaded.
        let record =
            serde_json::to_vec_pretty(&record).map_err(|error| failed(error.to_string()))?;
        fsx::write_atomic(&record_of(&path), &record)
            .map_err(|error| unreadable(&path, &error.source))
    }
}

fn record_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

/// Copies a body, and gives its SHA-256 and length.
fn copy(
    body: &mut dyn Read,
    file: &mut dyn Write,
    total: Option<u64>,
    progress: &mut dyn FnMut(Download),
) -> std::io::Result<(String, u64)> {
    let mut sum = Sha256::new();
    let mut done = 0;
    let mut block = vec![0; BLOCK];
    loop {
        let read = body.read(&mut block)?;
        if read == 0 {
            return Ok((hexadecimal(&sum.finalize()), done));
        }
        sum.update(&block[..read]);
        file.write_all(&block[..read])?;
        done += read as u64;
        progress(Download {
            done,
            total: total.unwrap_or(done),
        });
    }
}

/// Compares a file with its record; one that has changed is removed.
fn verify(address: &Address, path: &Path) -> Result<(), WeightsError> {
    let record = record_of(path);
    let read = |path: &Path| std::fs::read(path).map_err(|error| unreadable(path, &error));
    let expected = serde_json::from_slice(&read(&record)?)
        .map_or_else(|error| error.to_string(), |record: Record| record.sha256);
    let expected = address.sha256.clone().unwrap_or(expected);
    let found = sha256_of(path)?;
    if found == expected {
        return Ok(());
    }
    for stale in [record.as_path(), path] {
        std::fs::remove_file(stale).map_err(|error| unreadable(stale, &error))?;
    }
    Err(WeightsError::Checksum {
        id: address.url.clone(),
        expected,
        found,
    })
}

/// SHA-256 of a file in hexadecimal.
pub(super) fn sha256_of(path: &Path) -> Result<String, WeightsError> {
    let mut file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    let copied = copy(&mut file, &mut std::io::sink(), None, &mut |_| ());
    Ok(copied.map_err(|error| unreadable(path, &error))?.0)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
