//! `probabilities.csv`: a column a class, a row a test picture.

use std::path::Path;

use super::{RunDir, RunError};
use crate::fsx;
use crate::records::{ProbabilityRow, ProbabilityTable, is_probability};

/// Names of the columns before those of the classes.
const HEADER: [&str; 2] = ["path", "class"];

impl RunDir {
    /// Writes `probabilities.csv`.
    pub fn write_probabilities(&self, table: &ProbabilityTable) -> Result<(), RunError> {
        fsx::write_atomic_with(&self.probabilities_csv(), |file| {
            let mut writer = csv::Writer::from_writer(file);
            let classes = table.classes.iter().map(String::as_str);
            writer.write_record(HEADER.into_iter().chain(classes))?;
            for row in &table.rows {
                writer.write_field(&row.path)?;
                writer.write_field(table.classes.get(row.label).map_or("", String::as_str))?;
                for probability in &row.probabilities {
                    // The shortest text that reads back to the same bits.
                    writer.write_field(probability.to_string())?;
                }
                writer.write_record(None::<&[u8]>)?;
            }
            writer.flush()
        })?;
        Ok(())
    }

    /// Reads `probabilities.csv`; `None` if there is none, as in runs of old and without test split.
    pub fn probabilities(&self) -> Result<Option<ProbabilityTable>, RunError> {
        let path = self.probabilities_csv();
        match path.exists() {
            true => read(&path).map(Some),
            false => Ok(None),
        }
    }
}

fn read(path: &Path) -> Result<ProbabilityTable, RunError> {
    let damaged = |reason: String| RunError::Damaged {
        path: path.to_path_buf(),
        reason,
        help: "correct or delete that line; the first line names the columns",
    };
    let bytes = fsx::read(path)?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let header = reader
        .headers()
        .map_err(|error| damaged(error.to_string()))?;
    if !header.iter().take(2).eq(HEADER) {
        return Err(damaged(
            "its first columns are not `path` and `class`".into(),
        ));
    }
    let classes: Vec<String> = header.iter().skip(2).map(str::to_owned).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| damaged(error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut fields = record.iter();
        let (path, class) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let label = classes.iter().position(|name| name == class);
        let label = label.ok_or_else(|| {
            damaged(format!(
                "line {line}: no column is called `{class}`, its class"
            ))
        })?;
        let probabilities = fields.zip(&classes).map(|(text, class)| {
            let value: Option<f32> = text.parse().ok();
            let value = value.filter(|value| is_probability(f64::from(*value)));
            value.ok_or_else(|| {
                damaged(format!(
                    "line {line}, `{class}`: `{text}` is no probability"
                ))
            })
        });
        rows.push(ProbabilityRow {
            path: path.to_owned(),
            label,
            probabilities: probabilities.collect::<Result<_, _>>()?,
        });
    }
    Ok(ProbabilityTable { classes, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn probabilities_come_back_to_the_bit_and_damage_is_located() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("metrics.csv"), "").unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        assert_eq!(run.probabilities().unwrap(), None);
        let row = |path: &str, label: usize| ProbabilityRow {
            path: path.into(),
            label,
            probabilities: vec![0.1 + 0.2, 1e-30, 1.0 / 3.0],
        };
        let table = ProbabilityTable {
            classes: ["path", "a, \"b\"", "ä"].map(String::from).to_vec(),
            rows: vec![row("x.jpg", 0), row("y, z.jpg", 2)],
        };
        run.write_probabilities(&table).unwrap();
        assert_eq!(run.probabilities().unwrap(), Some(table));

        let said = |text: &str| {
            fs::write(run.probabilities_csv(), text).unwrap();
            run.probabilities().unwrap_err().to_string()
        };
        for value in ["NaN", "inf", "-0.1", "2", "x", ""] {
            let said = said(&format!("path,class,a,b\nx,a,0.5,0.5\ny,b,0.5,{value}\n"));
            let expected = format!("line 3, `b`: `{value}` is no probability");
            assert!(said.contains(&expected), "{said}");
        }
        assert!(said("path,class,a\nx,c,1\n").contains("line 2: no column is called `c`"));
        assert!(said("a,b\n").contains("its first columns are not"));
        assert!(
            said("path,class,a,b\nx,a,1\n").contains("line: 2"),
            "unequal lengths"
        );
        assert!(said("").contains("its first columns are not"));
    }
}
