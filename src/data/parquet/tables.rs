//! Which files make up a Parquet data set, and what their names say.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::super::DataError;
use crate::config::ColumnsConfig;
use crate::records::Split;

const SUFFIX: &str = ".parquet";
/// Splits that names of files and folders stand for, as for `datasets`.
const SPLIT_WORDS: [(Split, &[&str]); 3] = [
    (Split::Train, &["train", "training"]),
    (Split::Val, &["validation", "valid", "val", "dev"]),
    (Split::Test, &["test", "testing", "eval", "evaluation"]),
];

/// One file of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) struct Table {
    /// Where it lies.
    pub(super) file: PathBuf,
    /// Its path within the data set in one word, without the extension.
    pub(super) name: String,
    /// The split that its path names.
    pub(super) split: Option<Split>,
}

impl Table {
    /// The file of that path within its data set, with `/` between the parts.
    pub(in crate::data) fn new(file: PathBuf, path: &str) -> Self {
        let plain = |c: char| match c {
            c if c.is_ascii_alphanumeric() || "-_".contains(c) => c,
            _ => '_',
        };
        let stem = path.strip_suffix(SUFFIX).unwrap_or(path);
        Self {
            file,
            name: stem.chars().map(plain).collect(),
            split: split_of(stem),
        }
    }
}

/// The split that a path names; its innermost part that names one decides.
fn split_of(path: &str) -> Option<Split> {
    path.rsplit('/').find_map(|part| {
        let part = part.to_ascii_lowercase();
        let mut words = part.split(|c: char| !c.is_ascii_alphanumeric());
        words.find_map(|word| {
            let mut splits = SPLIT_WORDS.iter();
            splits
                .find(|(_, names)| names.contains(&word))
                .map(|(split, _)| *split)
        })
    })
}

/// The files that the paths stand for: themselves, or all below a folder, in order.
pub(in crate::data) fn find(paths: &[PathBuf]) -> Result<Vec<Table>, DataError> {
    let mut tables = Vec::new();
    for path in paths {
        if !path.exists() {
            return Err(DataError::Missing {
                what: "parquet",
                path: path.clone(),
            });
        }
        let before = tables.len();
        if path.is_dir() {
            let tree = super::super::folders::Tree::walk(path)?;
            // Half a data set would train as well, and nobody would know.
            let mut refused = tree.listing.refused.iter();
            if let Some(row) = refused.find(|row| row.path.ends_with(SUFFIX)) {
                return Err(DataError::Unreadable {
                    path: path.join(&row.path),
                    source: std::io::Error::other(row.reason.clone()),
                });
            }
            for (below, file) in tree.files {
                if below.ends_with(SUFFIX) {
                    tables.push(Table::new(file, &below));
                }
            }
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            tables.push(Table::new(path.clone(), &name));
        }
        if tables.len() == before {
            return Err(DataError::NoTables {
                place: path.display().to_string(),
                there: "no `.parquet` file".into(),
            });
        }
    }
    tell_apart(&mut tables);
    Ok(tables)
}

/// Numbers the tables if some share a name: files of several folders may, and odd letters are lost.
pub(in crate::data) fn tell_apart(tables: &mut [Table]) {
    let names: HashSet<&String> = tables.iter().map(|table| &table.name).collect();
    if names.len() < tables.len() {
        for (index, table) in tables.iter_mut().enumerate() {
            table.name = format!("{index:03}_{}", table.name);
        }
    }
}

