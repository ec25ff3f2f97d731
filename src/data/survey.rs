//! What a folder of pictures looks like, to whoever writes a configuration for it: class folders,
//! folders of splits or a manifest. Goes by names alone; [`super::Dataset`] reads the pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::DataError;
use super::folders::{Tree, split_folder};
use super::manifest::{self, Reading};
use super::scan::named_like_a_picture;
use crate::records::Split;

/// How pictures lie, and so what `[data]` has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A folder a class: `data.root`.
    ClassFolders {
        /// The folder that holds them; deeper than the one that was named, where all lies in one.
        root: PathBuf,
        /// How many classes `class_from = "leaf"` would make, where that may be meant.
        leaves: Option<usize>,
        /// A folder beside it with test pictures. There is none for validation, so these have to
        /// come out of the training pictures.
        test: Option<PathBuf>,
    },
    /// `train`, `val` and perhaps `test`, each with class folders: `split = { by = "folders" }`.
    SplitFolders {
        /// The folder that holds them.
        root: PathBuf,
    },
    /// A CSV file: `data.manifest`.
    Manifest {
        /// The file.
        path: PathBuf,
        /// Whether its split column says what trains and what validates.
        splits: bool,
    },
}

/// Looks at a folder, or at a CSV file.
pub fn survey(path: &Path) -> Result<Layout, DataError> {
    let wrong_kind = || DataError::WrongKind {
        what: "folder",
        path: path.to_owned(),
        expected: "folder",
    };
    if path.is_file() {
        let folder = path.parent().unwrap_or(Path::new(""));
        return match is_csv(path) {
            // A bare name has a folder, too.
            true if folder.as_os_str().is_empty() => survey(&Path::new(".").join(path)),
            true => listed(path, folder)?.ok_or_else(|| DataError::Empty {
                path: path.to_owned(),
            }),
            false => Err(wrong_kind()),
        };
    }
    if !path.exists() {
        return Err(DataError::Missing {
            what: "folder",
            path: path.to_owned(),
        });
    }
    if !path.is_dir() {
        return Err(wrong_kind());
    }
    let files = Tree::walk(path)?.files;
    if !files.iter().any(|(_, file)| named_like_a_picture(file)) {
        // Then some must be pictures by their content.
        super::folder(path)?;
    }
    let mut prefix = String::new();
    loop {
        let level = Level::new(&files, &prefix);
        let root = match prefix.strip_suffix('/') {
            Some(deeper) => path.join(deeper),
            None => path.to_owned(),
        };
        let (layout, flaw) = level.manifest(&root);
        if let Some(layout) = layout {
            return Ok(layout);
        }
        if let Some(layout) = level.splits(&root) {
            return Ok(layout);
        }
        match (level.only_folder(), flaw) {
            (Some(folder), _) => prefix += &format!("{folder}/"),
            // No class folders either: the manifest is all there is.
            (None, Some(error)) if level.folders.is_empty() => return Err(error),
            (None, _) => {
                return Ok(Layout::ClassFolders {
                    leaves: level.leaves(),
                    test: None,
                    root,
                });
            }
        }
    }
}

fn is_csv(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

/// A manifest that names pictures of two classes or more; `None` if it names none that are there.
fn listed(path: &Path, folder: &Path) -> Result<Option<Layout>, DataError> {
    let list = |with_split| {
        let reading = Reading {
            with_split,
            allow_outside: false,
        };
        manifest::list(path, folder, reading).map(|listing| listing.pictures)
    };
    if list(false)?.is_empty() {
        return Ok(None);
    }
    let given = list(true);
    let has = |split| {
        given
            .as_ref()
            .is_ok_and(|all| all.iter().any(|it| it.given == Some(split)))
    };
    Ok(Some(Layout::Manifest {
        path: path.to_owned(),
        splits: has(Split::Train) && has(Split::Val),
    }))
}

/// What lies under one folder.
struct Level<'a> {
    /// CSV files right in it.
    tables: Vec<&'a Path>,
    /// Pictures, relative to it: each with its folders.
    pictures: Vec<Vec<&'a str>>,
    /// Folders right in it that hold pictures.
    folders: BTreeSet<&'a str>,
}

