//! CSV manifests: path, label and optionally split, with or without a header.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::DataError;
use super::listing::{Listed, Listing, issue};
use crate::records::{Split, SplitRow};

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

/// How a manifest is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// The split column is read; it must be there.
    pub(super) with_split: bool,
    /// Paths may lead out of the root.
    pub(super) allow_outside: bool,
}

/// Lists the pictures that `manifest` names; its paths are relative to `root`.
pub(super) fn list(manifest: &Path, root: &Path, reading: Reading) -> Result<Listing, DataError> {
    let with_split = reading.with_split;
    let mut fence = Fence::new(root, reading.allow_outside);
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
        let listed = at.picture(row, columns, root, reading)?;
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
        if fence.is_outside(&listed.file) {
            return Err(at.outside(row.line, &listed.path, root));
        }
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
                .map(str::to_owned)
                .map_err(|_| at.error(line, "not UTF-8", "save the manifest as UTF-8"))
        });
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        if fields.iter().any(|field| !field.trim().is_empty()) {
            rows.push(Row { line, fields });
        }
    }
    Ok(rows)
}

fn position(fields: &[String], names: &[&str]) -> Option<usize> {
    fields
        .iter()
        .position(|field| names.contains(&field.trim().to_ascii_lowercase().as_str()))
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
                .is_some_and(|path| root.join(path.trim()).exists())
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
        reading: Reading,
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
        // Blanks around a field are for the eye, unless a file is named so.
        let whole = row.fields[columns.path].as_str();
        let written = match whole.trim() {
            bare if bare != whole && root.join(whole).is_file() => whole,
            bare => bare,
        };
        let class = row.fields[columns.label].trim();
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
        let path = match inside(written, root) {
            Some(path) => path,
            None if reading.allow_outside => written.to_owned(),
            None => return Err(self.outside(row.line, written, root)),
        };
        let given = match columns.split {
            Some(column) if reading.with_split => Some(self.split(row, &row.fields[column])?),
            _ => None,
        };
        Ok(Listed {
            file: root.join(&path),
            path,
            class: class.to_owned(),
            given,
            named: true,
        })
    }

    fn outside(&self, line: u64, written: &str, root: &Path) -> DataError {
        self.error(
            line,
            format!("`{written}` leads out of `{}`", root.display()),
            "paths are relative to `data.root`, or to the manifest's folder without one; \
             `data.allow_outside = true` lets them lead out of it",
        )
    }

    fn split(&self, row: &Row, word: &str) -> Result<Split, DataError> {
        match word.trim().to_ascii_lowercase().as_str() {
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

/// Keeps pictures below the root, links followed.
struct Fence {
    /// The real path of the root; `None` where anything is allowed or there is no root.
    root: Option<PathBuf>,
    /// Whether folders lie outside.
    folders: HashMap<PathBuf, bool>,
}

impl Fence {
    fn new(root: &Path, allow_outside: bool) -> Self {
        let real = match root.as_os_str().is_empty() {
            true => Path::new(".").canonicalize(),
            false => root.canonicalize(),
        };
        Self {
            root: real.ok().filter(|_| !allow_outside),
            folders: HashMap::new(),
        }
    }

    /// Whether a file really lies elsewhere. One that is not there lies nowhere.
    fn is_outside(&mut self, file: &Path) -> bool {
        let Some(root) = &self.root else {
            return false;
        };
        let real_is_outside = |path: &Path| {
            path.canonicalize()
                .is_ok_and(|real| !real.starts_with(root))
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        let outside = match self.folders.get(folder) {
            Some(outside) => *outside,
            None => {
                let outside = real_is_outside(folder);
                self.folders.insert(folder.to_owned(), outside);
                outside
            }
        };
        outside || file.is_symlink() && real_is_outside(file)
    }
}

/// A manifest of these pictures.
pub(super) fn render(rows: &[SplitRow]) -> Result<Vec<u8>, DataError> {
    let blank = |class: &str| class.trim() != class;
    if let Some(row) = rows.iter().find(|row| blank(&row.class)) {
        return Err(DataError::BlankClass {
            class: row.class.clone(),
        });
    }
    let mut csv = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = csv.write_record(["path", "label", "split"]);
    for row in rows {
        let _ = csv.write_record([&row.path, &row.class, row.split.name()]);
    }
    Ok(csv.into_inner().unwrap_or_default())
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
