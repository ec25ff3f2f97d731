//! What trials came to: a table a trial a row, and a leaderboard of what may be said over seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::statistics::{Mean, Paired};
use super::trial::{keys, show};
use super::{Condition, Ended, SweepDir, Trial};
use crate::config;
use crate::fsx::{self, FsError};
use crate::run::{self, Listed, RunDir, RunError, list};

/// A run with its configuration.
#[derive(Debug, Clone, Serialize)]
pub struct TrialResult {
    /// How it stands.
    #[serde(flatten)]
    pub run: Listed,
    /// Validation loss of the best epoch.
    pub val_loss: Option<f64>,
    /// Seconds of work: without the time between two processes, unlike those of the run.
    pub work: Option<f64>,
    /// Its seed.
    pub seed: Option<u64>,
    /// Fingerprint of pictures and labels; empty if not known.
    pub data: String,
    /// Fingerprint of its split; empty if not known.
    pub split: String,
    /// Its whole configuration.
    pub config: Value,
}

impl TrialResult {
    /// What a run directory holds. A configuration that cannot be read is empty.
    pub fn of(listed: Listed) -> Self {
        let dir = RunDir::open(&listed.run);
        let manifest = dir.as_ref().ok().and_then(|dir| dir.manifest().ok());
        let table = dir.as_ref().ok().map(RunDir::resolved_toml);
        let table = table.and_then(|path| list::toml_table(&path).ok());
        let config = table.and_then(|table| serde_json::to_value(table).ok());
        let fingerprints = manifest.as_ref().map(|manifest| &manifest.fingerprints);
        Self {
            val_loss: manifest.as_ref().and_then(|it| it.best?.val_loss),
            work: manifest
                .as_ref()
                .and_then(|it| it.timings.get("work").copied())
                .or(listed.seconds),
            seed: manifest.as_ref().map(|manifest| manifest.seed),
            data: fingerprints.map_or_else(String::new, |it| it.data.clone()),
            split: fingerprints.map_or_else(String::new, |it| it.split.clone()),
            config: config.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            run: listed,
        }
    }

    /// Whether a condition holds of its configuration and of what it came to.
    pub fn satisfies(&self, condition: &Condition) -> bool {
        condition.holds(&self.facts())
    }

    /// The configuration with the result beside its sections, for conditions and sorting.
    pub fn facts(&self) -> Value {
        let mut facts = self.config.clone();
        let result = serde_json::to_value(Self {
            config: Value::Null,
            ..self.clone()
        });
        if let (Some(facts), Ok(Value::Object(result))) = (facts.as_object_mut(), result) {
            for (key, value) in result {
                if key != "config" && key != "name" && key != "data" {
                    facts.insert(key, value);
                }
            }
        }
        facts
    }

    fn is_done(&self) -> bool {
        self.run.status == run::Condition::Done
    }
}

/// Runs of one configuration but for the seed.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Name of the experiment.
    pub name: String,
    /// The keys in which groups differ, and its values.
    pub settings: IndexMap<String, Value>,
    /// Its runs.
    pub runs: Vec<PathBuf>,
    /// Best validation accuracy, 0 to 1, over its runs.
    pub val_accuracy: Option<Mean>,
    /// Test accuracy, 0 to 1, over its runs.
    pub test_accuracy: Option<Mean>,
    /// Seconds a run.
    pub seconds: Option<Mean>,
    /// What its runs less those of the first group come to, paired by split and seed, so that all
    /// verdicts of a leaderboard are right in 95 of 100; `None` of the first itself.
    pub to_first: Option<Paired>,
}

impl Group {
    /// The accuracy that groups are compared on.
    pub fn accuracy(&self, tested: bool) -> Option<Mean> {
        match tested {
            true => self.test_accuracy,
            false => self.val_accuracy,
        }
    }
}

