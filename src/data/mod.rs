//! Pictures to batches: scan, split, decode, augment. Plain bytes and floats, no tensors.

pub mod augment;
pub mod batches;
pub mod decode;
mod duplicates;
mod error;
mod folders;
pub mod framing;
pub mod generate;
mod kept;
mod listing;
mod manifest;
pub mod mix;
mod notes;
pub mod preprocess;
mod scan;
pub mod sheet;
pub mod split;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use augment::{Augment, Draw};
pub use batches::{Batch, Loader, PictureCache};
pub use error::DataError;
pub use framing::Framing;
pub use kept::{Keep, ScanOptions};
pub use preprocess::Preprocess;

use crate::config::{
    ClassFrom, DataConfig, GenerateConfig, GenerateKind, ImageSize, OnCorrupt, SplitBy,
};
use crate::records::{DataIssueRow, Split, SplitRow};
use kept::Kept;
use scan::{Found, Scan};

/// Side of generated pictures where neither `resize` nor `image_size` is given, in pixels.
const GENERATED_SIDE: u32 = 96;

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
    /// Class names in label order, which is byte order.
    pub classes: Vec<String>,
    /// Sorted by path.
    pub items: Vec<Item>,
    /// Everything skipped, dropped or worth knowing, sorted by path.
    pub issues: Vec<DataIssueRow>,
    /// blake3 over every path, content hash and label, in hex.
    pub data_fingerprint: String,
    /// The same with every split.
    pub split_fingerprint: String,
    /// The seed that generated pictures are drawn with.
    seed: u64,
    /// Pictures that the scan has left for their first use.
    kept: Option<Arc<Kept>>,
}

impl Dataset {
    /// Scans what `[data]` names and splits it. Reads and decodes every picture once.
    pub fn open(config: &DataConfig, seed: u64) -> Result<Self, DataError> {
        Self::open_with(config, seed, &ScanOptions::default())
    }

    /// [`Self::open`] with a scan that saves work.
    pub fn open_with(
        config: &DataConfig,
        seed: u64,
        options: &ScanOptions,
    ) -> Result<Self, DataError> {
        if let Some(generate) = &config.generate {
            return Self::generated(config, generate, seed);
        }
        let (root, listing) = Self::list(config)?;
        let mut scan = scan::scan(listing, config.on_corrupt, options)?;
        check_classes(&scan, &root, 2)?;
        duplicates::resolve(&mut scan, config.on_corrupt)?;
        check_classes(&scan, &root, 2)?;
        let mut dataset = Self::assemble(scan, seed);
        dataset.assign(config, seed)?;
        dataset.finish();
        Ok(dataset)
    }

    /// Pictures of a model's `classes` in class folders under `root`, all in the test split.
    /// A folder of a class that the model does not know is an error; a missing one is not.
    pub fn labelled(
        root: &Path,
        classes: &[String],
        on_corrupt: OnCorrupt,
    ) -> Result<Self, DataError> {
        check_folder("root", root)?;
        let listing = folders::list(root, ClassFrom::First)?;
        let scan = scan::scan(listing, on_corrupt, &ScanOptions::default())?;
        check_classes(&scan, root, 1)?;
        if let Some(class) = scan.classes.iter().find(|class| !classes.contains(class)) {
            return Err(DataError::UnknownClass {
                class: class.clone(),
                root: root.to_owned(),
                known: format!("`{}`", classes.join("`, `")),
            });
        }
        let scan = Scan {
            classes: classes.to_vec(),
            found: scan
                .found
                .into_iter()
                .map(|found| Found {
                    given: Some(Split::Test),
                    ..found
                })
                .collect(),
            ..scan
        };
        let mut dataset = Self::assemble(scan, 0);
        dataset.finish();
        Ok(dataset)
    }

