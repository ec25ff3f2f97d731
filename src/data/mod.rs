//! Pictures to batches: scan, split, decode, augment. Plain bytes and floats, no tensors.

mod archive;
pub mod arrivals;
pub mod augment;
pub mod batches;
mod classes;
pub mod decode;
mod duplicates;
mod error;
mod folders;
pub mod framing;
pub mod generate;
mod guarded;
mod kept;
mod labels;
mod listing;
mod manifest;
pub mod mix;
mod notes;
mod open;
mod parquet;
pub mod preprocess;
mod presets;
mod scan;
pub mod sheet;
mod sources;
pub mod split;
pub mod survey;
#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use arrivals::{Arrival, Arrivals, Fate};
pub use augment::{Augment, Draw};
pub use batches::{Batch, Loader, PictureCache};
pub use classes::shown;
pub use error::DataError;
pub use framing::Framing;
pub use kept::{Keep, ScanOptions};
pub use preprocess::Preprocess;
pub use sources::Origin;

use crate::config::GenerateKind;
use crate::records::{DataIssueRow, Split, SplitRow};
use guarded::guarded;
use kept::Kept;

/// Where the pixels of an item come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Drawn when needed.
    Generated {
        /// Family of procedural classes.
        kind: GenerateKind,
        /// Class within the family.
        class: usize,
        /// Which picture of the class.
        index: u64,
    },
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Relative to the data root with `/` between the parts, or the name of a generated picture.
    pub path: String,
    /// Where its pixels come from.
    pub source: Source,
    /// Index into the classes.
    pub label: usize,
    /// Which part of the data it belongs to.
    pub split: Split,
    /// blake3 of its bytes.
    pub hash: [u8; 32],
    /// Upright width in pixels.
    pub width: u32,
    /// Upright height in pixels.
    pub height: u32,
}

/// Labelled pictures, each in one split.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Class names in label order: those of `data.labels`, then the others in byte order.
    pub classes: Vec<String>,
    /// Sorted by path.
    pub items: Vec<Item>,
    /// Everything skipped, dropped or worth knowing, sorted by path.
    pub issues: Vec<DataIssueRow>,
    /// blake3 over every path, content hash and label, in hex.
    pub data_fingerprint: String,
    /// The same with every split.
    pub split_fingerprint: String,
    /// Where the pictures came from.
    pub origin: Origin,
    /// Pictures that `max_per_class` has left out.
    pub left_out: usize,
    /// The seed that generated pictures are drawn with.
    seed: u64,
    /// Pictures that the scan has left for their first use.
    kept: Option<Arc<Kept>>,
}

impl Dataset {
    /// Indices of the items of a split, ascending.
    pub fn split(&self, split: Split) -> Vec<usize> {
        let items = self.items.iter().enumerate();
        items
            .filter(|(_, item)| item.split == split)
            .map(|(index, _)| index)
            .collect()
    }

    /// Pictures of each class in train, val and test.
    pub fn counts(&self) -> Vec<[usize; 3]> {
        let mut counts = vec![[0; 3]; self.classes.len()];
        for item in &self.items {
            counts[item.label][item.split as usize] += 1;
        }
        counts
    }

    /// How many classes have pictures; others stand in `data.labels` only.
    pub fn classes_with_pictures(&self) -> usize {
        let counts = self.counts();
        counts.iter().filter(|counts| **counts != [0; 3]).count()
    }

    /// The rows of `split.csv`.
    pub fn split_rows(&self) -> Vec<SplitRow> {
        let row = |item: &Item| SplitRow {
            path: item.path.clone(),
            class: self.classes[item.label].clone(),
            label: item.label,
            split: item.split,
            blake3: blake3::Hash::from_bytes(item.hash).to_hex()[..16].to_owned(),
        };
        self.items.iter().map(row).collect()
    }

