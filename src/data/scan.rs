//! One parallel pass over all files: hash, format by content, and a full decode to find the broken,
//! unless an earlier scan has noted that there is nothing wrong.

use std::io::Read;
use std::ops::Range;
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
const START: usize = 64;

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
        .map_init(Worker::new, |worker, listed| {
            inspect(listed, notes.as_ref(), kept.as_deref(), worker)
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

/// What a thread uses again for every picture.
struct Worker {
    resizer: Resizer,
    buffer: Vec<u8>,
}

impl Worker {
    fn new() -> Self {
        Self {
            resizer: Resizer::default(),
            buffer: vec![0; USUAL],
        }
    }
}

fn inspect(
    listed: &Listed,
    notes: Option<&Notes>,
    kept: Option<&Kept>,
    worker: &mut Worker,
) -> Outcome {
    let must_be_one = listed.named || named_like_a_picture(&listed.file);
    let bytes = match read(&listed.file, must_be_one, &mut worker.buffer) {
        Ok(Some(length)) => &worker.buffer[..length],
        Ok(None) => return Outcome::NoPicture,
        Err(error) => return Outcome::Unusable(format!("cannot be read: {error}")),
    };
    let hash = *blake3::hash(bytes).as_bytes();
    if let Some([width, height]) = notes.and_then(|notes| notes.size(&hash)) {
        return Outcome::Picture {
            hash,
            width,
            height,
        };
    }
    match super::decode_guarded(bytes) {
        Ok(picture) => {
            let (width, height) = picture.dimensions();
            if let Some(kept) = kept {
                kept.put(hash, picture, &mut worker.resizer);
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
    let mut bytes = Vec::new();
    let length = read(file, true, &mut bytes)?.unwrap_or_default();
    bytes.truncate(length);
    Ok(bytes)
}

/// Larger than most pictures: a buffer that grows with them would touch new memory again and again.
const USUAL: usize = 512 << 10;

/// A buffer larger than this is not kept for the next file.
const LARGE: usize = 16 << 20;

/// Reads all of a file to the start of a buffer, whose other bytes mean nothing, and tells its
/// length; `None` if its first bytes are no picture's and it need not be one: other files may be of
/// any size.
fn read(file: &Path, must_be_one: bool, buffer: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    const MOST: usize = decode::MAX_FILE_BYTES as usize;
    buffer.truncate(LARGE);
    buffer.shrink_to(LARGE);
    let mut file = std::fs::File::open(file)?;
    let said = file.metadata()?.len();
    let mut length = 0;
    if !must_be_one {
        length = fill(&mut file, buffer, 0..START)?;
        if decode::sniff(&buffer[..length]) == Kind::Other {
            return Ok(None);
        }
        if length < START {
            return Ok(Some(length));
        }
    }
    let too_large = || std::io::Error::other("it is larger than 512 MiB");
    if said > MOST as u64 {
        return Err(too_large());
    }
    // With room for one byte more than there should be, to see the end.
    let mut wanted = (said as usize + 1).max(length + 1);
    loop {
        length = fill(&mut file, buffer, length..wanted)?;
        match length {
            _ if length < wanted => return Ok(Some(length)),
            _ if length > MOST => return Err(too_large()),
            // It has grown since.
            _ => wanted = (2 * wanted).min(MOST + 1),
        }
    }
}

/// Reads to a part of a buffer until that is full or the file ends; where it came to.
fn fill(
    file: &mut std::fs::File,
    buffer: &mut Vec<u8>,
    part: Range<usize>,
) -> std::io::Result<usize> {
    if buffer.len() < part.end {
        buffer.resize(part.end, 0);
    }
    let mut at = part.start;
    while at < part.end {
        match file.read(&mut buffer[at..part.end]) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
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