    fn list(config: &DataConfig) -> Result<(PathBuf, listing::Listing), DataError> {
        let by = config.split.by;
        if let Some(root) = &config.root {
            check_folder("root", root)?;
        }
        let Some(manifest) = &config.manifest else {
            let root = config.root.clone().ok_or(DataError::NoSource)?;
            let listing = match by {
                SplitBy::Folders => folders::list_split(&root, config.class_from)?,
                SplitBy::Column => {
                    return Err(DataError::SplitSource {
                        by: "column",
                        needs: "`data.manifest`",
                    });
                }
                SplitBy::Ratio | SplitBy::Hash => folders::list(&root, config.class_from)?,
            };
            return Ok((root, listing));
        };
        if !manifest.exists() {
            return Err(DataError::Missing {
                what: "manifest",
                path: manifest.clone(),
            });
        }
        if !manifest.is_file() {
            return Err(DataError::WrongKind {
                what: "manifest",
                path: manifest.clone(),
                expected: "file",
            });
        }
        if by == SplitBy::Folders {
            let needs = "folders below `data.root`, not a manifest";
            return Err(DataError::SplitSource {
                by: "folders",
                needs,
            });
        }
        let root = config
            .root
            .clone()
            .or_else(|| manifest.parent().map(Path::to_owned));
        let root = root.unwrap_or_default();
        let listing = manifest::list(manifest, &root, by == SplitBy::Column)?;
        Ok((manifest.clone(), listing))
    }

    fn generated(
        config: &DataConfig,
        generate: &GenerateConfig,
        seed: u64,
    ) -> Result<Self, DataError> {
        match config.split.by {
            SplitBy::Ratio | SplitBy::Hash => {}
            SplitBy::Folders => {
                return Err(DataError::SplitSource {
                    by: "folders",
                    needs: "`data.root`",
                });
            }
            SplitBy::Column => {
                return Err(DataError::SplitSource {
                    by: "column",
                    needs: "`data.manifest`",
                });
            }
        }
        let size = config
            .resize
            .or(config.image_size)
            .map(ImageSize::height_width);
        let side = size.map_or(GENERATED_SIDE, |[height, width]| height.max(width));
        let kind = generate.kind;
        let family = match kind {
            GenerateKind::Patterns => "patterns",
            GenerateKind::Shapes => "shapes",
        };
        let mut scan = Scan::default();
        for (class, name) in generate::classes(kind).iter().enumerate() {
            scan.classes.push((*name).to_owned());
            for index in 0..generate.per_class as u64 {
                let path = format!("{family}/{name}/{index:05}");
                let identity = format!("{path} seed {seed} side {side}");
                scan.found.push(Found {
                    item: Item {
                        hash: *blake3::hash(identity.as_bytes()).as_bytes(),
                        path,
                        source: Source::Generated { kind, class, index },
                        label: 0,
                        split: Split::Train,
                        width: side,
                        height: side,
                    },
                    class: (*name).to_owned(),
                    given: None,
                });
            }
        }
        scan.classes.sort();
        let mut dataset = Self::assemble(scan, seed);
        dataset.assign(config, seed)?;
        dataset.finish();
        Ok(dataset)
    }

    fn assemble(scan: Scan, seed: u64) -> Self {
        let labels: BTreeMap<String, usize> = scan
            .classes
            .iter()
            .cloned()
            .enumerate()
            .map(|(label, class)| (class, label))
            .collect();
        let items = scan.found.into_iter().map(|found| Item {
            label: labels.get(&found.class).copied().unwrap_or_default(),
            split: found.given.unwrap_or(Split::Train),
            ..found.item
        });
        Self {
            items: items.collect(),
            classes: scan.classes,
            issues: scan.issues,
            data_fingerprint: String::new(),
            split_fingerprint: String::new(),
            seed,
            kept: scan.kept,
        }
    }