    /// Bytes of decoded pictures that wait for their first use.
    pub fn waiting(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.bytes())
    }

    /// The item as the scan left it for this preprocessing; once only.
    fn take_kept(&self, item: usize, preprocess: &Preprocess) -> Option<image::RgbImage> {
        self.kept.as_ref()?.take(&self.items[item].hash, preprocess)
    }

    /// Decodes or draws an item. Fails if its file is gone, broken, or not what the scan saw.
    pub fn picture(&self, item: usize) -> Result<image::RgbImage, DataError> {
        let item = &self.items[item];
        let unusable = |reason: String| DataError::Picture {
            path: item.path.clone(),
            reason,
        };
        match &item.source {
            Source::Generated { kind, class, index } => {
                Ok(generate::draw(*kind, *class, *index, self.seed, item.width))
            }
            Source::File(file) => {
                let bytes = scan::read_whole(file).map_err(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => DataError::Gone {
                        path: item.path.clone(),
                    },
                    _ => unusable(error.to_string()),
                })?;
                if blake3::hash(&bytes).as_bytes() != &item.hash {
                    return Err(DataError::Changed {
                        path: item.path.clone(),
                    });
                }
                decode_guarded(&bytes).map_err(|flaw| unusable(flaw.to_string()))
            }
        }
    }
}

/// [`decode::decode`], where a panic of a decoder is a flaw of the file.
pub fn decode_guarded(bytes: &[u8]) -> Result<image::RgbImage, decode::Flaw> {
    let failed = || Err(decode::Flaw::Broken("the decoder failed".into()));
    guarded(|| decode::decode(bytes)).unwrap_or_else(failed)
}

/// The pictures that `path` stands for: itself, or every picture below a folder, sorted. A file
/// that is a picture by its name alone counts: whoever opens it will say what is wrong with it.
pub fn folder(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut pictures = Vec::new();
    for (_, file) in folders::Tree::walk(path)?.files {
        if scan::named_like_a_picture(&file) {
            pictures.push(file);
            continue;
        }
        let mut start = Vec::with_capacity(64);
        let read = std::fs::File::open(&file).and_then(|file| {
            std::io::Read::read_to_end(&mut std::io::Read::take(file, 64), &mut start)
        });
        read.map_err(|source| DataError::Unreadable {
            path: file.clone(),
            source,
        })?;
        if decode::sniff(&start) != decode::Kind::Other {
            pictures.push(file);
        }
    }
    if pictures.is_empty() {
        return Err(DataError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(pictures)
}

/// One picture as the network sees it in evaluation: `[height, width, 3]`.
pub fn load_picture(
    path: &Path,
    preprocess: &Preprocess,
    framing: Framing,
) -> Result<Vec<f32>, DataError> {
    preprocess.check()?;
    let unusable = |reason: String| DataError::Picture {
        path: path.display().to_string(),
        reason,
    };
    let bytes = scan::read_whole(path).map_err(|error| unusable(error.to_string()))?;
    prepare(&bytes, preprocess, framing).map_err(|flaw| unusable(flaw.to_string()))
}

/// The bytes of a picture's file as the network sees it in evaluation: `[height, width, 3]`. The
/// preprocessing must have passed its [check](Preprocess::check).
///
/// # Errors
/// If they are no picture.
pub fn prepare(
    bytes: &[u8],
    preprocess: &Preprocess,
    framing: Framing,
) -> Result<Vec<f32>, decode::Flaw> {
    let picture = decode_guarded(bytes)?;
    let mut values = vec![0.0; preprocess.values()];
    let seen = framing.frame(picture, preprocess);
    preprocess::Scale::new(preprocess).apply(&seen, &mut values);
    Ok(values)
}

/// Width and height that a picture's file claims to have; `None` if it does not say.
pub fn claimed_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let read = || {
        let reader = image::ImageReader::new(std::io::Cursor::new(bytes));
        reader.with_guessed_format().ok()?.into_dimensions().ok()
    };
    guarded(read).flatten()
}
