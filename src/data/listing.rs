//! What a source of pictures claims to hold, before any of it is read.

use std::path::PathBuf;

use crate::records::{DataIssueRow, Split};

/// One file that should be a picture.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// Relative to the root, with `/` between the parts.
    pub(super) path: String,
    /// Where it lies.
    pub(super) file: PathBuf,
    /// Name of its class.
    pub(super) class: String,
    /// Its split, where the source gives one.
    pub(super) given: Option<Split>,
    /// Whether a manifest names it; then it has to be a picture.
    pub(super) named: bool,
}

/// All files of a source.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Candidates, sorted by path.
    pub(super) pictures: Vec<Listed>,
    /// Every class that the source names, with or without pictures, sorted.
    pub(super) classes: Vec<String>,
    /// Things passed over that need no decision.
    pub(super) issues: Vec<DataIssueRow>,
    /// Things that cannot be used; `on_corrupt` decides.
    pub(super) refused: Vec<DataIssueRow>,
}

impl Listing {
    /// Sorts everything, whatever order it was found in.
    pub(super) fn finish(&mut self) {
        self.pictures.sort_by(|a, b| a.path.cmp(&b.path));
        self.classes.sort();
        self.classes.dedup();
    }
}

/// A row of `data_issues.csv`.
pub(super) fn issue(path: String, kind: &str, reason: impl Into<String>) -> DataIssueRow {
    DataIssueRow {
        path,
        kind: kind.into(),
        reason: reason.into(),
    }
}
