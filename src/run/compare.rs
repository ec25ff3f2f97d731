//! Why two runs differ: what decides their results, side by side, and where these part.

mod keys;
mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Manifest, RunDir};
use crate::records::{MetricsRow, MicroBatch, SplitRow, TestReport};
use keys::differences;
pub use keys::is_place;
use verdict::Evidence;

/// Two runs compared.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The answer in one sentence.
    pub verdict: String,
    /// Whether anything that decides results differs, or the results do.
    pub different: bool,
    /// Keys of the configuration whose values differ.
    pub config: Vec<Difference>,
    /// Everything else about the runs that may differ, whether it does or not.
    pub facts: Vec<Fact>,
    /// Which pictures differ; `None` if none do or the runs do not tell.
    pub pictures: Option<Pictures>,
    /// The first value of `metrics.csv` that differs.
    pub metrics: Option<FirstDifference>,
    /// Rows of `metrics.csv`.
    pub rows: [Option<usize>; 2],
    /// What the runs came to.
    pub results: Results,
    /// What could not be compared, and why.
    pub unknown: Vec<String>,
}

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Path of a key, for example `phase[0].epochs`.
    pub key: String,
    /// Value in the first run; `None` if it has none.
    pub a: Option<String>,
    /// Value in the second run.
    pub b: Option<String>,
    /// Whether results depend on it.
    pub decides: bool,
}

/// Something that manifests know.
#[derive(Debug, Clone, Serialize)]
pub struct Fact {
    /// What it is.
    pub what: &'static str,
    /// Value in the first run; `None` if it is not known.
    pub a: Option<String>,
    /// Value in the second run.
    pub b: Option<String>,
    /// Whether results depend on it.
    pub decides: bool,
    /// Whether the two are known to be the same, or known to differ.
    pub same: Option<bool>,
}

/// Pictures that are not in both runs what they are in the other.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Pictures {
    /// Only in the first run.
    pub removed: Vec<String>,
    /// Only in the second run.
    pub added: Vec<String>,
    /// Of other bytes under the same path.
    pub changed: Vec<String>,
    /// Of another class.
    pub relabelled: Vec<String>,
    /// In another split.
    pub moved: Vec<String>,
}

/// A value of `metrics.csv` that differs.
#[derive(Debug, PartialEq, Serialize)]
pub struct FirstDifference {
    /// Row, counted from 1 below the header.
    pub row: usize,
    /// Phase in the first run.
    pub phase: String,
    /// Epoch in the first run.
    pub epoch: usize,
    /// Name of the column.
    pub column: &'static str,
    /// Value in the first run; empty if it has none.
    pub a: String,
    /// Value in the second run.
    pub b: String,
}

/// What two runs came to.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// Accuracy on the test split, 0 to 1.
    pub test_accuracy: [Option<f64>; 2],
    /// Loss on the test split.
    pub test_loss: [Option<f64>; 2],
    /// Pictures in both `predictions.csv`, and how many of them are classified differently.
    pub predictions: Option<[usize; 2]>,
}

const DATA: &str = "data";
const SPLIT: &str = "split";
const SEED: &str = "seed";
/// What the fact of the command lines is called.
pub const COMMAND: &str = "command line";

