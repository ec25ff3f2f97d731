//! CSV manifests: path, label and optionally split, with or without a header.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::DataError;
use super::listing::{Listed, Listing, issue};
use crate::records::Split;

const PATH_NAMES: &[&str] = &["path", "file", "image", "filename", "file_name", "filepath"];
const LABEL_NAMES: &[&str] = &["label", "class", "class_name", "category"];
const SPLIT_NAMES: &[&str] = &["split", "subset"];

/// Where the columns stand.
#[derive(Debug, Clone, Copy)]
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
    /// Fields in every row.
    count: usize,
}

/// A row with its line in the file, from 1.
struct Row {
    line: u64,
    fields: Vec<String>,
}

/// Lists the pictures that `manifest` names; its paths are relative to `root`. With `with_split`
/// the split column must be there and is read.
pub(super) fn list(manifest: &Path, root: &Path, with_split: bool) -> Result<Listing, DataError> {
    let rows = read(manifest)?;
    let Some(first) = rows.first() else {
        return Err(DataError::Empty {
            path: manifest.to_owned(),
        });
    };
    let at = Place { manifest };
    let header = is_header(first, root);
    let columns = if header {
        at.header(first)?
    } else {
        at.bare(first)?
    };
    if with_split && columns.split.is_none() {
        return Err(DataError::SplitSource {
            by: "column",
            needs: "a split column in the manifest",
        });
    }
    let mut listing = Listing::default();
    let mut seen: HashMap<String, (String, Option<Split>, u64)> = HashMap::new();
    for row in &rows[usize::from(header)..] {
        let listed = at.picture(row, columns, root, with_split)?;
        if let Some((class, given, line)) = seen.get(&listed.path) {
            if *class != listed.class || *given != listed.given {
                let (what, old, new) = if *class == listed.class {
                    let name = |split: Option<Split>| split.map_or("", Split::name).to_owned();
                    ("split", name(*given), name(listed.given))
                } else {
                    ("label", class.clone(), listed.class)
                };
                return Err(at.error(
                    row.line,
                    format!(
                        "`{}` has {what} `{new}` here and `{old}` in line {line}",
                        listed.path
                    ),
                    "keep one of the two lines",
                ));
            }
            let reason = format!("line {} repeats line {line}; dropped", row.line);
            listing.issues.push(issue(listed.path, "repeated", reason));
            continue;
        }
        seen.insert(
            listed.path.clone(),
            (listed.class.clone(), listed.given, row.line),
        );
        listing.classes.push(listed.class.clone());
        if let Some(reason) = unusable(&listed.file) {
            let reason = format!("{reason} (line {})", row.line);
            listing.refused.push(issue(listed.path, "missing", reason));
            continue;
        }
        listing.pictures.push(listed);
    }
    listing.finish();
    Ok(listing)
}

fn unusable(file: &Path) -> Option<String> {
    match std::fs::metadata(file) {
        Ok(kind) if kind.is_file() => None,
        Ok(_) => Some("is not a file".into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("does not exist".into()),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}

fn read(manifest: &Path) -> Result<Vec<Row>, DataError> {
    let bytes = std::fs::read(manifest).map_err(|source| DataError::Unreadable {
        path: manifest.to_owned(),
        source,
    })?;
    let at = Place { manifest };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes.as_slice());
    let mut rows = Vec::new();
    for record in reader.byte_records() {
        let record = record.map_err(|error| at.error(0, error.to_string(), "repair the file"))?;
        let line = record.position().map_or(0, csv::Position::line);
        let fields = record.iter().map(|field| {
            std::str::from_utf8(field)
                .map(|text| text.trim().to_owned())
                .map_err(|_| at.error(line, "not UTF-8", "save the manifest as UTF-8"))
        });
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        if fields.iter().any(|field| !field.is_empty()) {
            rows.push(Row { line, fields });
        }
    }
    Ok(rows)
}

fn position(fields: &[String], names: &[&str]) -> Option<usize> {
    fields
        .iter()
        .position(|field| names.contains(&field.to_ascii_lowercase().as_str()))
}

/// The first line is a header if it names the path column, or another one while its own first
/// field is no file.
fn is_header(row: &Row, root: &Path) -> bool {
    let named = |names| position(&row.fields, names).is_some();
    named(PATH_NAMES)
        || (named(LABEL_NAMES) || named(SPLIT_NAMES))
            && !row
                .fields
                .first()
                .is_some_and(|path| root.join(path).exists())
}

fn fields(count: usize) -> String {
    format!("{count} field{}", if count == 1 { "" } else { "s" })
}

/// Makes errors that cite the manifest.
struct Place<'a> {
    manifest: &'a Path,
}

