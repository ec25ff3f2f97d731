//! Files by their address: downloaded once, going on where a download broke off, kept with their
//! checksum, verified at every use.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::FetchError;
use super::part::{Broken, Part};
use super::transfer::{Download, is_sha256, sha256_of};
use crate::fsx::{self, FsError, Lock};

/// The address of a file and, after `#sha256=`, what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Without what follows `#`.
    pub url: String,
    /// SHA-256 in lower-case hexadecimal, as given; [`Downloads::fetch`] checks its length.
    pub sha256: Option<String>,
    /// What follows `#` where that is something else, which `fetch` refuses.
    unknown: Option<String>,
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
        let (url, fragment) = match text.split_once('#') {
            Some((url, fragment)) => (url, Some(fragment)),
            None => (text, None),
        };
        let sum = fragment
            .and_then(|fragment| fragment.strip_prefix("sha256="))
            .filter(|sum| !sum.is_empty());
        Some(Self {
            url: url.into(),
            sha256: sum.map(str::to_lowercase),
            unknown: fragment.filter(|_| sum.is_none()).map(Into::into),
        })
    }

    /// The file at an address, which must be of this SHA-256 where one is given.
    pub fn new(url: &str, sha256: Option<&str>) -> Self {
        Self {
            url: url.into(),
            sha256: sha256.map(str::to_lowercase),
            unknown: None,
        }
    }

    /// Refuses what follows `#` if it is no checksum: the user has asked for a check that would not
    /// take place.
    fn check(&self) -> Result<(), FetchError> {
        let reason = match (&self.unknown, &self.sha256) {
            (Some(fragment), _) => {
                format!("has `#{fragment}` behind it, which is not `#sha256=` and a checksum")
            }
            (None, Some(sum)) if !is_sha256(sum) => {
                format!("needs 64 hexadecimal digits after `#sha256=`, not {sum}")
            }
            _ => return Ok(()),
        };
        Err(FetchError::Refused {
            what: self.url.clone(),
            reason,
            help: "end the address in `#sha256=` and the 64 digits that `sha256sum` prints, or \
                   leave out `#` and what follows it"
                .into(),
        })
    }

    /// Name of the file at the address; empty where there is only a host.
    pub fn file_name(&self) -> String {
        let url = self.url.split('?').next().unwrap_or_default();
        // Behind `https:`, nothing and the host.
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
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

/// Attempts in a row that may end without a new byte.
const ATTEMPTS: u32 = 4;
/// Pause before the second attempt; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);

/// A folder of downloaded files.
#[derive(Debug)]
pub struct Downloads {
    folder: PathBuf,
    attempts: u32,
}

impl Downloads {
    /// A folder in the user's cache, `~/.cache/xp/NAME` on Linux.
    pub fn of_user(name: &str) -> Option<Self> {
        Some(Self::new(dirs::cache_dir()?.join("xp").join(name)))
    }

    /// Another folder.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            attempts: ATTEMPTS,
        }
    }

    /// The same folder, with so many attempts in a row that may end without a new byte.
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
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

    /// The file of an address, downloaded if it is not there. Where another process is at it, waits
    /// for that.
    pub fn fetch(
        &self,
        address: &Address,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, FetchError> {
        address.check()?;
        let path = self.path(address);
        std::fs::create_dir_all(&self.folder).map_err(FsError::at("create", &self.folder))?;
        let _lock = Lock::acquire(&beside(&path, ".lock"))?;
        match self.cached(address) {
            Some(path) => verify(address, &path)?,
            None => self.download(address, &path, progress)?,
        }
        Ok(path)
    }

    /// SHA-256 of a file that has been downloaded.
    pub fn sha256(&self, address: &Address) -> Option<String> {
        let record = std::fs::read(record_of(&self.path(address))).ok()?;
        let record: Record = serde_json::from_slice(&record).ok()?;
        Some(record.sha256)
    }

    /// Removes the file of an address.
    pub fn forget(&self, address: &Address) -> Result<(), FetchError> {
        let path = self.path(address);
        remove(&record_of(&path))?;
        remove(&path)
    }

    fn download(
        &self,
        address: &Address,
        path: &Path,
        progress: &mut dyn FnMut(Download),
    ) -> Result<(), FetchError> {
        let part = Part::of(path);
        let (mut most, mut failed) = (0, 0);
        let sum = loop {
            match part.attempt(address, progress) {
                Ok(sum) => break sum,
                Err(Broken::Final(reason)) => return Err(failure(address, reason)),
                Err(Broken::Passing(reason)) => {
                    let here = part.length();
                    failed = if here > most { 1 } else { failed + 1 };
                    most = most.max(here);
                    if failed >= self.attempts {
                        return Err(failure(address, reason));
                    }
                    std::thread::sleep(PAUSE * 2u32.pow(failed - 1));
                }
            }
        };
        let record = Record {
            url: address.url.clone(),
            sha256: sum,
            bytes: part.length(),
        };
        // Without its record a file counts as not downloaded, so that comes first.
        let record = serde_json::to_vec_pretty(&record)
            .map_err(|error| failure(address, error.to_string()))?;
        fsx::write_atomic(&record_of(path), &record)?;
        std::fs::rename(&part.file, path).map_err(FsError::at("rename", &part.file))?;
        remove(&part.record)
    }
}