impl Comparison {
    /// Compares what two run directories hold. What cannot be read is [unknown](Self::unknown).
    pub fn of(a: &RunDir, b: &RunDir) -> Self {
        let mut unknown = Vec::new();
        let [ma, mb] = [a, b].map(|run| keep(run.manifest(), &mut unknown));
        let mut facts = facts(ma.as_ref(), mb.as_ref());
        let is_same = |what: &str| {
            let fact = facts.iter().find(|fact| fact.what == what);
            fact.and_then(|fact| fact.same)
        };
        let data = [is_same(DATA), is_same(SPLIT)];
        let pictures = match data {
            [Some(true), Some(true)] => None,
            _ => pictures(a, b, &mut unknown),
        };
        let data_differs = data.contains(&Some(false)) || pictures.is_some();
        let tables = [a, b].map(|run| {
            let read = super::list::toml_table(&run.resolved_toml());
            keep(read, &mut unknown)
        });
        let config = match &tables {
            [Some(a), Some(b)] => {
                // The configuration tells of it.
                facts.retain(|fact| fact.what != SEED || fact.same == Some(true));
                differences(a, b, data == [Some(true), Some(true)])
            }
            _ => Vec::new(),
        };
        let logs = [a, b].map(|run| keep(run.metrics(), &mut unknown).map(|log| log.rows));
        let metrics = match &logs {
            [Some(a), Some(b)] => first_difference(a, b),
            _ => None,
        };
        let rows = logs.map(|rows| rows.map(|rows| rows.len()));
        let results = Results::of(a, b, &mut unknown);

        let parted = metrics.is_some() || results.differ();
        let evidence = Evidence {
            config: tables
                .iter()
                .all(Option::is_some)
                .then(|| config.iter().any(|difference| difference.decides)),
            data: match data {
                _ if data_differs => Some(true),
                [Some(true), Some(true)] => Some(false),
                _ => None,
            },
            facts: &facts,
            parted,
        };
        let causes = evidence.causes();
        Self {
            verdict: evidence.verdict(&causes),
            different: !causes.is_empty() || parted,
            config,
            facts,
            pictures,
            metrics,
            rows,
            results,
            unknown,
        }
    }
}

fn keep<T, E: std::fmt::Display>(read: Result<T, E>, unknown: &mut Vec<String>) -> Option<T> {
    read.map_err(|error| unknown.push(error.to_string())).ok()
}

