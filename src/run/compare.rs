//! Why two runs differ: what decides their results, side by side, and where these part.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Manifest, RunDir};
use crate::config;
use crate::records::{MetricsRow, SplitRow, TestReport};

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

const CONFIG: &str = "the configs";
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

        let mut causes: Vec<&str> = Vec::new();
        if config.iter().any(|difference| difference.decides) {
            causes.push(CONFIG);
        }
        if data_differs {
            causes.push("the data");
        }
        let other = facts
            .iter()
            .filter(|fact| fact.decides && fact.same == Some(false));
        causes.extend(
            other
                .filter(|fact| ![DATA, SPLIT].contains(&fact.what))
                .map(|fact| match fact.what {
                    "weights" => "the weights",
                    "xp" => "the versions of xp",
                    "xp build" => "the builds of xp",
                    "device" => "the devices",
                    "instructions" => "the processors' instruction sets",
                    what => what,
                }),
        );
        causes.dedup();
        let parted = metrics.is_some() || results.differ();
        let all_known = tables.iter().all(Option::is_some)
            && facts
                .iter()
                .all(|fact| !fact.decides || fact.same.is_some());
        let verdict = match causes.as_slice() {
            [] => nothing_differs(parted, all_known),
            causes => {
                let mut verdict = format!("{} differ", list_of(causes));
                if causes == ["the data"] {
                    verdict = "the data differs".into();
                }
                if !data_differs && data == [Some(true); 2] {
                    verdict += ", the data is the same";
                } else if data_differs
                    && !causes.contains(&CONFIG)
                    && tables.iter().all(Option::is_some)
                {
                    verdict += ", the configs are the same";
                }
                verdict
            }
        };
        Self {
            verdict,
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

fn nothing_differs(parted: bool, all_known: bool) -> String {
    let verdict = match all_known {
        true => "nothing that decides results differs",
        false => "nothing that decides results is known to differ, but not everything is known",
    };
    match parted {
        true => format!("{verdict}, yet the results do"),
        false => verdict.into(),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn list_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn keep<T, E: std::fmt::Display>(read: Result<T, E>, unknown: &mut Vec<String>) -> Option<T> {
    read.map_err(|error| unknown.push(error.to_string())).ok()
}

/// What the manifests say, in the order of its weight.
fn facts(a: Option<&Manifest>, b: Option<&Manifest>) -> Vec<Fact> {
    type Value = fn(&Manifest) -> Option<String>;
    const DECIDES: bool = true;
    let all: [(&'static str, bool, Value); 13] = [
        (DATA, DECIDES, |m| filled(&m.fingerprints.data)),
        (SPLIT, DECIDES, |m| filled(&m.fingerprints.split)),
        ("weights", DECIDES, |m| filled(&m.fingerprints.weights)),
        (SEED, DECIDES, |m| Some(m.seed.to_string())),
        ("xp", DECIDES, |m| filled(&m.xp_version)),
        ("xp build", DECIDES, |m| m.xp_build.clone()),
        ("device", DECIDES, |m| filled(&m.device)),
        ("instructions", DECIDES, |m| m.instructions.clone()),
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

/// Keys whose values differ, in the order of the first table.
fn differences(a: &toml::Table, b: &toml::Table, same_data: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    in_tables("", a, b, &mut found);
    for difference in &mut found {
        let key = difference.key.as_str();
        let is_place = matches!(key, "data.root" | "data.manifest");
        difference.decides = config::decides(key) && !(same_data && is_place);
    }
    found
}

fn in_tables(path: &str, a: &toml::Table, b: &toml::Table, found: &mut Vec<Difference>) {
    let only_in_b = b.keys().filter(|key| !a.contains_key(*key));
    for key in a.keys().chain(only_in_b) {
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        in_values(&path, a.get(key), b.get(key), found);
    }
}

fn in_values(
    path: &str,
    a: Option<&toml::Value>,
    b: Option<&toml::Value>,
    found: &mut Vec<Difference>,
) {
    use toml::Value::{Array, Table};
    match (a, b) {
        (Some(Table(a)), Some(Table(b))) => in_tables(path, a, b, found),
        (Some(Array(a)), Some(Array(b))) if has_tables(a) && has_tables(b) => {
            for index in 0..a.len().max(b.len()) {
                let path = format!("{path}[{index}]");
                in_values(&path, a.get(index), b.get(index), found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(Difference {
            key: path.to_owned(),
            a: a.map(toml::Value::to_string),
            b: b.map(toml::Value::to_string),
            decides: true,
        }),
    }
}

fn has_tables(values: &[toml::Value]) -> bool {
    !values.is_empty() && values.iter().all(toml::Value::is_table)
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

/// The columns that do not depend on the clock.
fn columns(row: &MetricsRow) -> [(&'static str, String); 9] {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    [
        ("phase", row.phase.clone()),
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

    fn keys(a: &str, b: &str) -> Vec<(String, bool)> {
        let [a, b] = [a, b].map(|text| toml::from_str(text).unwrap());
        let found = differences(&a, &b, true).into_iter();
        found.map(|it| (it.key, it.decides)).collect()
    }

    #[test]
    fn keys_that_differ_are_found_by_path() {
        let a = "threads = 1\n[data]\nroot = 'x'\nimage_size = 32\n[[phase]]\nepochs = 2\nlr = 1";
        let b = "threads = 2\n[data]\nroot = 'y'\nimage_size = [32, 32]\n[[phase]]\nepochs = 3\nlr = 1\n\
                 [[phase]]\nepochs = 1\n[train]\nbatch_size = 8";
        let of = |key: &str, decides| (key.to_owned(), decides);
        assert_eq!(
            keys(a, b),
            [
                of("threads", false),
                of("data.root", false),
                of("data.image_size", true),
                of("phase[0].epochs", true),
                of("phase[1]", true),
                of("train", true),
            ]
        );
        assert_eq!(keys(a, a), []);
    }

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

    #[test]
    fn words_are_listed() {
        assert_eq!(list_of(&["a"]), "a");
        assert_eq!(list_of(&["a", "b", "c"]), "a, b and c");
    }
}
