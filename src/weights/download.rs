//! Files by their address: downloaded once, kept with their checksum, verified at every use.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::WeightsError;
use super::http;
use super::source::unreadable;
use super::transfer::{Download, copy, is_sha256, sha256_of};
use crate::fsx;

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

    /// Refuses what follows `#` if it is no checksum: the user has asked for a check that would not
    /// take place.
    fn check(&self) -> Result<(), WeightsError> {
        let reason = match (&self.unknown, &self.sha256) {
            (Some(fragment), _) => {
                format!("has `#{fragment}` behind it, which is not `#sha256=` and a checksum")
            }
            (None, Some(sum)) if !is_sha256(sum) => {
                format!("needs 64 hexadecimal digits after `#sha256=`, not {sum}")
            }
            _ => return Ok(()),
        };
        Err(WeightsError::Refused {
            path: self.url.clone().into(),
            reason,
            help: "end the address in `#sha256=` and the 64 digits that `sha256sum` prints, or \
                   leave out `#` and what follows it"
                .into(),
        })
    }

    /// Name of the file at the address; empty where there is only a host.
    pub(super) fn file_name(&self) -> String {
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
        address.check()?;
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

/// Compares a file with its record, and one that has changed is removed; then with what the address
/// says it must be, and there the file stays: the address may be what is wrong.
fn verify(address: &Address, path: &Path) -> Result<(), WeightsError> {
    let found = sha256_of(path)?;
    if address.sha256.as_ref() == Some(&found) {
        return Ok(());
    }
    let record = record_of(path);
    let content = std::fs::read(&record).map_err(|error| unreadable(&record, &error))?;
    let recorded = serde_json::from_slice(&content)
        .map_or_else(|error| error.to_string(), |record: Record| record.sha256);
    if found != recorded {
        for stale in [record.as_path(), path] {
            std::fs::remove_file(stale).map_err(|error| unreadable(stale, &error))?;
        }
        return Err(WeightsError::Checksum {
            id: address.url.clone(),
            expected: recorded,
            found,
        });
    }
    match &address.sha256 {
        None => Ok(()),
        Some(expected) => Err(WeightsError::Refused {
            path: path.into(),
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
        assert!(error.help().unwrap().contains("#sha256="), "{error}");
        assert_eq!(fetch(&plain).unwrap(), path);
        assert_eq!(fetch(&pinned(&sum.to_uppercase())).unwrap(), path);

        std::fs::write(&path, "other").unwrap();
        let error = fetch(&pinned(&sum)).unwrap_err();
        assert!(matches!(error, WeightsError::Checksum { .. }), "{error}");
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
            assert!(error.help().unwrap().contains("#sha256="), "{error}");
        }
    }
}