/// What the manifests say, in the order of its weight.
fn facts(a: Option<&Manifest>, b: Option<&Manifest>) -> Vec<Fact> {
    type Value = fn(&Manifest) -> Option<String>;
    const DECIDES: bool = true;
    let all: [(&'static str, bool, Value); 14] = [
        (DATA, DECIDES, |m| filled(&m.fingerprints.data)),
        (SPLIT, DECIDES, |m| filled(&m.fingerprints.split)),
        ("weights", DECIDES, |m| filled(&m.fingerprints.weights)),
        (SEED, DECIDES, |m| Some(m.seed.to_string())),
        ("xp", DECIDES, |m| filled(&m.xp_version)),
        ("xp build", DECIDES, |m| m.xp_build.clone()),
        ("device", DECIDES, |m| filled(&m.device)),
        ("instructions", DECIDES, |m| m.instructions.clone()),
        ("micro-batch", DECIDES, |m| {
            m.micro_batch.map(|it| match it {
                MicroBatch::Whole => "the batch".into(),
                MicroBatch::Pictures(pictures) => pictures.to_string(),
            })
        }),
        ("threads used", false, |m| Some(m.threads.to_string())),
        ("host", false, |m| filled(&m.process.host)),
        ("git commit", false, |m| m.git_commit.clone()),
        (COMMAND, false, |m| filled(&m.command_line.join(" "))),
        ("status", false, |m| {
            Some(super::Condition::of(m).name().into())
        }),
    ];
    let fact = |(what, decides, value): (&'static str, bool, Value)| {
        let (a, b) = (a.and_then(value), b.and_then(value));
        let same = a.as_ref().zip(b.as_ref()).map(|(a, b)| a == b);
        Fact {
            what,
            a,
            b,
            decides,
            same,
        }
    };
    all.map(fact).into()
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Pictures that differ by `split.csv`; `None` if none do, or if that cannot be read.
fn pictures(a: &RunDir, b: &RunDir, unknown: &mut Vec<String>) -> Option<Pictures> {
    let [a, b] = [a, b].map(|run| keep(run.split(), unknown));
    let by_path = |rows: Vec<SplitRow>| {
        let rows = rows.into_iter();
        rows.map(|row| (row.path.clone(), row))
            .collect::<BTreeMap<_, _>>()
    };
    let (a, mut b) = (by_path(a?), by_path(b?));
    let mut found = Pictures::default();
    for (path, row) in a {
        let Some(other) = b.remove(&path) else {
            found.removed.push(path);
            continue;
        };
        let known = !row.blake3.is_empty() && !other.blake3.is_empty();
        if known && row.blake3 != other.blake3 {
            found.changed.push(path.clone());
        }
        if row.class != other.class {
            found.relabelled.push(path.clone());
        }
        if row.split != other.split {
            found.moved.push(path);
        }
    }
    found.added = b.into_keys().collect();
    (found != Pictures::default()).then_some(found)
}

/// The columns that do not depend on the clock or on what phases are called.
fn columns(row: &MetricsRow) -> [(&'static str, String); 8] {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    [
        ("phase_epoch", row.phase_epoch.to_string()),
        ("epoch", row.epoch.to_string()),
        ("step", row.step.to_string()),
        ("lr", row.lr.to_string()),
        ("train_loss", number(row.train_loss)),
        ("train_accuracy", number(row.train_accuracy)),
        ("val_loss", number(row.val_loss)),
        ("val_accuracy", number(row.val_accuracy)),
    ]
}

/// Numbers are written in the shortest form that reads back to the same bits, so that texts differ
/// where numbers do.
fn first_difference(a: &[MetricsRow], b: &[MetricsRow]) -> Option<FirstDifference> {
    let rows = a.iter().zip(b).enumerate();
    for (index, (a, b)) in rows {
        let pairs = columns(a).into_iter().zip(columns(b));
        for ((column, left), (_, right)) in pairs {
            if left != right {
                return Some(FirstDifference {
                    row: index + 1,
                    phase: a.phase.clone(),
                    epoch: a.epoch,
                    column,
                    a: left,
                    b: right,
                });
            }
        }
    }
    None
}

impl Results {
    fn of(a: &RunDir, b: &RunDir, unknown: &mut Vec<String>) -> Self {
        let tests = [a, b].map(|run| keep(run.test(), unknown).flatten());
        let of = |value: fn(&TestReport) -> f64| tests.each_ref().map(|it| it.as_ref().map(value));
        let predicted = [a, b].map(|run| match run.predictions_csv().exists() {
            true => keep(run.predictions(), unknown),
            false => None,
        });
        let predictions = match predicted {
            [Some(a), Some(b)] => {
                let by_path: BTreeMap<_, _> =
                    a.into_iter().map(|row| (row.path, row.predicted)).collect();
                let both = b.iter().filter_map(|row| {
                    let other = by_path.get(&row.path)?;
                    Some(*other != row.predicted)
                });
                let both: Vec<bool> = both.collect();
                Some([both.len(), both.iter().filter(|differ| **differ).count()])
            }
            _ => None,
        };
        Self {
            test_accuracy: of(|test| test.accuracy),
            test_loss: of(|test| test.loss),
            predictions,
        }
    }

    /// Whether results that both runs have differ.
    fn differ(&self) -> bool {
        let differs = |pair: &[Option<f64>; 2]| match pair {
            [Some(a), Some(b)] => a.to_bits() != b.to_bits(),
            _ => false,
        };
        differs(&self.test_accuracy)
            || differs(&self.test_loss)
            || self.predictions.is_some_and(|[_, differ]| differ > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_metric_that_differs_is_named() {
        let row = |epoch, loss: Option<f64>, seconds| MetricsRow {
            phase: "p".into(),
            phase_epoch: epoch,
            epoch,
            step: 0,
            lr: 0.1,
            train_loss: loss,
            train_accuracy: Some(f64::NAN),
            val_loss: None,
            val_accuracy: None,
            images_per_second: seconds,
            seconds,
        };
        let a = [row(0, None, 1.0), row(1, Some(0.3), 1.0)];
        let b = [row(0, None, 2.0), row(1, Some(0.1 + 0.2), 2.0)];
        assert_eq!(first_difference(&a, &a), None);
        assert_eq!(first_difference(&a[..1], &b), None);
        let found = first_difference(&a, &b).unwrap();
        assert_eq!((found.row, found.epoch, found.column), (2, 1, "train_loss"));
        assert_eq!([found.a, found.b], ["0.3", "0.30000000000000004"]);
    }
}