    /// Splits, unless the split came with the data, and checks that every split can do its work.
    fn assign(&mut self, config: &DataConfig, seed: u64) -> Result<(), DataError> {
        let by = config.split.by;
        let shares = [config.split.train, config.split.val, config.split.test];
        match by {
            SplitBy::Folders | SplitBy::Column => {}
            SplitBy::Hash => {
                for item in &mut self.items {
                    item.split = split::by_hash(&item.hash, shares, seed);
                }
            }
            SplitBy::Ratio => {
                let pictures: Vec<_> = self
                    .items
                    .iter()
                    .map(|item| (item.label, item.hash))
                    .collect();
                let splits =
                    split::by_ratio(&pictures, shares, seed).map_err(|few| DataError::TooFew {
                        class: self.classes[few.class].clone(),
                        have: few.have,
                        need: few.need,
                    })?;
                for (item, split) in self.items.iter_mut().zip(splits) {
                    item.split = split;
                }
            }
        }
        let counts = self.counts();
        if let Some(class) = counts.iter().position(|counts| counts[0] == 0) {
            let class = self.classes[class].clone();
            return Err(DataError::NoTraining { class });
        }
        if matches!(by, SplitBy::Hash | SplitBy::Ratio) {
            for (index, split) in Split::ALL.into_iter().enumerate() {
                if shares[index] > 0.0 && counts.iter().all(|counts| counts[index] == 0) {
                    return Err(DataError::EmptySplit { split });
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.items.sort_by(|a, b| a.path.cmp(&b.path));
        self.issues
            .sort_by(|a, b| (&a.path, &a.kind).cmp(&(&b.path, &b.kind)));
        let mut data = blake3::Hasher::new();
        for item in &self.items {
            // Lengths keep one path's end from being another's beginning.
            data.update(&(item.path.len() as u64).to_le_bytes());
            data.update(item.path.as_bytes());
            data.update(&item.hash);
            data.update(&(item.label as u64).to_le_bytes());
        }
        self.data_fingerprint = data.finalize().to_hex().to_string();
        for item in &self.items {
            data.update(item.split.name().as_bytes());
        }
        self.split_fingerprint = data.finalize().to_hex().to_string();
    }

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

    /// The rows of `split.csv`.
    pub fn split_rows(&self) -> Vec<SplitRow> {
        let row = |item: &Item| SplitRow {
            path: item.path.clone(),
            class: self.classes[item.label].clone(),
            label: item.label,
            split: item.split,
        };
        self.items.iter().map(row).collect()
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
                let bytes = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
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

/// Decodes a picture. A defect of a decoder on one hostile file must cost that file alone, not the
/// scan, the run or the other pictures.
fn decode_guarded(bytes: &[u8]) -> Result<image::RgbImage, decode::Flaw> {
    catch_unwind(AssertUnwindSafe(|| decode::decode(bytes)))
        .unwrap_or_else(|_| Err(decode::Flaw::Broken("the decoder failed".into())))
}

/// Every class has pictures, there are enough classes, and no two differ in case only.
fn check_classes(scan: &Scan, path: &Path, least: usize) -> Result<(), DataError> {
    let looks_like_split = |class: &String| folders::split_folder(class).is_some();
    if path.is_dir() && !scan.classes.is_empty() && scan.classes.iter().all(looks_like_split) {
        return Err(DataError::SplitsAsClasses {
            root: path.to_owned(),
            classes: scan.classes.join("`, `"),
        });
    }
    let loose = scan
        .issues
        .iter()
        .filter(|row| row.reason == folders::NO_CLASS_FOLDER)
        .count();
    if scan.classes.is_empty() && loose > 0 {
        return Err(DataError::NoClassFolders {
            root: path.to_owned(),
            count: loose,
        });
    }
    if scan.found.is_empty() && !scan.issues.iter().any(was_dropped) {
        return Err(DataError::Empty {
            path: path.to_owned(),
        });
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for found in &scan.found {
        *counts.entry(&found.class).or_default() += 1;
    }
    if let Some(class) = scan
        .classes
        .iter()
        .find(|class| !counts.contains_key(class.as_str()))
    {
        let skipped = scan.issues.iter().filter(|row| was_dropped(row)).count();
        let class = class.clone();
        return Err(match skipped {
            0 => DataError::EmptyClass {
                class,
                root: path.to_owned(),
            },
            _ => DataError::AllSkipped { class, skipped },
        });
    }
    let mut folded: BTreeMap<String, &String> = BTreeMap::new();
    for class in &scan.classes {
        if let Some(first) = folded.insert(class.to_lowercase(), class) {
            return Err(DataError::CaseClash {
                first: first.clone(),
                second: class.clone(),
            });
        }
    }
    match scan.classes.as_slice() {
        [class] if least > 1 => Err(DataError::OneClass {
            path: path.to_owned(),
            class: class.clone(),
        }),
        _ => Ok(()),
    }
}

fn was_dropped(row: &DataIssueRow) -> bool {
    ["corrupt", "bad_name", "missing", "conflicting_label"].contains(&row.kind.as_str())
}

fn check_folder(what: &'static str, path: &Path) -> Result<(), DataError> {
    let path = path.to_owned();
    if !path.exists() {
        return Err(DataError::Missing { what, path });
    }
    if !path.is_dir() {
        return Err(DataError::WrongKind {
            what,
            path,
            expected: "folder",
        });
    }
    Ok(())
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
    let bytes = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let picture = decode_guarded(&bytes).map_err(|flaw| unusable(flaw.to_string()))?;
    let mut values = vec![0.0; preprocess.values()];
    let seen = framing.frame(picture, preprocess);
    preprocess::Scale::new(preprocess).apply(&seen, &mut values);
    Ok(values)
}