impl Place<'_> {
    fn error(&self, line: u64, what: impl Into<String>, help: impl Into<String>) -> DataError {
        DataError::Manifest {
            manifest: self.manifest.to_owned(),
            line,
            what: what.into(),
            help: help.into(),
        }
    }

    fn header(&self, row: &Row) -> Result<Columns, DataError> {
        let column = |names: &[&str]| {
            position(&row.fields, names).ok_or_else(|| {
                self.error(
                    row.line,
                    format!(
                        "no column named `{}` among `{}`",
                        names[0],
                        row.fields.join("`, `")
                    ),
                    "name the columns `path`, `label` and optionally `split`",
                )
            })
        };
        Ok(Columns {
            path: column(PATH_NAMES)?,
            label: column(LABEL_NAMES)?,
            split: position(&row.fields, SPLIT_NAMES),
            count: row.fields.len(),
        })
    }

    fn bare(&self, row: &Row) -> Result<Columns, DataError> {
        let count = row.fields.len();
        if !(2..=3).contains(&count) {
            return Err(self.error(
                row.line,
                format!(
                    "{} where path, label and optionally split are expected",
                    fields(count)
                ),
                "separate fields by commas, quote those that hold commas, \
                 or name the columns in a header",
            ));
        }
        Ok(Columns {
            path: 0,
            label: 1,
            split: (count == 3).then_some(2),
            count,
        })
    }

    fn picture(
        &self,
        row: &Row,
        columns: Columns,
        root: &Path,
        with_split: bool,
    ) -> Result<Listed, DataError> {
        if row.fields.len() != columns.count {
            return Err(self.error(
                row.line,
                format!(
                    "{} where {} are expected",
                    fields(row.fields.len()),
                    columns.count
                ),
                "quote fields that hold commas",
            ));
        }
        let written = &row.fields[columns.path];
        let class = &row.fields[columns.label];
        if written.is_empty() {
            return Err(self.error(
                row.line,
                "the path is empty",
                "give a path, or remove the line",
            ));
        }
        if class.is_empty() {
            let what = format!("the label of `{written}` is empty");
            return Err(self.error(row.line, what, "give a label, or remove the line"));
        }
        let path = inside(written, root).ok_or_else(|| {
            self.error(
                row.line,
                format!("`{written}` leads out of `{}`", root.display()),
                "paths are relative to `data.root`, or to the manifest's folder without one",
            )
        })?;
        let given = match columns.split {
            Some(column) if with_split => Some(self.split(row, &row.fields[column])?),
            _ => None,
        };
        Ok(Listed {
            file: root.join(&path),
            path,
            class: class.clone(),
            given,
            named: true,
        })
    }

    fn split(&self, row: &Row, word: &str) -> Result<Split, DataError> {
        match word.to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Split::Train),
            "val" | "valid" | "validation" => Ok(Split::Val),
            "test" | "testing" => Ok(Split::Test),
            _ => Err(self.error(
                row.line,
                format!("`{word}` is no split"),
                "write `train`, `val` or `test`",
            )),
        }
    }
}

/// The path relative to `root`, its parts joined by `/`; `None` if it leaves the root.
fn inside(written: &str, root: &Path) -> Option<String> {
    let written = Path::new(written);
    let relative: PathBuf = if written.is_absolute() {
        written.strip_prefix(root).ok()?.to_owned()
    } else {
        written.to_owned()
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in relative.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