/// Complete runs on the same pictures, best first.
#[derive(Debug, Serialize)]
pub struct Leaderboard {
    /// Fingerprint of the pictures.
    pub data: String,
    /// Whether groups are compared on test accuracy, and not on that of validation.
    pub tested: bool,
    /// Ordered by validation accuracy, and by test accuracy where there is none.
    pub groups: Vec<Group>,
    /// Runs that are left out: a newer one has the same configuration, seed and split, and so the same
    /// result.
    pub repeated: usize,
}

impl Leaderboard {
    /// A leaderboard for all complete runs on the same pictures, the largest first: accuracies on
    /// other pictures are not comparable.
    pub fn of<'a>(results: impl IntoIterator<Item = &'a TrialResult>) -> Vec<Self> {
        let done = results.into_iter().filter(|it| it.is_done());
        let done: Vec<&TrialResult> = done.collect();
        let mut by_pictures: IndexMap<String, Vec<&TrialResult>> = IndexMap::new();
        for (pictures, result) in pictures(&done).into_iter().zip(&done) {
            by_pictures.entry(pictures).or_default().push(result);
        }
        let boards = by_pictures.into_iter();
        let mut boards: Vec<Self> = boards
            .map(|(data, results)| Self::of_comparable(&data, &results))
            .collect();
        boards.sort_by_key(|board| {
            let runs = board.groups.iter().map(|group| group.runs.len());
            std::cmp::Reverse(runs.sum::<usize>())
        });
        boards
    }

    fn of_comparable(data: &str, results: &[&TrialResult]) -> Self {
        let mut groups: BTreeMap<String, Vec<(&TrialResult, Leaves)>> = BTreeMap::new();
        let mut newest: Vec<&TrialResult> = results.to_vec();
        newest.sort_by_key(|result| std::cmp::Reverse(result.run.started));
        let mut seen = BTreeSet::new();
        let mut repeated = 0;
        for result in newest {
            let leaves = leaves(&result.config);
            let key = serde_json::to_string(&leaves).unwrap_or_default();
            if !seen.insert((key.clone(), result.seed, &result.split, &result.data)) {
                repeated += 1;
                continue;
            }
            groups.entry(key).or_default().push((result, leaves));
        }
        for members in groups.values_mut() {
            members.sort_by_key(|(result, _)| result.seed);
        }
        let all: Vec<&Leaves> = groups
            .values()
            .filter_map(|it| Some(&it.first()?.1))
            .collect();
        let keys: BTreeSet<&String> = all.iter().flat_map(|leaves| leaves.keys()).collect();
        let differ = |key: &String| {
            let values = all.iter().map(|leaves| leaves.get(key));
            let values: Vec<Option<&Value>> = values.collect();
            values.windows(2).any(|pair| pair[0] != pair[1])
        };
        let keys: Vec<String> = keys
            .into_iter()
            .filter(|key| differ(key))
            .cloned()
            .collect();
        let tested = results.iter().all(|it| it.run.test_accuracy.is_some());
        let mut members: Vec<(Group, Vec<&TrialResult>)> = groups
            .into_values()
            .map(|members| group(&members, &keys))
            .collect();
        let score = |group: &Group| {
            let accuracies = [group.val_accuracy, group.test_accuracy];
            accuracies.map(|mean| mean.map_or(-1.0, |mean| mean.mean))
        };
        members.sort_by(|(a, _), (b, _)| {
            let [a, b] = [score(a), score(b)];
            b[0].total_cmp(&a[0]).then(b[1].total_cmp(&a[1]))
        });
        let first = members.first().map(|(_, runs)| runs.clone());
        let comparisons = members.len().saturating_sub(1);
        for (group, runs) in members.iter_mut().skip(1) {
            let first = first.as_deref().unwrap_or_default();
            group.to_first = Some(Paired::of(&pairs(runs, first, tested), comparisons));
        }
        Self {
            data: data.to_owned(),
            tested,
            groups: members.into_iter().map(|(group, _)| group).collect(),
            repeated,
        }
    }
}