impl<'a> Level<'a> {
    fn new(files: &'a [(String, PathBuf)], prefix: &str) -> Self {
        let below = |(path, file): &'a (String, PathBuf)| {
            let below = path.strip_prefix(prefix)?;
            Some((below, file.as_path()))
        };
        let below: Vec<(&str, &Path)> = files.iter().filter_map(below).collect();
        let named = below.iter().any(|(_, file)| named_like_a_picture(file));
        let pictures: Vec<Vec<&str>> = below
            .iter()
            // Where no file is named like a picture, any may be one.
            .filter(|(_, file)| !named || named_like_a_picture(file))
            .map(|(below, _)| below.split('/').collect())
            .collect();
        let tables = below
            .iter()
            .filter(|(below, file)| !below.contains('/') && is_csv(file));
        Self {
            tables: tables.map(|(_, file)| *file).collect(),
            folders: pictures
                .iter()
                .filter(|parts| parts.len() > 1)
                .map(|parts| parts[0])
                .collect(),
            pictures,
        }
    }

    /// The best of its manifests, and what is wrong with the first that is none.
    fn manifest(&self, root: &Path) -> (Option<Layout>, Option<DataError>) {
        let (mut best, mut flaw) = (None, None);
        for table in &self.tables {
            match listed(table, root) {
                Ok(Some(layout)) => {
                    let splits = matches!(layout, Layout::Manifest { splits: true, .. });
                    if splits || best.is_none() {
                        best = Some(layout);
                    }
                    if splits {
                        break;
                    }
                }
                Ok(None) => {}
                Err(error) => flaw = flaw.or(Some(error)),
            }
        }
        (best, flaw)
    }

    /// Folders named for splits, the one for training among them.
    fn splits(&self, root: &Path) -> Option<Layout> {
        let folder = |split| {
            let mut folders = self.folders.iter();
            folders.find(|folder| split_folder(folder) == Some(split))
        };
        let train = folder(Split::Train)?;
        let (val, test) = (folder(Split::Val), folder(Split::Test));
        match (val, test) {
            (Some(_), _) => Some(Layout::SplitFolders {
                root: root.to_owned(),
            }),
            (None, Some(test)) => Some(Layout::ClassFolders {
                root: root.join(train),
                leaves: None,
                test: Some(root.join(test)),
            }),
            (None, None) => None,
        }
    }

    /// The one folder that all pictures lie in, if it holds folders of them.
    fn only_folder(&self) -> Option<&'a str> {
        let deep = !self.pictures.is_empty() && self.pictures.iter().all(|parts| parts.len() > 2);
        match self.folders.iter().collect::<Vec<_>>().as_slice() {
            [only] if deep => Some(only),
            _ => None,
        }
    }

    /// Number of innermost folders, if there are more of them than of the outermost and each lies
    /// in one of these only: kinds of cats and kinds of dogs, but not years.
    fn leaves(&self) -> Option<usize> {
        let mut outer: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for parts in &self.pictures {
            if let [first, .., leaf, _] = parts.as_slice() {
                outer.entry(leaf).or_default().insert(first);
            }
        }
        let distinct = outer.values().all(|outer| outer.len() == 1);
        let deep = self.pictures.iter().all(|parts| parts.len() > 2);
        (deep && distinct && outer.len() > self.folders.len()).then_some(outer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that begin like GIFs, whatever their names.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "GIF89a").unwrap();
        }
        folder
    }

    #[track_caller]
    fn check(files: &[&str], wanted: impl FnOnce(&Path) -> Layout) {
        let folder = folder(files);
        let found = survey(folder.path()).unwrap();
        assert_eq!(found, wanted(folder.path()));
    }

    fn classes(root: PathBuf) -> Layout {
        Layout::ClassFolders {
            root,
            leaves: None,
            test: None,
        }
    }

    #[test]
    fn class_folders_may_lie_deeper() {
        check(&["cat/1.jpg", "dog/1.jpg", "readme.txt"], |at| {
            classes(at.to_owned())
        });
        check(&["a/b/cat/1.jpg", "a/b/dog/1.jpg"], |at| {
            classes(at.join("a/b"))
        });
        check(&["train/cat/1.jpg", "train/dog/1.jpg"], |at| {
            classes(at.join("train"))
        });
        // Files without an ending may be pictures.
        check(&["cat/1", "dog/1"], |at| classes(at.to_owned()));
    }

    #[test]
    fn folders_of_splits_are_known_by_name() {
        check(&["Train/a/1.jpg", "valid/a/1.jpg", "test/a/1.jpg"], |at| {
            Layout::SplitFolders {
                root: at.to_owned(),
            }
        });
        check(&["set/train/a/1.jpg", "set/val/a/1.jpg"], |at| {
            Layout::SplitFolders {
                root: at.join("set"),
            }
        });
        check(&["Training/a/1.jpg", "Testing/a/1.jpg"], |at| {
            Layout::ClassFolders {
                root: at.join("Training"),
                leaves: None,
                test: Some(at.join("Testing")),
            }
        });
    }

    #[test]
    fn nested_folders_may_be_the_classes() {
        let leaves = |at: &Path, leaves| Layout::ClassFolders {
            root: at.to_owned(),
            leaves,
            test: None,
        };
        let breeds = ["cat/persian/1.jpg", "dog/pug/1.jpg", "dog/husky/1.jpg"];
        check(&breeds, |at| leaves(at, Some(3)));
        let years = ["cat/2019/1.jpg", "cat/2020/1.jpg", "dog/2019/1.jpg"];
        check(&years, |at| leaves(at, None));
    }

    #[test]
    fn a_manifest_goes_before_folders_if_it_is_one() {
        let files = ["cat/1.jpg", "dog/1.jpg", "dog/2.jpg", "list.csv"];
        for (text, wanted) in [
            ("cat/1.jpg,cat\ndog/1.jpg,dog\n", Some(false)),
            (
                "path,label,split\ncat/1.jpg,cat,train\ndog/1.jpg,dog,val\n",
                Some(true),
            ),
            // Nothing says what validates.
            (
                "path,label,split\ncat/1.jpg,cat,train\ndog/1.jpg,dog,test\n",
                Some(false),
            ),
            ("date,price\nmonday,3\n", None),
        ] {
            let folder = folder(&files);
            let path = folder.path().join("list.csv");
            std::fs::write(&path, text).unwrap();
            let found = survey(folder.path()).unwrap();
            let wanted = match wanted {
                Some(splits) => Layout::Manifest { path, splits },
                None => classes(folder.path().to_owned()),
            };
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_folder_is_refused() {
        let folder = folder(&["cat/1.jpg", "notes.txt"]);
        std::fs::write(folder.path().join("list.csv"), "").unwrap();
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let refused = |name: &str| survey(&folder.path().join(name)).unwrap_err();
        assert!(matches!(refused("empty"), DataError::Empty { .. }));
        assert!(matches!(refused("none"), DataError::Missing { .. }));
        assert!(matches!(refused("notes.txt"), DataError::WrongKind { .. }));
        assert!(matches!(refused("list.csv"), DataError::Empty { .. }));
    }
}
