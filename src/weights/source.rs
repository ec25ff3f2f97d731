//! Where weights come from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::bytes::Bytes;
use super::error::WeightsError;
use super::{FLAVOUR_KEY, embedded};
use crate::config::{Flavour, WEIGHT_EXTENSIONS};
use crate::fetch::{Address, Download, Downloads, FetchError, Hub, RepoType};

/// Model file in a run directory.
const RUN_MODEL: &str = "model.safetensors";

/// Folder of downloaded weights in the user's cache.
const CACHE: &str = "weights";
/// File of a hub's repository.
const HUB_FILE: &str = "model.safetensors";

/// How the names of Keras' files end.
const OF_KERAS: [&str; 3] = [".h5", ".hdf5", ".keras"];

/// What `model.weights` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Bytes in the binary.
    Embedded {
        /// `xp/...`.
        name: &'static str,
        /// A safetensors file.
        bytes: &'static [u8],
    },
    /// A file.
    File(PathBuf),
    /// A file somewhere else.
    Url(Address),
    /// A repository on the hub.
    Hub {
        /// `owner/name`.
        id: String,
        /// Branch, tag or commit.
        revision: String,
    },
}

impl Source {
    /// Tells the kinds apart: `xp/...`, `https://...`, a path that exists or looks like one,
    /// `owner/name` with an optional `@revision`. A folder stands for the `model.safetensors` in it.
    pub fn parse(source: &str) -> Result<Self, WeightsError> {
        if source.starts_with("xp/") {
            return embedded::find(source)
                .map(|(name, bytes)| Self::Embedded { name, bytes })
                .ok_or_else(|| WeightsError::NotEmbedded {
                    name: source.into(),
                    known: match embedded::EMBEDDED {
                        [] => "none".into(),
                        known => known.iter().map(|it| it.0).collect::<Vec<_>>().join(", "),
                    },
                });
        }
        if let Some(address) = Address::parse(source) {
            return Ok(Self::Url(address));
        }
        let path = Path::new(source);
        if path.is_dir() {
            return Ok(Self::File(path.join(RUN_MODEL)));
        }
        let has_weights_suffix = WEIGHT_EXTENSIONS
            .iter()
            .any(|suffix| path.extension().is_some_and(|it| it == *suffix));
        if path.is_file() || path.is_absolute() || has_weights_suffix {
            return Ok(Self::File(path.into()));
        }
        let (id, revision) = source.split_once('@').unwrap_or((source, "main"));
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        match id.split_once('/') {
            Some((owner, name)) if is_word(owner) && is_word(name) && is_word(revision) => {
                Ok(Self::Hub {
                    id: id.into(),
                    revision: revision.into(),
                })
            }
            _ => Err(WeightsError::UnknownSource(source.into())),
        }
    }

    /// The file's bytes and where it lies, fetched if need be.
    pub(super) fn read(
        &self,
        progress: &mut dyn FnMut(Download),
    ) -> Result<(PathBuf, Bytes), WeightsError> {
        let path = match self {
            Self::Embedded { name, bytes } => return Ok((name.into(), Bytes::fixed(bytes))),
            Self::File(path) => path.clone(),
            Self::Url(address) => {
                let downloads = Downloads::of_user(CACHE)
                    .ok_or_else(|| FetchError::NoCache(address.url.clone()))?;
                downloads.fetch(address, progress)?
            }
            Self::Hub { id, revision } => {
                let repo = (id.as_str(), RepoType::Model);
                Hub::from_env().fetch(repo, revision, HUB_FILE, progress)?
            }
        };
        let bytes = Bytes::open(&path)?;
        Ok((path, bytes))
    }

    /// The file, if it can be read without a download.
    pub(super) fn local(&self) -> Result<Option<(PathBuf, Bytes)>, WeightsError> {
        match self {
            Self::Hub { .. } => Ok(None),
            Self::Url(address) => Downloads::of_user(CACHE)
                .and_then(|downloads| downloads.cached(address))
                .map(|path| Ok((path.clone(), Bytes::open(&path)?)))
                .transpose(),
            Self::File(_) | Self::Embedded { .. } => self.read(&mut |_| ()).map(Some),
        }
    }

    /// Flavour by the file's metadata, else by its format, else by the hub id or the address;
    /// PyTorch's where none tells.
    pub(super) fn flavour(
        &self,
        metadata: Option<&HashMap<String, String>>,
        format: Option<Flavour>,
    ) -> Result<Flavour, WeightsError> {
        match metadata.and_then(|metadata| metadata.get(FLAVOUR_KEY)) {
            Some(name) => match name.as_str() {
                "torch" => Ok(Flavour::Torch),
                "tf" => Ok(Flavour::Tf),
                _ => Err(WeightsError::Flavour(name.clone())),
            },
            None => Ok(match (format, self) {
                (Some(flavour), _) => flavour,
                (None, Self::Hub { id, .. }) if id.contains("/tf_") => Flavour::Tf,
                (None, Self::Url(address)) if is_of_keras(address) => Flavour::Tf,
                _ => Flavour::Torch,
            }),
        }
    }
}

/// By the name of the file alone: hosts and queries say nothing about it.
fn is_of_keras(address: &Address) -> bool {
    let name = address.file_name().to_ascii_lowercase();
    OF_KERAS.iter().any(|suffix| name.ends_with(suffix))
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> WeightsError {
    WeightsError::Unreadable {
        path: path.into(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_of_an_address_tells_the_flavour() {
        for (url, expected) in [
            ("https://example.org/notop.h5", Flavour::Tf),
            ("https://example.org/x.weights.H5?download=1", Flavour::Tf),
            ("https://example.org/a/x.hdf5", Flavour::Tf),
            ("https://example.org/x.keras", Flavour::Tf),
            ("https://my.h5.org/x.pth", Flavour::Torch),
            ("https://example.h5", Flavour::Torch),
            ("https://example.org/x.pth?not=y.h5", Flavour::Torch),
            ("https://example.org/x.h5.pth", Flavour::Torch),
        ] {
            let source = Source::parse(url).unwrap();
            assert_eq!(source.flavour(None, None).unwrap(), expected, "{url}");
        }
    }
}
