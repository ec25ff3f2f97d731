//! Parquet files of pictures and labels, as Hugging Face's `datasets` writes them: unpacked to files
//! and a manifest, and read like any other from there.

mod columns;
mod tables;

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;

use super::DataError;
use super::decode::{self, Kind};
use super::guarded::guarded;
use super::listing::issue;
use crate::config::ColumnsConfig;
use crate::fetch::Budget;
use crate::records::{DataIssueRow, Split};
use columns::Columns;

pub(super) use tables::{Table, choose, find, identity, tell_apart};

/// The manifest of what was unpacked, and the folder that its paths start from.
pub(super) const MANIFEST: &str = "manifest.csv";
/// The folder of the pictures.
pub(super) const PICTURES: &str = "pictures";
/// Rows that were left out.
pub(super) const SKIPPED: &str = "skipped.csv";

/// Rows that are decoded at a time: each may hold a large picture.
const BATCH: usize = 16;

/// A label as a file has it.
enum Label {
    Name(String),
    /// Without a name; padded once the widest is known, so that byte order is the order of numbers.
    Number(u64),
}

struct Unpacked {
    path: String,
    label: Label,
    split: Option<Split>,
}

/// Writes the pictures of all files below `into`, with a manifest of them.
pub(super) fn unpack(
    tables: &[Table],
    columns: &ColumnsConfig,
    into: &Path,
) -> Result<(), DataError> {
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for table in tables {
        let folder = into.join(PICTURES).join(&table.name);
        std::fs::create_dir_all(&folder).map_err(unwritable(&folder))?;
        // Its reader trusts files to be what they say, and may panic where one is not.
        let read = || unpack_one(table, columns, &folder, &mut rows, &mut skipped);
        let fault = match guarded(read) {
            Some(Ok(())) => continue,
            Some(Err(Fault::Data(error))) => return Err(error),
            Some(Err(Fault::File(reason))) => reason,
            None => "it breaks the rules of the format".into(),
        };
        return Err(DataError::Parquet {
            path: table.file.clone(),
            reason: fault,
        });
    }
    write(&rows, &skipped, into)
}

/// What is wrong with one file.
enum Fault {
    File(String),
    Data(DataError),
}

impl From<parquet::errors::ParquetError> for Fault {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::File(error.to_string())
    }
}

fn unwritable(path: &Path) -> impl FnOnce(std::io::Error) -> DataError {
    let error = crate::fsx::FsError::at("write", path);
    move |source| DataError::Fetch(error(source).into())
}

fn unpack_one(
    table: &Table,
    wanted: &ColumnsConfig,
    folder: &Path,
    rows: &mut Vec<Unpacked>,
    skipped: &mut Vec<DataIssueRow>,
) -> Result<(), Fault> {
    let unreadable = |source| {
        Fault::Data(DataError::Unreadable {
            path: table.file.clone(),
            source,
        })
    };
    let file = File::open(&table.file).map_err(unreadable)?;
    let mut budget = Budget::of(file.metadata().map_err(unreadable)?.len());
    let reader = SerializedFileReader::new(file)?;
    let columns = Columns::find(reader.metadata().file_metadata(), wanted).map_err(Fault::File)?;
    let picked = RowIter::from_file(None, &reader)?
        .project(Some(columns.projection.clone()))?
        .with_batch_size(BATCH);
    for (index, row) in picked.enumerate() {
        let row = row?;
        let name = format!("{index:06}");
        let label = match columns.label(&row) {
            Ok(label) => label,
            Err(reason) => {
                skipped.push(issue(
                    format!("{}/{name}", table.name),
                    "unlabelled",
                    reason,
                ));
                continue;
            }
        };
        let Some(bytes) = columns.picture(&row) else {
            let reason = "there is no picture in this row";
            skipped.push(issue(format!("{}/{name}", table.name), "missing", reason));
            continue;
        };
        budget.spend_file().map_err(Fault::File)?;
        budget.spend(bytes.len() as u64).map_err(Fault::File)?;
        let name = format!("{name}{}", extension(bytes));
        let path = folder.join(&name);
        let written = std::fs::write(&path, bytes).map_err(unwritable(&path));
        written.map_err(Fault::Data)?;
        rows.push(Unpacked {
            path: format!("{}/{name}", table.name),
            label,
            split: table.split,
        });
    }
    Ok(())
}

fn extension(bytes: &[u8]) -> &'static str {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    match decode::sniff(bytes) {
        Kind::Picture(Jpeg) => ".jpg",
        Kind::Picture(Png) => ".png",
        Kind::Picture(WebP) => ".webp",
        Kind::Picture(Bmp) => ".bmp",
        Kind::Picture(Gif) => ".gif",
        _ => "",
    }
}

fn write(rows: &[Unpacked], skipped: &[DataIssueRow], into: &Path) -> Result<(), DataError> {
    let most = rows.iter().filter_map(|row| match row.label {
        Label::Number(number) => Some(number),
        Label::Name(_) => None,
    });
    let width = most.max().unwrap_or(0).to_string().len();
    // A column that is empty for some would be no split.
    let with_split = rows.iter().all(|row| row.split.is_some());
    let mut csv = csv::Writer::from_writer(Vec::new());
    let mut record = |fields: [&str; 3]| {
        let count = if with_split { 3 } else { 2 };
        csv.write_record(&fields[..count]).map_err(|error| {
            let error = std::io::Error::other(error);
            unwritable(&into.join(MANIFEST))(error)
        })
    };
    record(["path", "label", "split"])?;
    for row in rows {
        let label = match &row.label {
            Label::Name(name) => name.clone(),
            Label::Number(number) => format!("{number:0width$}"),
        };
        record([&row.path, &label, row.split.map_or("", Split::name)])?;
    }
    let bytes = csv.into_inner().unwrap_or_default();
    let path = into.join(MANIFEST);
    std::fs::write(&path, bytes).map_err(unwritable(&path))?;
    let mut csv = csv::Writer::from_writer(Vec::new());
    let path = into.join(SKIPPED);
    for row in skipped {
        let written = csv.serialize(row).map_err(std::io::Error::other);
        written.map_err(unwritable(&path))?;
    }
    let bytes = csv.into_inner().unwrap_or_default();
    std::fs::write(&path, bytes).map_err(unwritable(&path))
}

/// The rows that [`unpack`] left out.
pub(super) fn skipped(manifest: &Path) -> Vec<DataIssueRow> {
    let path = manifest.with_file_name(SKIPPED);
    let rows = csv::Reader::from_path(path).map(|reader| reader.into_deserialize().flatten());
    rows.map(Iterator::collect).unwrap_or_default()
}
