//! What there is to tell of a run, whoever is told.

use serde_json::Value;

use crate::records::MetricsRow;

/// A run as it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    /// 32 hexadecimal digits that this run has for good, and no other.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// The experiment that it belongs to.
    pub experiment: String,
    /// When it began, in milliseconds since 1970.
    pub started: i64,
    /// What it was set to.
    pub parameters: Vec<(String, String)>,
    /// What else is to be known of it.
    pub tags: Vec<(String, String)>,
    /// The configuration, as TOML.
    pub config: String,
}

/// A row of `metrics.csv`, at its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Optimizer steps so far; epochs in logs that do not tell steps.
    pub step: i64,
    /// When, in milliseconds since 1970.
    pub time: i64,
    /// Values by the names of their columns; only those that are there and finite.
    pub values: Vec<(&'static str, f64)>,
    /// The phase, and its number from 1.
    phase: (String, usize),
}

impl Point {
    /// The point of a row that follows `previous`.
    pub fn of(row: &MetricsRow, previous: Option<&Self>, time: i64) -> Self {
        let number = match previous {
            None => 1,
            Some(it) => it.phase.1 + usize::from(it.phase.0 != row.phase),
        };
        let given = [
            ("train_loss", row.train_loss),
            ("val_loss", row.val_loss),
            ("train_accuracy", row.train_accuracy),
            ("val_accuracy", row.val_accuracy),
            ("lr", Some(row.lr)),
            ("epoch", Some(row.epoch as f64)),
            ("phase", Some(number as f64)),
            ("phase_epoch", Some(row.phase_epoch as f64)),
            ("images_per_second", Some(row.images_per_second)),
            ("seconds", Some(row.seconds)),
        ];
        let there = given
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.filter(|it| it.is_finite())?)));
        Self {
            step: match row.step {
                0 => row.epoch as i64,
                step => step.cast_signed(),
            },
            time,
            values: there.collect(),
            phase: (row.phase.clone(), number),
        }
    }
}

/// The points of rows, whose own seconds tell how long after `started` they came.
pub fn points(rows: &[MetricsRow], started: i64) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(rows.len());
    let mut seconds = 0.0;
    for row in rows {
        seconds += if row.seconds.is_finite() {
            row.seconds
        } else {
            0.0
        };
        let time = started.saturating_add((1000.0 * seconds) as i64);
        points.push(Point::of(row, points.last(), time));
    }
    points
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// At work.
    Running,
    /// Complete.
    Finished,
    /// Ended by an error.
    Failed,
    /// Stopped from outside.
    Killed,
}

/// A run as it ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// How.
    pub state: State,
    /// When, in milliseconds since 1970.
    pub time: i64,
    /// Figures that belong to the run as a whole.
    pub results: Vec<(String, f64)>,
    /// What is to be read, in Markdown, by name.
    pub texts: Vec<(String, String)>,
    /// Files by name.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Longest name that trackers take.
const LONGEST_NAME: usize = 250;
/// Longest value that every version of MLflow takes.
const LONGEST_VALUE: usize = 500;

/// A configuration as names and values: `train.batch_size`, `phase.0.optimizer.lr`. Lists of plain
/// values, and of a head's layers, stay whole.
pub fn parameters(config: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    flatten("", config, &mut found);
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

fn flatten(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                flatten(&below(key), value, found);
            }
        }
        Value::Array(values) if path == "phase" => {
            for (index, value) in values.iter().enumerate() {
                flatten(&below(&index.to_string()), value, found);
            }
        }
        Value::String(text) => found.push((plain_name(path), shortened(text))),
        other => found.push((plain_name(path), shortened(&other.to_string()))),
    }
}

/// A name of characters that every tracker takes.
fn plain_name(path: &str) -> String {
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' | ' ' => c,
        _ => '_',
    };
    path.chars().map(plain).take(LONGEST_NAME).collect()
}

fn shortened(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    if line.chars().count() <= LONGEST_VALUE {
        return line;
    }
    line.chars()
        .take(LONGEST_VALUE - 3)
        .chain("...".chars())
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two phases of two epochs each, after an evaluation.
    pub(in crate::tracking) fn rows() -> Vec<MetricsRow> {
        let row = |epoch: usize| MetricsRow {
            phase: if epoch < 3 { "head" } else { "fine_tune" }.into(),
            phase_epoch: if epoch < 3 { epoch } else { epoch - 2 },
            epoch,
            step: 5 * epoch as u64,
            lr: 1e-3,
            train_loss: (epoch > 0).then_some(1.0 / epoch as f64),
            train_accuracy: (epoch > 0).then_some(0.25),
            val_loss: Some(0.5),
            val_accuracy: if epoch == 4 {
                Some(f64::NAN)
            } else {
                Some(0.75)
            },
            images_per_second: 100.0,
            seconds: 2.0,
        };
        (0..5).map(row).collect()
    }

    pub(in crate::tracking) fn story() -> Story {
        Story {
            id: "0123456789abcdef0123456789abcdef".into(),
            name: "2026-11-21T18-03-11_flowers_ab12cd".into(),
            experiment: "flowers: 'all'".into(),
            started: 1_800_000_000_000,
            parameters: parameters(&serde_json::json!({
                "seed": 1,
                "model": { "head": [{ "dense": 5 }] },
                "phase": [{ "name": "head", "optimizer": { "lr": 0.001 } }],
            })),
            tags: vec![("xp.version".into(), "0.1.0".into())],
            config: "seed = 1\n".into(),
        }
    }

    pub(in crate::tracking) fn ending() -> Ending {
        Ending {
            state: State::Finished,
            time: 1_800_000_011_000,
            results: vec![("test_accuracy".into(), 0.875)],
            texts: vec![("test".into(), "| a |\n|---|\n".into())],
            files: vec![("test.json".into(), b"{}".to_vec())],
        }
    }

    #[test]
    fn points_know_phase_step_and_time() {
        let points = points(&rows(), 1000);
        let steps: Vec<i64> = points.iter().map(|it| it.step).collect();
        assert_eq!(steps, [0, 5, 10, 15, 20]);
        assert_eq!(points[4].time, 1000 + 5 * 2000);
        let value = |at: usize, name: &str| {
            let found = points[at].values.iter().find(|it| it.0 == name);
            found.map(|it| it.1)
        };
        assert_eq!(value(0, "train_loss"), None);
        assert_eq!(value(4, "val_accuracy"), None, "not finite");
        assert_eq!(
            (value(2, "phase"), value(3, "phase")),
            (Some(1.0), Some(2.0))
        );
    }

    #[test]
    fn parameters_have_names_that_trackers_take() {
        let config = serde_json::json!({
            "train": { "class_weights": { "a/b[é]": 2.0 }, "batch_size": 8 },
            "phase": [{ "freeze": "all" }, { "freeze": ["a", "b"] }],
            "model": { "head": [{ "dense": 5 }] },
            "long": "x".repeat(600),
        });
        let found = parameters(&config);
        let shown: Vec<String> = found
            .iter()
            .map(|(name, value)| format!("{name}={}", &value[..value.len().min(12)]))
            .collect();
        assert_eq!(
            shown,
            [
                "long=xxxxxxxxxxxx",
                "model.head=[{\"dense\":5}",
                "phase.0.freeze=all",
                "phase.1.freeze=[\"a\",\"b\"]",
                "train.batch_size=8",
                "train.class_weights.a_b___=2.0",
            ]
        );
        assert_eq!(found[0].1.len(), 500);
    }
}
