//! The beginning of a download, which the next attempt goes on from.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, Response, StatusCode};

use super::download::{Address, beside};
use super::http;
use super::transfer::{Download, Passed, Side};

/// What is kept beside the beginning of a file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Begun {
    url: String,
    /// Entity tag or date of the file that the beginning is of.
    validator: Option<String>,
    total: Option<u64>,
}

/// How an attempt to download ended.
pub(super) enum Broken {
    /// It may go better the next time.
    Passing(String),
    /// It will not.
    Final(String),
}

/// The beginning of a file, as far as it has been downloaded.
pub(super) struct Part {
    pub(super) file: PathBuf,
    pub(super) record: PathBuf,
}

impl Part {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            file: beside(path, ".part"),
            record: beside(path, ".part.json"),
        }
    }

    pub(super) fn length(&self) -> u64 {
        std::fs::metadata(&self.file).map_or(0, |file| file.len())
    }

    /// What is known of the beginning, if it can be gone on from: the host must be able to tell
    /// whether it still has the same file, or a checksum must prove the whole.
    fn begun(&self, address: &Address) -> Option<Begun> {
        let begun = std::fs::read(&self.record).ok()?;
        let begun: Begun = serde_json::from_slice(&begun).ok()?;
        let provable = begun.validator.is_some() || address.sha256.is_some();
        (begun.url == address.url && provable && self.length() > 0).then_some(begun)
    }

    fn discard(&self) {
        // What stays here is replaced by the next attempt.
        let _ = std::fs::remove_file(&self.record);
        let _ = std::fs::remove_file(&self.file);
    }

    /// Downloads what is missing; gives the SHA-256 of the whole.
    pub(super) fn attempt(
        &self,
        address: &Address,
        progress: &mut dyn FnMut(Download),
    ) -> Result<String, Broken> {
        let begun = self.begun(address);
        let have = begun.as_ref().map_or(0, |_| self.length());
        if begun
            .as_ref()
            .is_some_and(|begun| begun.total == Some(have))
        {
            // All of it, from a process that ended before it could say so.
            let whole = self
                .go_on()
                .map_err(|error| Broken::Final(error.to_string()))?;
            return self.check(address, whole.0, true);
        }
        let mut answer = match ask(address, begun.as_ref(), have) {
            Ok(answer) => answer,
            Err(ureq::Error::StatusCode(416)) => {
                // The beginning is as long as the file, or of another one.
                self.discard();
                return Err(Broken::Passing("the file on the host has changed".into()));
            }
            Err(error) => {
                let reason = http::reason(&error);
                return Err(match http::is_passing(&error) {
                    true => Broken::Passing(reason),
                    false => Broken::Final(reason),
                });
            }
        };
        if answer.body().mime_type() == Some("text/html") {
            return Err(Broken::Final("there is a web page, not a file".into()));
        }
        let resumed = answer.status() == StatusCode::PARTIAL_CONTENT;
        let total = if resumed {
            let range = content_range(answer.headers());
            if range.is_none_or(|(start, _)| start != have) {
                self.discard();
                let reason = "the host sends another part than was asked for";
                return Err(Broken::Passing(reason.into()));
            }
            let total = range.and_then(|(_, total)| total);
            // Not every host heeds what the rest is asked for under.
            let changed = begun.as_ref().is_some_and(|begun| {
                let now = validator(answer.headers());
                let validators = begun.validator.as_ref().zip(now.as_ref());
                let totals = begun.total.zip(total);
                validators.is_some_and(|(then, now)| then != now)
                    || totals.is_some_and(|(then, now)| then != now)
            });
            if changed {
                self.discard();
                return Err(Broken::Passing("the file on the host has changed".into()));
            }
            total
        } else {
            answer.body().content_length()
        };
        let now = Begun {
            url: address.url.clone(),
            validator: validator(answer.headers()),
            total,
        };
        let (mut passed, mut file) = if resumed {
            self.go_on()
        } else {
            self.begin(&now)
        }
        .map_err(|error| Broken::Final(error.to_string()))?;
        let mut body = answer.body_mut().as_reader();
        let copied = passed.copy(&mut body, &mut file, &mut |done| {
            progress(Download {
                done,
                total: total.unwrap_or(done),
            });
        });
        let synced = file.sync_all();
        let done = passed.bytes;
        match copied {
            Err(Side::Read(error)) => {
                let of = total.map_or(String::new(), |total| format!(" of {total}"));
                let reason = format!("it broke off after {done}{of} bytes ({error})");
                return Err(Broken::Passing(reason));
            }
            Err(Side::Write(error)) => {
                let reason = format!("its file cannot be written: {error}");
                return Err(Broken::Final(reason));
            }
            Ok(()) => synced.map_err(|error| Broken::Final(error.to_string()))?,
        }
        if let Some(total) = total.filter(|&total| total != done) {
            let reason = format!("it broke off after {done} of {total} bytes");
            return Err(Broken::Passing(reason));
        }
        self.check(address, passed, resumed)
    }

    /// The SHA-256 of a whole file, if it is what it must be.
    fn check(&self, address: &Address, passed: Passed, resumed: bool) -> Result<String, Broken> {
        let sum = passed.sha256();
        match &address.sha256 {
            Some(expected) if *expected != sum => {
                self.discard();
                let reason = format!("its SHA-256 is {sum}, not {expected}");
                // Two parts of different files, perhaps: once more, from its beginning.
                Err(match resumed {
                    true => Broken::Passing(reason),
                    false => Broken::Final(reason),
                })
            }
            _ => Ok(sum),
        }
    }

    /// A new beginning.
    fn begin(&self, begun: &Begun) -> std::io::Result<(Passed, File)> {
        let file = File::create(&self.file)?;
        let record = serde_json::to_vec(begun)?;
        let mut written = File::create(&self.record)?;
        written.write_all(&record)?;
        Ok((Passed::default(), file))
    }

    /// The end of the beginning.
    fn go_on(&self) -> std::io::Result<(Passed, File)> {
        let mut passed = Passed::default();
        let mut file = File::open(&self.file)?;
        let copied = passed.copy(&mut file, &mut std::io::sink(), &mut |_| ());
        if let Err(Side::Read(error) | Side::Write(error)) = copied {
            return Err(error);
        }
        let file = File::options().append(true).open(&self.file)?;
        Ok((passed, file))
    }
}

fn ask(
    address: &Address,
    begun: Option<&Begun>,
    have: u64,
) -> Result<Response<ureq::Body>, ureq::Error> {
    let agent = http::agent(&address.url);
    let mut request = agent
        .get(&address.url)
        .header("Accept-Encoding", "identity");
    if let Some(begun) = begun {
        request = request.header("Range", format!("bytes={have}-"));
        if let Some(validator) = &begun.validator {
            request = request.header("If-Range", validator);
        }
    }
    request.call()
}

/// What tells one file at an address from the next: a strong entity tag, or else the date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    let strong = text("etag").filter(|tag| !tag.starts_with("W/"));
    strong.or_else(|| text("last-modified"))
}

/// First byte and size of the whole, of `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let range = headers.get("content-range")?.to_str().ok()?;
    let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}
