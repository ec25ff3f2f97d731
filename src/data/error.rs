//! What can be wrong with data: each message says what, where and, in [`DataError::help`], what to
//! do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::fetch::FetchError;
use crate::records::{DataIssueRow, Split};

/// Data that cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// No source of pictures at all.
    #[error("`[data]` names no pictures")]
    NoSource,
    /// A folder or file that the configuration names is not there.
    #[error("the data {what} `{}` does not exist", .path.display())]
    Missing {
        /// The key: `root`, `manifest`, `labels` or `parquet`.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
    },
    /// A file where a folder is due, or the other way round.
    #[error("the data {what} `{}` is not a {expected}", .path.display())]
    WrongKind {
        /// `root` or `manifest`.
        what: &'static str,
        /// Which one.
        path: PathBuf,
        /// `folder` or `file`.
        expected: &'static str,
    },
    /// The operating system refused.
    #[error("cannot read `{}`: {source}", .path.display())]
    Unreadable {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be brought here.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A folder that is not in the archive.
    #[error("the archive holds no folder `{inside}`; it holds {there}")]
    NotInside {
        /// `data.inside`.
        inside: String,
        /// What there is instead.
        there: String,
    },
    /// A Parquet file that cannot be used.
    #[error("`{}` cannot be used: {reason}", .path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No Parquet files where there should be some.
    #[error("`{place}` holds {there}")]
    NoTables {
        /// A folder, or a data set of the hub.
        place: String,
        /// What there is instead.
        there: String,
    },
    /// Something about a line of a label file.
    #[error("`{}` line {line}: {what}", .path.display())]
    Labels {
        /// The label file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A class that stands twice in a label file.
    #[error("class `{class}` stands twice in `{}`", .path.display())]
    AmbiguousLabel {
        /// The label file.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// A class name that a manifest cannot hold.
    #[error("the class folder `{class}` begins or ends with a blank")]
    BlankClass {
        /// Its name.
        class: String,
    },
    /// No pictures at all.
    #[error("`{}` holds no pictures", .path.display())]
    Empty {
        /// Root or manifest.
        path: PathBuf,
    },
    /// Pictures, but in no class folder.
    #[error("`{}` holds no class folders, only {count} files", .root.display())]
    NoClassFolders {
        /// The root.
        root: PathBuf,
        /// Files right under it.
        count: usize,
    },
    /// Folders of splits taken for classes.
    #[error("the classes of `{}` would be `{classes}`, which look like splits", .root.display())]
    SplitsAsClasses {
        /// The root.
        root: PathBuf,
        /// Their names.
        classes: String,
    },
    /// A single class.
    #[error("`{}` holds one class only, `{class}`", .path.display())]
    OneClass {
        /// Root or manifest.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// A class folder without pictures.
    #[error("class `{class}` has no pictures in `{}`", .root.display())]
    EmptyClass {
        /// The class.
        class: String,
        /// The root.
        root: PathBuf,
    },
    /// Skipping broken pictures left a class empty.
    #[error("class `{class}` has no usable pictures left ({skipped} skipped over all classes)")]
    AllSkipped {
        /// The class.
        class: String,
        /// Pictures dropped, over all classes.
        skipped: usize,
    },
    /// Pictures that cannot be used, under `on_corrupt = "error"`.
    #[error("{count} of {total} pictures cannot be used\n{list}")]
    Broken {
        /// How many.
        count: usize,
        /// Out of how many.
        total: usize,
        /// The first ten, one a line.
        list: String,
        /// Whether xp brought the pictures, and would bring them again.
        fetched: bool,
    },
    /// The same bytes under two classes, under `on_corrupt = "error"`.
    #[error("{count} pictures stand under two classes with the same bytes\n{list}")]
    Conflicting {
        /// How many files.
        count: usize,
        /// The first ten, one a line.
        list: String,
        /// Whether xp brought the pictures, and would bring them again.
        fetched: bool,
    },
    /// Something about a line of the manifest.
    #[error("`{}` line {line}: {what}", .manifest.display())]
    Manifest {
        /// The CSV file.
        manifest: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong.
        what: String,
        /// What to do.
        help: String,
    },
    /// `split.by` asks for something that the source does not have.
    #[error("`split.by = \"{by}\"` needs {needs}")]
    SplitSource {
        /// The value.
        by: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// `split.by = "folders"` without training pictures.
    #[error("`{}` has no folder `train`", .root.display())]
    NoTrainFolder {
        /// The root.
        root: PathBuf,
    },
    /// Two folders for one split.
    #[error("`{}` has two folders for the {} split, `{first}` and `{second}`", .root.display(), .split.name())]
    TwoSplitFolders {
        /// The root.
        root: PathBuf,
        /// The split.
        split: Split,
        /// One folder.
        first: String,
        /// The other.
        second: String,
    },
    /// Fewer distinct pictures in a class than splits to fill.
    #[error("class `{class}` has too few pictures: {have} distinct, for {need} splits")]
    TooFew {
        /// The class.
        class: String,
        /// Distinct pictures.
        have: usize,
        /// Splits with a share greater than 0.
        need: usize,
    },
    /// A class that training would never see.
    #[error("class `{class}` has no training pictures")]
    NoTraining {
        /// The class.
        class: String,
    },
    /// A split that was asked for and got nothing.
    #[error("the {} split got no pictures", .split.name())]
    EmptySplit {
        /// The split.
        split: Split,
    },
    /// A class that the model does not know.
    #[error("class `{class}` of `{}` is none of the model's", .root.display())]
    UnknownClass {
        /// The class.
        class: String,
        /// Where it was found.
        root: PathBuf,
        /// The model's classes, listed.
        known: String,
    },
    /// A crop larger than the picture it is taken from.
    #[error("cannot crop {}x{} out of {}x{} (height x width)", .size[0], .size[1], .resize[0], .resize[1])]
    Crop {
        /// `data.image_size`.
        size: [u32; 2],
        /// What pictures are resized to.
        resize: [u32; 2],
    },
    /// One picture that cannot be decoded.
    #[error("picture `{path}` cannot be used: {reason}")]
    Picture {
        /// Which one.
        path: String,
        /// Why.
        reason: String,
    },
    /// A picture that was there when the scan looked.
    #[error("picture `{path}` is gone since it was scanned")]
    Gone {
        /// Which one.
        path: String,
    },
    /// A picture with other bytes than the scan saw.
    #[error("picture `{path}` changed since it was scanned")]
    Changed {
        /// Which one.
        path: String,
    },
    /// A picture could not be drawn or written.
    #[error("cannot draw the contact sheet: {0}")]
    Sheet(String),
    /// A decoding thread ended early.
    #[error("a thread that decodes pictures stopped unexpectedly")]
    Stopped,
}

impl DataError {
    /// The same of pictures that xp brought from elsewhere: what is mended there comes back broken.
    pub(super) fn of_fetched(mut self) -> Self {
        if let Self::Broken { fetched, .. } | Self::Conflicting { fetched, .. } = &mut self {
            *fetched = true;
        }
        self
    }

    /// What to do.
    pub fn help(&self) -> String {
        match self {
            Self::NoSource => "set `data.root`, `data.manifest` or another source of pictures".into(),
            Self::Fetch(error) => error
                .help("`data.root` to the folder of class folders")
                .unwrap_or_else(|| "look at that folder, or set `data.download_dir`".into()),
            Self::NotInside { .. } => {
                "correct `data.inside`, or leave it out to take the only folder there is".into()
            }
            Self::Parquet { .. } => {
                "give files of pictures and labels; `data.columns = { image = \"...\", label = \"...\" }` names their columns".into()
            }
            Self::NoTables { .. } => "give a data set with its pictures in Parquet files; of many \
                 others, the hub has such files as `revision = \"refs/convert/parquet\"`"
                .into(),
            Self::Labels { .. } => {
                "write one class a line, or its index from 0, a comma and the class".into()
            }
            Self::AmbiguousLabel { .. } => "rename it in the data or in the label file".into(),
            Self::BlankClass { .. } => "rename the folder".into(),
            Self::Missing { what, .. } => {
                format!("correct `data.{what}`; relative paths start at the file that names them")
            }
            Self::WrongKind { what, .. } => {
                format!("`data.root` is a folder of class folders, `data.manifest` a CSV file; correct `data.{what}`")
            }
            Self::Unreadable { .. } => "check the path and its permissions".into(),
            Self::Empty { .. } => {
                "put JPEG, PNG, WebP, BMP or GIF pictures into one folder a class, or list them in a manifest".into()
            }
            Self::NoClassFolders { .. } => {
                "move the pictures into one folder a class, or list them in a manifest".into()
            }
            Self::SplitsAsClasses { .. } => "set `data.split = { by = \"folders\" }`, \
                 or `data.class_from = \"leaf\"` to split anew"
                .into(),
            Self::OneClass { .. } => "give at least two classes, one folder each; \
                 `data.class_from = \"leaf\"` takes the innermost folder as the class"
                .into(),
            Self::EmptyClass { .. } => "add pictures to the folder, or remove it".into(),
            Self::AllSkipped { .. } => {
                "replace the pictures that `on_corrupt = \"skip\"` dropped, or remove the class".into()
            }
            Self::Broken { fetched: true, .. } | Self::Conflicting { fetched: true, .. } => {
                "set `data.on_corrupt = \"skip\"` to go on without them, or copy the pictures, mend the copy \
                 and set `data.root` to it"
                    .into()
            }
            Self::Broken { .. } => {
                "repair or remove them, or set `data.on_corrupt = \"skip\"` to go on without them"
                    .into()
            }
            Self::Conflicting { .. } => "keep each picture under one class, or set \
                 `data.on_corrupt = \"skip\"` to drop all copies"
                .into(),
            Self::Manifest { help, .. } => help.clone(),
            Self::SplitSource { by, .. } => match *by {
                "folders" => "set `data.root` alone, or split another way".into(),
                "given" => "choose a split by shares, such as `split = { train = 0.8, val = 0.1, test = 0.1 }`".into(),
                _ => "add a column headed `split`, or use `split = { train = 0.8, val = 0.1, test = 0.1 }`".into(),
            },
            Self::NoTrainFolder { .. } => {
                "`split.by = \"folders\"` expects `train`, and optionally `val` and `test`, under `data.root`".into()
            }
            Self::TwoSplitFolders { .. } => "keep one of them".into(),
            Self::TooFew { .. } => {
                "add pictures, remove the class, or set the share of a split to 0".into()
            }
            Self::NoTraining { .. } => "give it training pictures, or remove the class".into(),
            Self::EmptySplit { .. } => "add pictures, or set its share to 0".into(),
            Self::UnknownClass { known, .. } => format!("the model knows {known}"),
            Self::Crop { .. } => "make `data.resize` at least as large as `data.image_size`".into(),
            Self::Picture { .. } => "replace or remove it".into(),
            Self::Gone { .. } | Self::Changed { .. } => "leave the data alone during a run; start again".into(),
            Self::Sheet(_) => "check the folder that `--sheet` names".into(),
            Self::Stopped => "this is a defect of xp; please report the log".into(),
        }
    }
}

/// The first ten of some rows as an indented list.
pub(super) fn first_ten(rows: &[DataIssueRow]) -> String {
    let mut lines: Vec<String> = rows
        .iter()
        .take(10)
        .map(|row| format!("  {}: {}", row.path, row.reason))
        .collect();
    if rows.len() > lines.len() {
        lines.push(format!("  and {} more", rows.len() - lines.len()));
    }
    lines.join("\n")
}