fn failure(address: &Address, reason: String) -> FetchError {
    FetchError::Download {
        url: address.url.clone(),
        reason,
    }
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FsError::at("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn record_of(path: &Path) -> PathBuf {
    beside(path, ".json")
}

/// Compares a file with its record, and one that has changed is removed; then with what the address
/// says it must be, and there the file stays: the address may be what is wrong.
fn verify(address: &Address, path: &Path) -> Result<(), FetchError> {
    let found = sha256_of(path)?;
    if address.sha256.as_ref() == Some(&found) {
        return Ok(());
    }
    let record = record_of(path);
    let content = std::fs::read(&record).map_err(FetchError::unreadable(&record))?;
    let recorded = serde_json::from_slice(&content)
        .map_or_else(|error| error.to_string(), |record: Record| record.sha256);
    if found != recorded {
        for stale in [record.as_path(), path] {
            std::fs::remove_file(stale).map_err(FetchError::unreadable(stale))?;
        }
        return Err(FetchError::Checksum {
            id: address.url.clone(),
            expected: recorded,
            found,
        });
    }
    match &address.sha256 {
        None => Ok(()),
        Some(expected) => Err(FetchError::Refused {
            what: path.display().to_string(),
            reason: format!("has the SHA-256 {found}, not {expected} as its address says"),
            help: format!(
                "correct what follows `#sha256=` after {}, or delete the file to download it again",
                address.url
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://127.0.0.1:1/w.pth";

    #[test]
    fn a_wrong_pin_leaves_a_sound_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let downloads = Downloads::new(folder.path().into());
        let plain = Address::parse(URL).unwrap();
        let path = downloads.path(&plain);
        std::fs::write(&path, "sound").unwrap();
        let sum = sha256_of(&path).unwrap();
        let record = Record {
            url: URL.into(),
            sha256: sum.clone(),
            bytes: 5,
        };
        std::fs::write(record_of(&path), serde_json::to_vec(&record).unwrap()).unwrap();
        let fetch = |address: &Address| downloads.fetch(address, &mut |_| ());
        let pinned = |sum: &str| Address::parse(&format!("{URL}#sha256={sum}")).unwrap();

        let error = fetch(&pinned(&"0".repeat(64))).unwrap_err();
        assert!(error.to_string().contains("as its address says"), "{error}");
        assert!(error.help("x").unwrap().contains("#sha256="), "{error}");
        assert_eq!(fetch(&plain).unwrap(), path);
        assert_eq!(fetch(&pinned(&sum.to_uppercase())).unwrap(), path);

        std::fs::write(&path, "other").unwrap();
        let error = fetch(&pinned(&sum)).unwrap_err();
        assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
        assert_eq!(downloads.cached(&plain), None);
    }

    #[test]
    fn what_follows_an_address_is_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let downloads = Downloads::new(folder.path().into());
        let digits = "0".repeat(64);
        for (fragment, part) in [
            ("".to_string(), "has `#` behind it"),
            ("main".into(), "has `#main` behind it"),
            ("sha256=".into(), "has `#sha256=` behind it"),
            (format!("sha-256={digits}"), "has `#sha-256="),
            (digits.clone(), "has `#0000"),
            ("sha256=12".into(), "needs 64 hexadecimal digits"),
            (format!("sha256={digits}0"), "needs 64 hexadecimal digits"),
            (format!("sha256={}x", &digits[1..]), "needs 64 hexadecimal"),
        ] {
            let address = Address::parse(&format!("{URL}#{fragment}")).unwrap();
            let error = downloads.fetch(&address, &mut |_| ()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert!(error.help("x").unwrap().contains("#sha256="), "{error}");
        }
    }
}
