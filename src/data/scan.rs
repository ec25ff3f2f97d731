//! One parallel pass over all files: hash, format by content, and a full decode to find the broken,
//! unless an earlier scan has noted that there is nothing wrong.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::decode::{self, Kind};
use super::error::first_ten;
use super::kept::{Kept, ScanOptions};
use super::listing::{Listed, Listing, issue};
use super::notes::Notes;
use super::preprocess::Resizer;
use super::{DataError, Item, Source};
use crate::config::OnCorrupt;
use crate::records::{DataIssueRow, Split};

/// Bytes that tell what a file is.
const START: u64 = 64;

/// A picture that decodes, with its class by name and the split that its source gave.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The item; `label` and `split` are not decided yet.
    pub(super) item: Item,
    /// Name of its class.
    pub(super) class: String,
    /// Its split, where the source gives one.
    pub(super) given: Option<Split>,
}

/// What a file turned out to be.
enum Outcome {
    Picture {
        hash: [u8; 32],
        width: u32,
        height: u32,
    },
    NoPicture,
    Unusable(String),
}

/// Pictures of a source and everything worth a line in `data_issues.csv`.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Sorted by path.
    pub(super) found: Vec<Found>,
    /// Class names, those without pictures included.
    pub(super) classes: Vec<String>,
    /// Rows so far.
    pub(super) issues: Vec<DataIssueRow>,
    /// Pictures that wait for their first use.
    pub(super) kept: Option<Arc<Kept>>,
}

/// Reads everything listed. Under `on_corrupt = "error"` unusable pictures are one error; under
/// `"skip"` they are issues.
pub(super) fn scan(
    listing: Listing,
    on_corrupt: OnCorrupt,
    options: &ScanOptions,
) -> Result<Scan, DataError> {
    let notes = options.notes.as_deref();
    let notes = notes.map(|folder| Notes::open(folder, &listing));
    let kept = options.keep.map(|keep| Arc::new(Kept::new(keep)));
    let outcomes: Vec<Outcome> = listing
        .pictures
        .par_iter()
        .map_init(Resizer::default, |resizer, listed| {
            inspect(listed, notes.as_ref(), kept.as_deref(), resizer)
        })
        .collect();
    if let Some(notes) = notes {
        notes.replace(outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Picture {
                hash,
                width,
                height,
            } => Some((*hash, [*width, *height])),
            Outcome::NoPicture | Outcome::Unusable(_) => None,
        }));
    }
    let mut scan = Scan {
        found: Vec::with_capacity(outcomes.len()),
        classes: listing.classes,
        issues: listing.issues,
        kept,
    };
    let mut refused = listing.refused;
    for (listed, outcome) in listing.pictures.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Picture {
                hash,
                width,
                height,
            } => scan.found.push(Found {
                item: Item {
                    path: listed.path,
                    source: Source::File(listed.file),
                    label: 0,
                    split: Split::Train,
                    hash,
                    width,
                    height,
                },
                class: listed.class,
                given: listed.given,
            }),
            Outcome::NoPicture => {
                scan.issues
                    .push(issue(listed.path, "ignored", "not a picture"));
            }
            Outcome::Unusable(reason) => refused.push(issue(listed.path, "corrupt", reason)),
        }
    }
    // With leaf classes a folder of folders is a class only if pictures lie right in it.
    scan.classes
        .extend(scan.found.iter().map(|found| found.class.clone()));
    scan.classes.sort();
    scan.classes.dedup();
    refused.sort_by(|a, b| a.path.cmp(&b.path));
    if !refused.is_empty() && on_corrupt == OnCorrupt::Error {
        return Err(DataError::Broken {
            count: refused.len(),
            total: refused.len() + scan.found.len(),
            list: first_ten(&refused),
            fetched: false,
        });
    }
    scan.issues.append(&mut refused);
    Ok(scan)
}

fn inspect(
    listed: &Listed,
    notes: Option<&Notes>,
    kept: Option<&Kept>,
    resizer: &mut Resizer,
) -> Outcome {
    let must_be_one = listed.named || named_like_a_picture(&listed.file);
    let bytes = match read(&listed.file, must_be_one) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Outcome::NoPicture,
        Err(error) => return Outcome::Unusable(format!("cannot be read: {error}")),
    };
    let hash = *blake3::hash(&bytes).as_bytes();
    if let Some([width, height]) = notes.and_then(|notes| notes.size(&hash)) {
        return Outcome::Picture {
            hash,
            width,
            height,
        };
    }
    match super::decode_guarded(&bytes) {
        Ok(picture) => {
            let (width, height) = picture.dimensions();
            if let Some(kept) = kept {
                kept.put(hash, picture, resizer);
            }
            Outcome::Picture {
                hash,
                width,
                height,
            }
        }
        Err(flaw) => Outcome::Unusable(flaw.to_string()),
    }
}

/// All of a file that may be a picture.
pub(super) fn read_whole(file: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    Ok(read(file, true)?.unwrap_or_default())
}

/// All of a file, or `None` if its first bytes are no picture's and it need not be one: other files
/// may be of any size.
fn read(file: &Path, must_be_one: bool) -> std::io::Result<Option<Vec<u8>>> {
    let mut file = std::fs::File::open(file)?;
    let size = file.metadata()?.len().min(decode::MAX_FILE_BYTES);
    let mut bytes = Vec::with_capacity(START as usize);
    file.by_ref().take(START).read_to_end(&mut bytes)?;
    if decode::sniff(&bytes) == Kind::Other && !must_be_one {
        return Ok(None);
    }
    bytes.reserve_exact((size as usize).saturating_sub(bytes.len()));
    let most = decode::MAX_FILE_BYTES - bytes.len() as u64;
    file.by_ref().take(most).read_to_end(&mut bytes)?;
    match file.read(&mut [0])? {
        0 => Ok(Some(bytes)),
        _ => Err(std::io::Error::other("it is larger than 512 MiB")),
    }
}

/// Whether a file claims by its name to be a picture: then it is one, if a broken one.
pub(super) fn named_like_a_picture(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        [
            "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic",
            "avif",
        ]
        .contains(&extension.to_ascii_lowercase().as_str())
    })
}
