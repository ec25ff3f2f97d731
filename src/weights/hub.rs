//! Files of the Hugging Face hub: cached, resumed where a download broke off, verified.

use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::error::WeightsError;
use super::http;
use super::source::unreadable;
use super::transfer::{is_sha256, sha256_of};

pub use super::transfer::Download;

const ENDPOINT: &str = "https://huggingface.co";
const FILE: &str = "model.safetensors";

/// Times that a broken download goes on from where it was.
const RETRIES: usize = 3;

/// A hub and the local cache of its files.
#[derive(Debug)]
pub struct Hub {
    cache: PathBuf,
    endpoint: String,
    retries: usize,
}

impl Hub {
    /// The hub and cache that `HF_ENDPOINT` and `HF_HOME` name, as for every client of the hub.
    pub fn from_env() -> Self {
        Self {
            cache: Cache::from_env().path().clone(),
            endpoint: std::env::var("HF_ENDPOINT").unwrap_or_else(|_| ENDPOINT.into()),
            retries: RETRIES,
        }
    }

    /// A hub at another address, with another cache.
    pub fn new(cache: PathBuf, endpoint: String, retries: usize) -> Self {
        Self {
            cache,
            endpoint,
            retries,
        }
    }

    /// Path of the repository's `model.safetensors` in the cache, downloaded if it is not there.
    pub fn fetch(
        &self,
        id: &str,
        revision: &str,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, WeightsError> {
        let repo = Repo::with_revision(id.into(), RepoType::Model, revision.into());
        let cache = Cache::new(self.cache.clone());
        let url = format!("{}/{id}/resolve/{revision}/{FILE}", self.endpoint);
        let failed = |reason: String| WeightsError::Hub {
            id: id.into(),
            url: url.clone(),
            reason,
        };
        let path = match cache.repo(repo.clone()).get(FILE) {
            Some(path) => path,
            None => {
                http::check_reachable(&url).map_err(failed)?;
                ApiBuilder::from_cache(cache)
                    .with_endpoint(self.endpoint.clone())
                    .with_progress(false)
                    .with_retries(self.retries)
                    .build()
                    .and_then(|api| {
                        let relay = Relay {
                            progress,
                            state: Download { done: 0, total: 0 },
                        };
                        api.repo(repo).download_with_progress(FILE, relay)
                    })
                    .map_err(|error| failed(reason(&error)))?
            }
        };
        verify(id, &path)?;
        Ok(path)
    }
}

fn reason(error: &ApiError) -> String {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(401 | 404) => {
                format!("there is no such repository, or no `{FILE}` in it")
            }
            ref error => http::reason(error),
        },
        ApiError::TooManyRetries(error) => reason(error),
        other => other.to_string(),
    }
}

/// The cache names large files by the SHA-256 that the hub gave for them; small ones have
/// another kind of name, which says nothing about the content.
fn verify(id: &str, path: &Path) -> Result<(), WeightsError> {
    let blob = path
        .canonicalize()
        .map_err(|error| unreadable(path, &error))?;
    let expected = match blob.file_name().and_then(|name| name.to_str()) {
        Some(name) if is_sha256(name) => name,
        _ => return Ok(()),
    };
    let found = sha256_of(&blob)?;
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    for stale in [path, &blob] {
        std::fs::remove_file(stale).map_err(|error| unreadable(stale, &error))?;
    }
    Err(WeightsError::Checksum {
        id: id.into(),
        expected: expected.into(),
        found,
    })
}

/// Passes the client's progress on as absolute figures.
struct Relay<'a> {
    progress: &'a mut dyn FnMut(Download),
    state: Download,
}

impl Progress for Relay<'_> {
    fn init(&mut self, size: usize, _filename: &str) {
        self.state = Download {
            done: 0,
            total: size as u64,
        };
    }

    fn update(&mut self, size: usize) {
        self.state.done += size as u64;
        (self.progress)(self.state);
    }

    fn finish(&mut self) {}
}
