//! Files of the Hugging Face hub: cached, resumed where a download broke off, verified.

use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo};

use super::transfer::{Download, is_sha256, sha256_of};
use super::{FetchError, http};

pub use hf_hub::RepoType;

const ENDPOINT: &str = "https://huggingface.co";

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

    /// Path of a repository's file in the cache, downloaded if it is not there.
    pub fn fetch(
        &self,
        (id, kind): (&str, RepoType),
        revision: &str,
        file: &str,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, FetchError> {
        let repo = Repo::with_revision(id.into(), kind, revision.into());
        let cache = Cache::new(self.cache.clone());
        let url = format!(
            "{}/{}/resolve/{}/{file}",
            self.endpoint,
            repo.url(),
            repo.url_revision()
        );
        let failed = |reason: String| FetchError::Hub {
            id: id.into(),
            url: url.clone(),
            reason,
        };
        let path = match cache.repo(repo.clone()).get(file) {
            Some(path) => path,
            None => {
                http::check_reachable(&url).map_err(failed)?;
                let relay = Relay {
                    progress,
                    state: Download { done: 0, total: 0 },
                };
                self.api()
                    .and_then(|api| api.repo(repo).download_with_progress(file, relay))
                    .map_err(|error| failed(reason(&error, file)))?
            }
        };
        verify(id, &path)?;
        Ok(path)
    }

    /// The commit that a revision of a data set stands for, and the names of its files.
    pub fn list(&self, id: &str, revision: &str) -> Result<(String, Vec<String>), FetchError> {
        let repo = Repo::with_revision(id.into(), RepoType::Dataset, revision.into());
        let url = format!("{}/datasets/{id}", self.endpoint);
        let failed = |reason: String| FetchError::Hub {
            id: id.into(),
            url: url.clone(),
            reason,
        };
        let api_url = format!("{}/api/{}", self.endpoint, repo.api_url());
        http::check_reachable(&api_url).map_err(failed)?;
        let info = self.api().and_then(|api| api.repo(repo).info());
        let info = info.map_err(|error| match &error {
            ApiError::RequestError(cause)
                if matches!(**cause, ureq::Error::StatusCode(401 | 404)) =>
            {
                failed(format!(
                    "there is no such data set, or no revision `{revision}` of it"
                ))
            }
            error => failed(reason(error, "")),
        })?;
        // A name becomes a path in the cache.
        let plain = |name: &String| {
            let parts = name.split('/');
            !name.contains(['\\', '\0']) && parts.clone().all(|it| !["", ".", ".."].contains(&it))
        };
        let files = info.siblings.into_iter().map(|file| file.rfilename);
        Ok((info.sha, files.filter(plain).collect()))
    }

    fn api(&self) -> Result<Api, ApiError> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_progress(false)
            .with_retries(self.retries)
            .build()
    }
}

fn reason(error: &ApiError, file: &str) -> String {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(401 | 404) => {
                format!("there is no such repository, or no `{file}` in it")
            }
            ref error => http::reason(error),
        },
        ApiError::TooManyRetries(error) => reason(error, file),
        other => other.to_string(),
    }
}

/// The cache names large files by the SHA-256 that the hub gave for them; small ones have
/// another kind of name, which says nothing about the content.
fn verify(id: &str, path: &Path) -> Result<(), FetchError> {
    let blob = path.canonicalize().map_err(FetchError::unreadable(path))?;
    let expected = match blob.file_name().and_then(|name| name.to_str()) {
        Some(name) if is_sha256(name) => name,
        _ => return Ok(()),
    };
    let found = sha256_of(&blob)?;
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    for stale in [path, &blob] {
        std::fs::remove_file(stale).map_err(FetchError::unreadable(stale))?;
    }
    Err(FetchError::Checksum {
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