fn group<'a>(
    members: &[(&'a TrialResult, Leaves)],
    keys: &[String],
) -> (Group, Vec<&'a TrialResult>) {
    let runs: Vec<&TrialResult> = members.iter().map(|(result, _)| *result).collect();
    let mean = |value: fn(&TrialResult) -> Option<f64>| {
        let values = runs.iter().map(|result| value(result));
        let values: Option<Vec<f64>> = values.collect();
        Mean::of(&values?)
    };
    let leaves = members.first().map(|(_, leaves)| leaves);
    let settings = keys.iter().map(|key| {
        let value = leaves.and_then(|leaves| leaves.get(key));
        (key.clone(), value.cloned().unwrap_or_default())
    });
    let group = Group {
        name: runs
            .first()
            .map_or_else(String::new, |it| it.run.name.clone()),
        settings: settings.collect(),
        runs: runs.iter().map(|result| result.run.run.clone()).collect(),
        val_accuracy: mean(|it| it.run.val_accuracy),
        test_accuracy: mean(|it| it.run.test_accuracy),
        seconds: mean(|it| it.work),
        to_first: None,
    };
    (group, runs)
}

/// What pictures each run saw: the fingerprint of their bytes. Pictures that the seed draws differ
/// from seed to seed; there it is the source that they are drawn from, unless that has changed.
fn pictures(results: &[&TrialResult]) -> Vec<String> {
    let sources: Vec<Option<String>> = results.iter().map(|it| drawn_from(it)).collect();
    // What each source gave for a seed, and the sources that have not always given the same.
    let mut given: BTreeMap<(&str, Option<u64>), &str> = BTreeMap::new();
    let mut changed: BTreeSet<&str> = BTreeSet::new();
    for (source, result) in sources.iter().zip(results) {
        let Some(source) = source else { continue };
        let first = given.entry((source, result.seed)).or_insert(&result.data);
        if *first != result.data {
            changed.insert(source);
        }
    }
    let pictures = sources.iter().zip(results).map(|(source, result)| {
        let source = source.as_deref().filter(|source| !changed.contains(source));
        source.map_or_else(
            || result.data.clone(),
            |source| blake3::hash(source.as_bytes()).to_hex().to_string(),
        )
    });
    pictures.collect()
}

/// The source that a run's seed drew its pictures from, if it did.
fn drawn_from(result: &TrialResult) -> Option<String> {
    let data = result.config.get("data")?.as_object()?;
    if !SEEDED.iter().any(|key| data.contains_key(*key)) {
        return None;
    }
    let decides =
        |key: &str| SEEDED.contains(&key) || run::compare::is_place(&format!("data.{key}"));
    let decisive = data.iter().filter(|(key, _)| decides(key));
    serde_json::to_string(&decisive.collect::<BTreeMap<_, _>>()).ok()
}

/// Keys of `[data]` that draw pictures from the seed.
const SEEDED: [&str; 2] = ["generate", "max_per_class"];

/// Accuracies of runs of the same split and seed.
fn pairs(runs: &[&TrialResult], others: &[&TrialResult], tested: bool) -> Vec<(f64, f64)> {
    let accuracy = |result: &TrialResult| match tested {
        true => result.run.test_accuracy,
        false => result.run.val_accuracy,
    };
    let pair = |run: &&TrialResult| {
        let partner = others.iter().find(|other| {
            !run.split.is_empty() && (&other.split, other.seed) == (&run.split, run.seed)
        });
        accuracy(run).zip(accuracy(partner?))
    };
    runs.iter().filter_map(pair).collect()
}

/// The values of a configuration that decide results, by the paths of their keys; seed and place of
/// the pictures aside. Of lists, phases alone are taken apart: a head is one value.
type Leaves = BTreeMap<String, Value>;

fn leaves(config: &Value) -> Leaves {
    let mut found = Leaves::new();
    collect("", config, &mut found);
    found.retain(|key, _| config::decides(key) && key != "seed" && !run::compare::is_place(key));
    found
}

fn collect(path: &str, value: &Value, found: &mut Leaves) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                collect(&path, value, found);
            }
        }
        Value::Array(values) if path == "phase" => {
            for (index, value) in values.iter().enumerate() {
                collect(&format!("{path}[{index}]"), value, found);
            }
        }
        value => {
            found.insert(path.to_owned(), value.clone());
        }
    }
}

