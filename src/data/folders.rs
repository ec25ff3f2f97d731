//! Class folders: walks a root and tells each file's class, and its split where folders give it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::DataError;
use super::listing::{Listed, Listing, issue};
use crate::config::ClassFrom;
use crate::records::Split;

/// Why a file right under the root is passed over.
pub(super) const NO_CLASS_FOLDER: &str = "lies in no class folder";

/// Files and folders under a root, by their path relative to it with `/` between the parts.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Files, sorted.
    pub(super) files: Vec<(String, PathBuf)>,
    /// Folders with whether they hold folders themselves, sorted.
    folders: Vec<(String, bool)>,
    /// What was passed over.
    pub(super) listing: Listing,
}

impl Tree {
    /// Walks everything below `root`, following links but not round in circles.
    pub(super) fn walk(root: &Path) -> Result<Self, DataError> {
        let mut tree = Self::default();
        let mut above = vec![canonical(root)?];
        tree.enter(root, "", &mut above)?;
        tree.files.sort();
        tree.folders.sort();
        Ok(tree)
    }

    /// Reads one folder; true if it holds folders. `above` has the real paths from the root here.
    fn enter(
        &mut self,
        folder: &Path,
        relative: &str,
        above: &mut Vec<PathBuf>,
    ) -> Result<bool, DataError> {
        let unreadable = |source| DataError::Unreadable {
            path: folder.to_owned(),
            source,
        };
        let mut holds_folders = false;
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let lossy = name.to_string_lossy();
            if lossy.starts_with('.') {
                continue;
            }
            let below = match relative {
                "" => lossy.to_string(),
                _ => format!("{relative}/{lossy}"),
            };
            if name.to_str().is_none() {
                let reason = "its name is not UTF-8; rename it";
                self.listing.refused.push(issue(below, "bad_name", reason));
                continue;
            }
            let path = entry.path();
            match std::fs::metadata(&path) {
                Err(error) => {
                    let reason = format!("cannot be read: {error}");
                    self.listing.refused.push(issue(below, "corrupt", reason));
                }
                Ok(kind) if kind.is_dir() => {
                    if lossy == "__MACOSX" {
                        let reason = "left behind by an archive";
                        self.listing.issues.push(issue(below, "ignored", reason));
                        continue;
                    }
                    let real = canonical(&path)?;
                    let circle = above.iter().any(|folder| folder.starts_with(&real));
                    if circle {
                        let reason = "links to a folder that holds it";
                        self.listing.issues.push(issue(below, "ignored", reason));
                        continue;
                    }
                    holds_folders = true;
                    above.push(real);
                    let deeper = self.enter(&path, &below, above)?;
                    above.pop();
                    self.folders.push((below, deeper));
                }
                Ok(kind) if kind.is_file() => self.files.push((below, path)),
                Ok(_) => {
                    let reason = "neither a file nor a folder";
                    self.listing.issues.push(issue(below, "ignored", reason));
                }
            }
        }
        Ok(holds_folders)
    }
}

fn canonical(path: &Path) -> Result<PathBuf, DataError> {
    path.canonicalize().map_err(|source| DataError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// Lists `root/CLASS/.../picture`.
pub(super) fn list(root: &Path, class_from: ClassFrom) -> Result<Listing, DataError> {
    let mut tree = Tree::walk(root)?;
    let mut listing = std::mem::take(&mut tree.listing);
    take_classes(&tree, "", None, class_from, &mut listing);
    listing.finish();
    Ok(listing)
}

/// Lists `root/SPLIT/CLASS/.../picture`.
pub(super) fn list_split(root: &Path, class_from: ClassFrom) -> Result<Listing, DataError> {
    let mut tree = Tree::walk(root)?;
    let mut listing = std::mem::take(&mut tree.listing);
    let mut taken: Vec<(Split, String)> = Vec::new();
    for (folder, _) in tree.folders.iter().filter(|(path, _)| !path.contains('/')) {
        match split_folder(folder) {
            None => {
                let reason = "no folder of a split (`train`, `val`, `test`)";
                listing
                    .issues
                    .push(issue(folder.clone(), "ignored", reason));
            }
            Some(split) => {
                if let Some((_, first)) = taken.iter().find(|(other, _)| *other == split) {
                    return Err(DataError::TwoSplitFolders {
                        root: root.to_owned(),
                        split,
                        first: first.clone(),
                        second: folder.clone(),
                    });
                }
                taken.push((split, folder.clone()));
            }
        }
    }
    if !taken.iter().any(|(split, _)| *split == Split::Train) {
        return Err(DataError::NoTrainFolder {
            root: root.to_owned(),
        });
    }
    for (path, _) in tree.files.iter().filter(|(path, _)| !path.contains('/')) {
        let reason = "lies in no folder of a split";
        listing.issues.push(issue(path.clone(), "ignored", reason));
    }
    for (split, folder) in taken {
        let prefix = format!("{folder}/");
        take_classes(&tree, &prefix, Some(split), class_from, &mut listing);
    }
    listing.finish();
    Ok(listing)
}

/// The split that a folder of this name stands for.
pub(super) fn split_folder(name: &str) -> Option<Split> {
    match name.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "val" | "valid" | "validation" => Some(Split::Val),
        "test" | "testing" => Some(Split::Test),
        _ => None,
    }
}

/// Adds the files and the classes below `prefix` (empty, or ending in `/`).
fn take_classes(
    tree: &Tree,
    prefix: &str,
    given: Option<Split>,
    class_from: ClassFrom,
    listing: &mut Listing,
) {
    let mut classes = BTreeSet::new();
    for (folder, holds_folders) in &tree.folders {
        let Some(below) = folder.strip_prefix(prefix) else {
            continue;
        };
        let is_class = match class_from {
            ClassFrom::First => !below.contains('/'),
            ClassFrom::Leaf => !holds_folders,
        };
        if is_class {
            classes.insert(below.rsplit('/').next().unwrap_or(below).to_owned());
        }
    }
    for (path, file) in &tree.files {
        let Some(below) = path.strip_prefix(prefix) else {
            continue;
        };
        let parts: Vec<&str> = below.split('/').collect();
        let class = match (class_from, parts.as_slice()) {
            (_, [] | [_]) => {
                let row = issue(path.clone(), "ignored", NO_CLASS_FOLDER);
                listing.issues.push(row);
                continue;
            }
            (ClassFrom::First, [class, ..]) | (ClassFrom::Leaf, [.., class, _]) => *class,
        };
        listing.pictures.push(Listed {
            path: path.clone(),
            file: file.clone(),
            class: class.to_owned(),
            given,
            named: false,
        });
    }
    listing.classes.extend(classes);
}
