//! `metrics.csv`: one row an epoch, on disk before the next epoch begins.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::RunError;
use crate::fsx::{self, FsError};
use crate::records::MetricsRow;

/// Appends rows to `metrics.csv`, each flushed and synced as it is earned.
#[derive(Debug)]
pub struct MetricsWriter {
    file: File,
    path: PathBuf,
    bare: bool,
}

impl MetricsWriter {
    /// Starts the file anew with `rows`: none at the start of a run, those up to the checkpoint
    /// when a run goes on.
    pub fn create(path: &Path, rows: &[MetricsRow]) -> Result<Self, RunError> {
        let mut bytes = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            bytes.extend(encode(row, index == 0).map_err(FsError::at("write", path))?);
        }
        fsx::write_atomic(path, &bytes)?;
        let file = File::options().append(true).open(path);
        Ok(Self {
            file: file.map_err(FsError::at("open", path))?,
            path: path.to_path_buf(),
            bare: rows.is_empty(),
        })
    }

    /// Appends a row in one write and waits until it is on disk.
    pub fn append(&mut self, row: &MetricsRow) -> Result<(), RunError> {
        let mut append = || {
            self.file.write_all(&encode(row, self.bare)?)?;
            self.file.sync_data()
        };
        append().map_err(FsError::at("append to", &self.path))?;
        self.bare = false;
        Ok(())
    }
}

fn encode(row: &MetricsRow, with_header: bool) -> io::Result<Vec<u8>> {
    // Floats come out in the shortest form that reads back to the same bits.
    let mut writer = csv::WriterBuilder::new()
        .has_headers(with_header)
        .from_writer(Vec::new());
    writer.serialize(row)?;
    writer.into_inner().map_err(|error| error.into_error())
}

/// What `metrics.csv` holds.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsLog {
    /// Rows in file order.
    pub rows: Vec<MetricsRow>,
    /// Whether a last row cut short (the run was killed while writing it) was left out.
    pub torn: bool,
}

const DAMAGED: &str = "correct or delete that line; the first line names the columns";

impl MetricsLog {
    /// Reads a log. Columns are found by name: unknown ones are passed over.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let bytes = fsx::read(path)?;
        let ends_whole = bytes.last().is_none_or(|&byte| byte == b'\n');
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let damaged = |reason: String| RunError::Damaged {
            path: path.to_path_buf(),
            reason,
            help: DAMAGED,
        };
        let columns = reader.headers();
        let columns = columns
            .cloned()
            .map_err(|error| damaged(in_words(&error, &csv::StringRecord::new())))?;
        let mut rows = Vec::new();
        let mut records = reader.deserialize().peekable();
        while let Some(row) = records.next() {
            // Even where it reads as a row: its last number may lack digits.
            if records.peek().is_none() && !ends_whole {
                return Ok(Self { rows, torn: true });
            }
            match row {
                Ok(row) => rows.push(row),
                Err(error) => return Err(damaged(in_words(&error, &columns))),
            }
        }
        Ok(Self { rows, torn: false })
    }
}

fn in_words(error: &csv::Error, columns: &csv::StringRecord) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { pos, err } => {
            let line = pos.as_ref().map_or(1, csv::Position::line);
            let column = err.field().and_then(|index| columns.get(index as usize));
            let column = column.map_or(String::new(), |column| format!(", `{column}`"));
            format!("line {line}{column}: {}", err.kind())
        }
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => {
            let line = pos.as_ref().map_or(1, csv::Position::line);
            format!("line {line}: {len} values for {expected_len} columns")
        }
        csv::ErrorKind::Utf8 { pos, .. } => {
            let line = pos.as_ref().map_or(1, csv::Position::line);
            format!("line {line}: it is not UTF-8 text")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn row(epoch: usize) -> MetricsRow {
        MetricsRow {
            phase: "feature, \"extraction\"".into(),
            phase_epoch: epoch,
            epoch,
            step: 25 * epoch as u64,
            lr: 1e-4 / 3.0,
            train_loss: (epoch > 0).then_some(0.1 + 0.2),
            train_accuracy: (epoch > 0).then_some(2.0 / 3.0),
            val_loss: Some(f64::MIN_POSITIVE),
            val_accuracy: None,
            images_per_second: 123.456,
            seconds: 1e21,
        }
    }

    #[test]
    fn rows_come_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut writer = MetricsWriter::create(&path, &[]).unwrap();
        assert!(MetricsLog::read(&path).unwrap().rows.is_empty());
        let rows: Vec<MetricsRow> = (0..3).map(row).collect();
        for (count, row) in rows.iter().enumerate() {
            writer.append(row).unwrap();
            assert_eq!(MetricsLog::read(&path).unwrap().rows, rows[..=count]);
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("phase_epoch").count(), 1);

        let mut writer = MetricsWriter::create(&path, &rows[..2]).unwrap();
        writer.append(&rows[2]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn damage_is_located_and_a_torn_tail_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            MetricsLog::read(&path)
        };
        let whole = "phase,phase_epoch,epoch,step,lr,val_accuracy,f1\na,1,1,25,0.1,NaN,3\n";
        let log = read(whole).unwrap();
        assert!(log.rows[0].val_accuracy.unwrap().is_nan() && !log.torn);

        let log = read(&format!("{whole}a,2,2,50,0.")).unwrap();
        assert_eq!((log.rows.len(), log.torn), (1, true));
        let log = read(&format!("{whole}a,2,2,50,0.1,0.5,3")).unwrap();
        assert_eq!((log.rows.len(), log.torn), (1, true));

        let message = |text: String| read(&text).unwrap_err().to_string();
        let wrong = message(format!("{whole}a,2,x,50,0.1,0.5,3\n"));
        assert!(
            wrong.contains("line 3, `epoch`: ") && wrong.contains("metrics.csv"),
            "{wrong}"
        );
        let short = message(format!("{whole}a,2,2\na,3,3,75,0.1,0.5,3\n"));
        assert!(short.contains("line 3: 3 values for 7 columns"), "{short}");
        let foreign = message("path,class\nx,y\n".into());
        assert!(
            foreign.contains("line 2: missing field `phase`"),
            "{foreign}"
        );
    }
}