/// Writes `sweep.csv`: a row a trial, in the order of the trials. `unfinished` says how those stand
/// that have no complete run, by id.
///
/// # Errors
/// If it cannot be written.
pub fn write_table(
    sweep: &SweepDir,
    trials: &[Trial],
    results: &[Option<TrialResult>],
    unfinished: &BTreeMap<String, Ended>,
) -> Result<(), RunError> {
    let keys = keys(trials);
    let head = ["trial", "experiment", "status"];
    let tail = [
        "best_epoch",
        "val_accuracy",
        "val_loss",
        "test_accuracy",
        "epochs",
        "seconds",
        "run",
        "reason",
    ];
    let path = sweep.table();
    let rows = trials.iter().zip(results);
    let rows: Vec<Vec<String>> = rows
        .map(|(trial, result)| row(sweep.path(), trial, &keys, result.as_ref(), unfinished))
        .collect();
    fsx::write_atomic_with(&path, |file| {
        let mut table = csv::Writer::from_writer(file);
        let keys_shown = keys.iter().map(|key| key.as_str());
        table.write_record(head.into_iter().chain(keys_shown).chain(tail))?;
        for row in &rows {
            table.write_record(row)?;
        }
        table.flush()
    })
    .map_err(|error: FsError| error.into())
}

/// How a trial stands by `sweep.csv`, and why: what its sweep knew when it wrote that.
pub type Noted = BTreeMap<String, (String, String)>;

/// Reads that of every trial, by id.
///
/// # Errors
/// If the table cannot be read. Rows that are no trial's are passed over.
pub fn read_table(path: &Path) -> Result<Noted, RunError> {
    let bytes = fsx::read(path)?;
    let mut table = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(bytes.as_slice());
    let header = table.headers().cloned().unwrap_or_default();
    let column = |name: &str| header.iter().position(|it| it == name);
    let columns = ["trial", "status", "reason"].map(column);
    let rows = table.records().flatten().filter_map(|row| {
        let cell = |index: usize| Some(row.get(columns[index]?)?.to_owned());
        Some((cell(0)?, (cell(1)?, cell(2).unwrap_or_default())))
    });
    Ok(rows.collect())
}

/// How the trials of a sweep stand that have begun, in the order of the trials.
pub fn read(sweep: &SweepDir, trials: &[Trial]) -> Vec<Option<TrialResult>> {
    let read = |trial: &Trial| sweep.look_at(trial).map(TrialResult::of);
    trials.par_iter().map(read).collect()
}

/// How a trial stands in a word, and why, where there is more to say. `unfinished` as for
/// [`write_table`].
pub fn standing(
    trial: &Trial,
    run: Option<&Listed>,
    unfinished: &BTreeMap<String, Ended>,
) -> (String, String) {
    match (run, unfinished.get(&trial.id)) {
        (Some(run), _) if run.status == run::Condition::Done => ("done".into(), String::new()),
        (_, Some(ended)) => {
            let reason = ended.reason().unwrap_or_default();
            (ended.name().to_owned(), reason.to_owned())
        }
        (Some(run), None) => {
            let reason = run.reason.clone().unwrap_or_default();
            (run.status.name().to_owned(), reason)
        }
        (None, None) => ("waiting".into(), String::new()),
    }
}

