//! Where weights come from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use std::borrow::Cow;

use super::error::WeightsError;
use super::hub::{Download, Hub};
use super::{FLAVOUR_KEY, embedded};
use crate::config::Flavour;

/// Model file in a run directory.
const RUN_MODEL: &str = "model.safetensors";

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
    /// A repository on the hub.
    Hub {
        /// `owner/name`.
        id: String,
        /// Branch, tag or commit.
        revision: String,
    },
}

impl Source {
    /// Tells the kinds apart: `xp/...`, a path that exists or looks like one, `owner/name` with
    /// an optional `@revision`. A folder stands for the `model.safetensors` in it.
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
        let path = Path::new(source);
        if path.is_dir() {
            return Ok(Self::File(path.join(RUN_MODEL)));
        }
        let has_weights_suffix = ["safetensors", "pth", "pt", "bin", "h5", "keras", "ckpt"]
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

    /// The whole file and where it lies, fetched from the hub if need be.
    pub(super) fn read(
        &self,
        progress: &mut dyn FnMut(Download),
    ) -> Result<(PathBuf, Cow<'static, [u8]>), WeightsError> {
        let path = match self {
            Self::Embedded { name, bytes } => return Ok((name.into(), Cow::Borrowed(*bytes))),
            Self::File(path) => path.clone(),
            Self::Hub { id, revision } => Hub::from_env().fetch(id, revision, progress)?,
        };
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        Ok((path, Cow::Owned(bytes)))
    }

    /// Flavour by the file's metadata, else by the hub id; PyTorch's where neither tells.
    pub(super) fn flavour(
        &self,
        metadata: Option<&HashMap<String, String>>,
    ) -> Result<Flavour, WeightsError> {
        match metadata.and_then(|metadata| metadata.get(FLAVOUR_KEY)) {
            Some(name) => match name.as_str() {
                "torch" => Ok(Flavour::Torch),
                "tf" => Ok(Flavour::Tf),
                _ => Err(WeightsError::Flavour(name.clone())),
            },
            None => Ok(match self {
                Self::Hub { id, .. } if id.contains("/tf_") => Flavour::Tf,
                _ => Flavour::Torch,
            }),
        }
    }
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> WeightsError {
    WeightsError::Unreadable {
        path: path.into(),
        reason: error.to_string(),
    }
}
