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
mod labels;
mod listing;
mod manifest;
mod notes;
mod parquet;
pub mod preprocess;
mod presets;
mod scan;
pub mod sheet;
mod sources;
pub mod split;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use augment::Augment;
pub use batches::{Batch, Loader, PictureCache};
pub use error::DataError;
pub use framing::Framing;
pub use kept::{Keep, ScanOptions};
pub use preprocess::Preprocess;
pub use sources::Origin;

use crate::config::{
    ClassFrom, DataConfig, GenerateConfig, GenerateKind, ImageSize, OnCorrupt, SplitBy,
};
use crate::fetch::Download;
use crate::fsx;
use crate::records::{DataIssueRow, Split, SplitRow};
use kept::Kept;
use listing::issue;
use scan::{Found, Scan};
use sources::{Place, check_folder};

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
        let located = sources::locate(config, &mut |_| ())?;
        if let (Some(generate), Place::Generated) = (&config.generate, &located.place) {
            let scan = Self::draw(config, generate, seed)?;
            return Self::finish(scan, located.origin, config, seed);
        }
        if let (true, Some(manifest)) = (config.create_manifest, &config.manifest)
            && !manifest.exists()
        {
            Self::create_manifest(manifest, config, seed, options)?;
        }
        let (root, listing) = list(&located.place, config)?;
        let mut scan = scan::scan(listing, config.on_corrupt, options)?;
        check_classes(&mut scan, &root, 2)?;
        duplicates::resolve(&mut scan, config.on_corrupt)?;
        check_classes(&mut scan, &root, 2)?;
        Self::finish(scan, located.origin, config, seed)
    }

    /// Brings the pictures of a configuration to this disk, if they are not there; `progress` hears
    /// of a download. [`Self::open`] does the same unheard.
    pub fn fetch(
        config: &DataConfig,
        progress: &mut dyn FnMut(Download),
    ) -> Result<Origin, DataError> {
        Ok(sources::locate(config, progress)?.origin)
    }

    /// Whether [`Self::fetch`] may download something.
    pub fn is_remote(config: &DataConfig) -> bool {
        sources::is_remote(config)
    }

    /// Writes the manifest of the class folders, unless another process has done so meanwhile.
    fn create_manifest(
        manifest: &Path,
        config: &DataConfig,
        seed: u64,
        options: &ScanOptions,
    ) -> Result<(), DataError> {
        let mut folders = DataConfig {
            manifest: None,
            create_manifest: false,
            labels: None,
            max_per_class: None,
            ..config.clone()
        };
        if matches!(folders.split.by, SplitBy::Column | SplitBy::Given) {
            folders.split.by = SplitBy::Ratio;
        }
        let options = ScanOptions {
            keep: None,
            ..options.clone()
        };
        let dataset = Self::open_with(&folders, seed, &options)?;
        let text = manifest::render(&dataset.split_rows())?;
        let parent = manifest.parent().unwrap_or(Path::new(""));
        let made = std::fs::create_dir_all(parent).map_err(fsx::FsError::at("create", parent));
        made.and_then(|()| fsx::create_atomic(manifest, &text))
            .map_err(|error| DataError::Fetch(error.into()))?;
        Ok(())
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
        let mut scan = scan::scan(listing, on_corrupt, &ScanOptions::default())?;
        check_classes(&mut scan, root, 1)?;
        if let Some(class) = scan.classes.iter().find(|class| !classes.contains(class)) {
            return Err(DataError::UnknownClass {
                class: class.clone(),
                root: root.to_owned(),
                known: shown(classes),
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
        dataset.seal();
        Ok(dataset)
    }

    fn draw(config: &DataConfig, generate: &GenerateConfig, seed: u64) -> Result<Scan, DataError> {
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
            SplitBy::Given => {
                return Err(DataError::SplitSource {
                    by: "given",
                    needs: "pictures that come with a split",
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
        Ok(scan)
    }

    /// From pictures with their classes by name to labels and splits.
    fn finish(
        mut scan: Scan,
        origin: Origin,
        config: &DataConfig,
        seed: u64,
    ) -> Result<Self, DataError> {
        if let Some(path) = &config.labels {
            scan.classes = labels::order(path, labels::read(path)?, &scan.classes)?;
        }
        let mut dataset = Self::assemble(scan, seed);
        dataset.origin = origin;
        if let Some(most) = config.max_per_class {
            dataset.keep_at_most(most);
        }
        dataset.assign(config, seed)?;
        dataset.seal();
        Ok(dataset)
    }

    /// Leaves out all but so many pictures of each class.
    fn keep_at_most(&mut self, most: usize) {
        let pictures: Vec<_> = self
            .items
            .iter()
            .map(|item| (item.label, item.hash, item.path.as_str()))
            .collect();
        let mut stays = split::at_most(&pictures, most, self.seed).into_iter();
        let before = self.items.len();
        self.items.retain(|_| stays.next().unwrap_or(true));
        self.left_out = before - self.items.len();
        if let Some(kept) = &self.kept {
            kept.retain(&self.items.iter().map(|item| item.hash).collect());
        }
    }

    fn assemble(scan: Scan, seed: u64) -> Self {
        let classes = scan.classes.iter().cloned().zip(0..);
        let labels: BTreeMap<String, usize> = classes.collect();
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
            origin: Origin::default(),
            left_out: 0,
            seed,
            kept: scan.kept,
        }
    }

    /// Splits, unless the split came with the data, and checks that every split can do its work.
    fn assign(&mut self, config: &DataConfig, seed: u64) -> Result<(), DataError> {
        let by = config.split.by;
        let shares = [config.split.train, config.split.val, config.split.test];
        match by {
            SplitBy::Folders | SplitBy::Column | SplitBy::Given => {}
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
        // A class that only a label file names has no pictures at all.
        let untrained = |counts: &[usize; 3]| counts[0] == 0 && counts != &[0; 3];
        if let Some(class) = counts.iter().position(untrained) {
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

    fn seal(&mut self) {
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
        };
        self.items.iter().map(row).collect()
    }

    /// The item as the scan left it for this preprocessing; once only.
    fn take_kept(&self, item: usize, preprocess: &Preprocess) -> Option<Vec<u8>> {
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
                let bytes = std::fs::read(file).map_err(|error| match error.kind() {
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

/// Decodes a picture. A defect of a decoder on one hostile file must cost that file alone, not the
/// scan, the run or the other pictures.
fn decode_guarded(bytes: &[u8]) -> Result<image::RgbImage, decode::Flaw> {
    catch_unwind(AssertUnwindSafe(|| decode::decode(bytes)))
        .unwrap_or_else(|_| Err(decode::Flaw::Broken("the decoder failed".into())))
}

/// Lists what a place holds. The path is for messages.
fn list(place: &Place, config: &DataConfig) -> Result<(PathBuf, listing::Listing), DataError> {
    let by = config.split.by;
    match place {
        Place::Generated => Err(DataError::NoSource),
        Place::Folders(root) => {
            let listing = match by {
                SplitBy::Folders | SplitBy::Given => folders::list_split(root, config.class_from)?,
                SplitBy::Column => {
                    return Err(DataError::SplitSource {
                        by: "column",
                        needs: "`data.manifest`",
                    });
                }
                SplitBy::Ratio | SplitBy::Hash => folders::list(root, config.class_from)?,
            };
            Ok((root.clone(), listing))
        }
        Place::Manifest {
            file,
            root,
            unpacked,
        } => {
            if by == SplitBy::Folders {
                let needs = "folders below `data.root`, not a manifest";
                return Err(DataError::SplitSource {
                    by: "folders",
                    needs,
                });
            }
            let reading = manifest::Reading {
                with_split: matches!(by, SplitBy::Column | SplitBy::Given),
                allow_outside: config.allow_outside,
            };
            let listed = manifest::list(file, root, reading);
            let mut listing = listed.map_err(|error| match error {
                DataError::SplitSource { .. } if *unpacked => DataError::SplitSource {
                    by: "given",
                    needs: "files named `train-...`, `validation-...` or `test-...`",
                },
                DataError::SplitSource { needs, .. } if by == SplitBy::Given => {
                    DataError::SplitSource { by: "given", needs }
                }
                error => error,
            })?;
            if *unpacked {
                listing.issues.extend(parquet::skipped(file));
            }
            Ok((file.clone(), listing))
        }
    }
}

/// The first names of a list, for messages.
pub fn shown(names: &[String]) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "none".into();
    }
    let first = &names[..names.len().min(SHOWN)];
    let more = match names.len() - first.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("`{}`{more}", first.join("`, `"))
}

/// Every class has pictures, and there are enough classes. Two that differ in case only are noted:
/// some file systems cannot tell them apart, and few people mean two.
fn check_classes(scan: &mut Scan, path: &Path, least: usize) -> Result<(), DataError> {
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
    let mut notes = Vec::new();
    for class in &scan.classes {
        if let Some(first) = folded.insert(class.to_lowercase(), class) {
            let reason = format!("class `{class}` differs from `{first}` in case only");
            notes.push(issue(class.clone(), "similar_class", reason));
        }
    }
    notes.retain(|note| !scan.issues.contains(note));
    scan.issues.append(&mut notes);
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
