//! From `[data]` to labelled pictures in splits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::classes::{check_classes, shown};
use super::kept::ScanOptions;
use super::listing::Listing;
use super::scan::{self, Found, Scan};
use super::sources::{self, Origin, Place, check_folder};
use super::{
    DataError, Dataset, Item, Source, duplicates, folders, generate, labels, manifest, parquet,
    split,
};
use crate::config::{
    ClassFrom, DataConfig, GenerateConfig, GenerateKind, ImageSize, OnCorrupt, SplitBy,
};
use crate::fetch::Download;
use crate::fsx;
use crate::records::Split;

/// Side of generated pictures where neither `resize` nor `image_size` is given, in pixels.
const GENERATED_SIDE: u32 = 96;

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
        if let Some(manifest) = to_create(config) {
            Self::create_manifest(manifest, config, seed, options)?;
        }
        let (root, listing) = list(&located.place, config)?;
        let remote = sources::is_remote(config) || config.parquet.is_some();
        let whose = |error: DataError| if remote { error.of_fetched() } else { error };
        let mut scan = scan::scan(listing, config.on_corrupt, options).map_err(whose)?;
        check_classes(&mut scan, &root, 2)?;
        duplicates::resolve(&mut scan, config.on_corrupt).map_err(whose)?;
        check_classes(&mut scan, &root, 2)?;
        Self::finish(scan, located.origin, config, seed)
    }

    /// [`Self::open_with`] without writing the manifest that the configuration wants created: if it
    /// is not there, the class folders are opened as they are.
    pub fn preview(
        config: &DataConfig,
        seed: u64,
        options: &ScanOptions,
    ) -> Result<Self, DataError> {
        if to_create(config).is_none() {
            return Self::open_with(config, seed, options);
        }
        let folders = DataConfig {
            labels: config.labels.clone(),
            max_per_class: config.max_per_class,
            ..unlisted(config)
        };
        Self::open_with(&folders, seed, options)
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
        let options = ScanOptions {
            keep: None,
            ..options.clone()
        };
        let dataset = Self::open_with(&unlisted(config), seed, &options)?;
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
}

/// The manifest that is wanted and not there yet.
fn to_create(config: &DataConfig) -> Option<&Path> {
    let manifest = config.manifest.as_deref()?;
    (config.create_manifest && !manifest.exists()).then_some(manifest)
}

/// The class folders whose manifest is to be created.
fn unlisted(config: &DataConfig) -> DataConfig {
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
    folders
}

/// Lists what a place holds. The path is for messages.
fn list(place: &Place, config: &DataConfig) -> Result<(PathBuf, Listing), DataError> {
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
                // A row without its picture is like a manifest's file that is not there.
                let (missing, others) = parquet::skipped(file)
                    .into_iter()
                    .partition::<Vec<_>, _>(|row| row.kind == "missing");
                listing.refused.extend(missing);
                listing.issues.extend(others);
            }
            Ok((file.clone(), listing))
        }
    }
}