fn row(
    folder: &Path,
    trial: &Trial,
    keys: &indexmap::IndexSet<&String>,
    result: Option<&TrialResult>,
    unfinished: &BTreeMap<String, Ended>,
) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let whole = |value: Option<usize>| value.map_or_else(String::new, |value| value.to_string());
    let run = result.map(|result| &result.run);
    let (status, reason) = standing(trial, run, unfinished);
    let mut cells = vec![trial.id.clone(), trial.name.clone(), status];
    cells.extend(
        keys.iter()
            .map(|key| trial.settings.get(*key).map_or_else(String::new, show)),
    );
    cells.extend([
        whole(run.and_then(|run| run.best_epoch)),
        number(run.and_then(|run| run.val_accuracy)),
        number(result.and_then(|result| result.val_loss)),
        number(run.and_then(|run| run.test_accuracy)),
        whole(run.and_then(|run| run.epochs)),
        result
            .and_then(|result| result.work)
            .map_or_else(String::new, |seconds| format!("{seconds:.1}")),
        run.map_or_else(String::new, |run| {
            let shown = run.run.strip_prefix(folder).unwrap_or(&run.run);
            shown.to_string_lossy().into_owned()
        }),
        reason.replace(['\n', '\r'], " "),
    ]);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(config: Value, seed: u64, data: &str, accuracy: f64) -> TrialResult {
        let run = Listed {
            run: PathBuf::from(format!("{seed}_{data}_{accuracy}")),
            name: "a".into(),
            status: run::Condition::Done,
            reason: None,
            epochs: Some(1),
            epochs_planned: Some(1),
            best_epoch: Some(1),
            val_accuracy: Some(accuracy),
            test_accuracy: Some(accuracy),
            started: None,
            heartbeat: None,
            seconds: Some(1.0),
        };
        TrialResult {
            run,
            val_loss: None,
            work: Some(1.0),
            seed: Some(seed),
            data: data.into(),
            split: format!("split {seed} of {data}"),
            config,
        }
    }

    #[test]
    fn groups_are_told_apart_by_what_decides() {
        let config =
            |lr: f64, seed: u64| json!({ "seed": seed, "threads": seed, "phase": [{ "lr": lr }] });
        let mut results = Vec::new();
        for seed in 0..4 {
            let shift = seed as f64 / 100.0;
            results.push(result(config(0.1, seed), seed, "x", 0.80 + shift));
            results.push(result(
                config(0.2, seed),
                seed,
                "x",
                0.79 + shift + shift / 100.0,
            ));
        }
        results.push(result(config(0.1, 0), 0, "other pictures", 0.99));
        let boards = Leaderboard::of(&results);
        assert_eq!(boards.len(), 2);
        let [first, second] = boards[0].groups.as_slice() else {
            panic!("{:?}", boards[0].groups);
        };
        assert_eq!(first.settings["phase[0].lr"], json!(0.1));
        assert_eq!((first.runs.len(), second.runs.len()), (4, 4));
        // The same run in two folders is one.
        let twice: Vec<_> = results.iter().chain(&results[..1]).cloned().collect();
        let again = &Leaderboard::of(&twice)[0];
        assert_eq!((again.repeated, again.groups[0].runs.len()), (1, 4));
        let paired = second.to_first.unwrap();
        assert_eq!(paired.difference.unwrap().count, 4);
        assert_eq!(paired.verdict, super::super::statistics::Verdict::Smaller);
        assert_eq!(boards[1].data, "other pictures");
    }

    #[test]
    fn pictures_that_the_seed_draws_are_one_source_until_it_changes() {
        let config = |lr: f64| json!({ "phase": [{ "lr": lr }], "data": { "root": "a", "max_per_class": 5 } });
        let mut results = Vec::new();
        for seed in 0..2 {
            for lr in [0.1, 0.2] {
                results.push(result(config(lr), seed, &format!("pictures {seed}"), lr));
            }
        }
        assert_eq!(Leaderboard::of(&results).len(), 1);
        results.push(result(config(0.1), 0, "pictures 0 of today", 0.5));
        assert_eq!(Leaderboard::of(&results).len(), 3);
    }
}