/// The files of a hub's data set, or of its part of that name.
pub(in crate::data) fn choose(
    set: &str,
    files: &[String],
    part: Option<&str>,
) -> Result<Vec<String>, DataError> {
    let fault = |there: String| DataError::NoTables {
        place: set.into(),
        there,
    };
    let mut tables: Vec<&String> = files.iter().filter(|it| it.ends_with(SUFFIX)).collect();
    tables.sort();
    if tables.is_empty() {
        return Err(fault(format!("no `.parquet` file among {}", files.len())));
    }
    // `PART/train-0000.parquet`, `data/train-0000.parquet`, `data/PART/...`, `train.parquet`.
    let part_of = |path: &str| {
        let folders: Vec<&str> = path.split('/').rev().skip(1).collect();
        let names_part = |it: &&&str| **it != "data" && split_of(it).is_none();
        folders.iter().find(names_part).map(|it| (*it).to_owned())
    };
    let mut parts: Vec<Option<String>> = tables.iter().map(|it| part_of(it)).collect();
    parts.sort();
    parts.dedup();
    let names = || {
        let named = parts.iter().flatten().map(|it| format!("`{it}`"));
        named.collect::<Vec<_>>().join(", ")
    };
    let wanted = match (part, parts.as_slice()) {
        (Some(part), _) => Some(part.to_owned()),
        (None, [only]) => only.clone(),
        (None, several) if several.contains(&None) => None,
        (None, several) if several.contains(&Some("default".into())) => Some("default".into()),
        (None, _) => {
            return Err(fault(format!(
                "several configurations, {}; name one as `config`",
                names()
            )));
        }
    };
    let chosen = tables.into_iter().filter(|it| part_of(it) == wanted);
    let chosen: Vec<String> = chosen.cloned().collect();
    if chosen.is_empty() {
        let wanted = wanted.unwrap_or_default();
        return Err(fault(format!(
            "no configuration `{wanted}`; there are {}",
            names()
        )));
    }
    Ok(chosen)
}

/// What tells this set of files from any other: names, contents and the columns that are read.
pub(in crate::data) fn identity(
    tables: &[Table],
    columns: &ColumnsConfig,
) -> Result<String, DataError> {
    let hashes: Vec<String> = tables
        .par_iter()
        .map(|table| {
            let hash = hash(&table.file).map_err(|source| DataError::Unreadable {
                path: table.file.clone(),
                source,
            })?;
            Ok(format!("{} {hash}", table.name))
        })
        .collect::<Result<_, DataError>>()?;
    Ok(format!("{} {columns:?}", hashes.join(" ")))
}

fn hash(file: &Path) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(file)?)?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_split() {
        for (path, split) in [
            ("data/train-00000-of-00002.parquet", Some(Split::Train)),
            ("validation-00000-of-00001.parquet", Some(Split::Val)),
            ("default/test/0000.parquet", Some(Split::Test)),
            ("default/partial-train/0000.parquet", Some(Split::Train)),
            ("train/test.parquet", Some(Split::Test)),
            ("trains/latest.parquet", None),
        ] {
            assert_eq!(Table::new(PathBuf::new(), path).split, split, "{path}");
        }
    }

    #[test]
    fn the_files_of_a_configuration_are_chosen() {
        let choose = |files: &[&str], part| {
            let files: Vec<String> = files.iter().map(|it| it.to_string()).collect();
            choose("x/y", &files, part).map_err(|error| error.to_string())
        };
        let plain = ["README.md", "data/train-0.parquet", "data/test-0.parquet"];
        assert_eq!(
            choose(&plain, None).unwrap(),
            ["data/test-0.parquet", "data/train-0.parquet"]
        );
        let two = ["big/train-0.parquet", "small/train-0.parquet"];
        assert_eq!(choose(&two, Some("big")).unwrap(), ["big/train-0.parquet"]);
        let error = choose(&two, None).unwrap_err();
        assert!(
            error.contains("several configurations, `big`, `small`"),
            "{error}"
        );
        let error = choose(&two, Some("tiny")).unwrap_err();
        assert!(error.contains("there are `big`, `small`"), "{error}");
        let converted = ["default/train/0.parquet", "default/test/0.parquet"];
        assert_eq!(choose(&converted, None).unwrap().len(), 2);
        let error = choose(&["a.jpg"], None).unwrap_err();
        assert!(error.contains("no `.parquet` file"), "{error}");
    }
}
