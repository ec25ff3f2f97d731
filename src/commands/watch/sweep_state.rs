//! How the trials of a sweep stand, from its folder alone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Serialize;

use super::files::Kept;
use super::left::Left;
use super::run_state::RunReader;
use crate::commands::compare;
use crate::run::{Condition, Listed};
use crate::sweep::results::{self, Noted, TrialResult};
use crate::sweep::{Ended, Leaderboard, SweepDir, Trial};

/// A trial as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct TrialState {
    /// Its id.
    pub trial: String,
    /// What its axes set.
    pub settings: String,
    /// How it stands, in a word.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
    /// Epochs that are over.
    pub epoch: Option<usize>,
    /// Epochs at most.
    pub epochs: Option<usize>,
    /// Best validation accuracy so far.
    pub val_accuracy: Option<f64>,
    /// Test accuracy.
    pub test_accuracy: Option<f64>,
    /// Seconds left, if it is at work.
    pub left: Option<Left>,
    /// Its run directory.
    pub run: PathBuf,
}

/// A sweep as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct SweepState {
    /// Its folder.
    pub sweep: PathBuf,
    /// Whether that is not there any more; all else is as it was last.
    pub gone: bool,
    /// How many trials stand how.
    pub counts: IndexMap<String, usize>,
    /// Seconds left of all.
    pub left: Option<Left>,
    /// The trials, in order.
    pub trials: Vec<TrialState>,
    /// Columns of the leaderboard, those of figures with a `>`, and its rows.
    #[serde(skip)]
    pub leaderboard: (Vec<String>, Vec<Vec<String>>),
    /// What cannot be read.
    pub damage: Vec<String>,
}

impl SweepState {
    /// Whether every trial has ended, one way or another.
    pub fn is_over(&self) -> bool {
        let open = ["running", "waiting", "broken", Ended::Paused.name()];
        let ended = |it: &TrialState| !open.contains(&it.status.as_str());
        self.gone || (!self.trials.is_empty() && self.trials.iter().all(ended))
    }
}

/// Reads a sweep's folder again and again.
#[derive(Debug)]
pub struct SweepReader {
    sweep: SweepDir,
    plan: Kept<Vec<Trial>>,
    table: Kept<Noted>,
    runs: HashMap<String, RunReader>,
    /// Complete runs, as the leaderboard takes them, by trial.
    complete: HashMap<String, TrialResult>,
    leaderboard: (Vec<String>, Vec<Vec<String>>),
    last: Option<SweepState>,
}

impl SweepReader {
    /// For a sweep's folder.
    pub fn new(path: &Path) -> Self {
        Self {
            sweep: SweepDir::at(path.to_path_buf()),
            plan: Kept::default(),
            table: Kept::default(),
            runs: HashMap::new(),
            complete: HashMap::new(),
            leaderboard: Default::default(),
            last: None,
        }
    }

    /// How it stood when it was last looked at.
    pub fn last(&self) -> Option<&SweepState> {
        self.last.as_ref()
    }

    /// How it stands now.
    pub fn look(&mut self) -> &SweepState {
        let state = match (self.sweep.path().is_dir(), self.last.take()) {
            (false, Some(last)) => SweepState {
                gone: true,
                left: None,
                ..last
            },
            _ => self.read(),
        };
        self.last.insert(state)
    }

    fn read(&mut self) -> SweepState {
        let sweep = self.sweep.clone();
        self.plan.look(&sweep.plan(), |_| sweep.read_trials());
        self.table.look(&sweep.table(), results::read_table);
        let trials = self.plan.get().cloned().unwrap_or_default();
        let mut walls = Vec::new();
        let mut changed = false;
        let mut states = Vec::new();
        let mut at_work = Vec::new();
        for trial in &trials {
            let path = sweep.run(trial);
            if !path.is_dir() {
                self.runs.remove(&trial.id);
                changed |= self.complete.remove(&trial.id).is_some();
                states.push(self.waiting(trial, path));
                continue;
            }
            let reader = self.runs.entry(trial.id.clone());
            let reader = reader.or_insert_with(|| RunReader::without_messages(&path));
            let run = reader.glance();
            let listed = &run.run;
            if listed.status == Condition::Done {
                let known = self.complete.get(&trial.id);
                if known.is_none_or(|known| known.run.heartbeat != listed.heartbeat) {
                    let result = TrialResult::of(listed.clone());
                    self.complete.insert(trial.id.clone(), result);
                    changed = true;
                }
                let known = self.complete.get(&trial.id);
                walls.extend(known.and_then(|known| known.work));
            } else {
                changed |= self.complete.remove(&trial.id).is_some();
            }
            let noted = self.table.get().and_then(|noted| noted.get(&trial.id));
            states.push(TrialState {
                trial: trial.id.clone(),
                settings: trial.shown(),
                status: status(listed, noted),
                reason: listed.reason.clone(),
                epoch: listed.epochs,
                epochs: listed.epochs_planned,
                val_accuracy: listed.val_accuracy,
                test_accuracy: listed.test_accuracy,
                left: None,
                run: path,
            });
            at_work.push((states.len() - 1, run.left, listed.clone()));
        }
        for (index, own, listed) in at_work {
            states[index].left = running_left(own, &listed, &walls);
        }
        if changed {
            let complete = trials
                .iter()
                .filter_map(|trial| self.complete.get(&trial.id));
            let boards = Leaderboard::of(complete);
            self.leaderboard = boards.first().map(compare::cells).unwrap_or_default();
        }
        let mut counts = IndexMap::new();
        for state in &states {
            *counts.entry(state.status.clone()).or_default() += 1;
        }
        let damage = [self.plan.error(), self.table.damage()];
        SweepState {
            sweep: sweep.path().to_path_buf(),
            gone: false,
            left: left(&states, &walls),
            counts,
            trials: states,
            leaderboard: self.leaderboard.clone(),
            damage: damage
                .into_iter()
                .flatten()
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// A trial without a run directory: it has not begun, or failed before it had one.
    fn waiting(&self, trial: &Trial, run: PathBuf) -> TrialState {
        let noted = self.table.get().and_then(|noted| noted.get(&trial.id));
        let failed = noted.filter(|(status, _)| status == FAILED);
        TrialState {
            trial: trial.id.clone(),
            settings: trial.shown(),
            status: failed.map_or_else(
                || Ended::Waiting.name().into(),
                |(status, _)| status.clone(),
            ),
            reason: failed.map(|(_, reason)| reason.clone()),
            epoch: None,
            epochs: None,
            val_accuracy: None,
            test_accuracy: None,
            left: None,
            run,
        }
    }
}

const FAILED: &str = "failed";

/// As the run says; one that its sweep has stopped says that it was interrupted.
fn status(run: &Listed, noted: Option<&(String, String)>) -> String {
    let stopped = Ended::Paused.name();
    match noted {
        Some((noted, _)) if noted == stopped && run.status == Condition::Interrupted => {
            stopped.into()
        }
        _ => run.status.name().into(),
    }
}

/// What is left of a run at work. Where its rows do not tell, complete runs of the sweep do: it will
/// hardly take longer than the longest of them.
fn running_left(own: Option<Left>, run: &Listed, complete: &[f64]) -> Option<Left> {
    if run.status != Condition::Running {
        return None;
    }
    let longest = complete.iter().copied().reduce(f64::max);
    let by_others = longest.map(|longest| (longest - run.seconds.unwrap_or(0.0)).max(0.0));
    match (own, by_others) {
        (Some(own), Some(others)) if own.most.is_none() => Some(Left {
            most: Some(others.max(own.least)),
            ..own
        }),
        (None, Some(others)) => Some(Left {
            least: 0.0,
            most: Some(others),
        }),
        (own, _) => own,
    }
}

/// What is left of all trials, if as many are at work as now: those that wait take as long as the
/// fastest to the slowest that are complete. `None` where none is at work.
fn left(trials: &[TrialState], complete: &[f64]) -> Option<Left> {
    let count = |status: &str| trials.iter().filter(|it| it.status == status).count();
    let running: Vec<Option<Left>> = trials
        .iter()
        .filter(|it| it.status == Condition::Running.name())
        .map(|it| it.left)
        .collect();
    if running.is_empty() {
        return (count(Ended::Waiting.name()) == 0).then_some(Left::NOTHING);
    }
    let (at_once, waiting) = (running.len() as f64, count(Ended::Waiting.name()) as f64);
    let fastest = complete.iter().copied().reduce(f64::min);
    let slowest = complete.iter().copied().reduce(f64::max);
    let least: Vec<f64> = running
        .iter()
        .map(|left| left.map_or(0.0, |left| left.least))
        .collect();
    let sum = least.iter().sum::<f64>() + waiting * fastest.unwrap_or(0.0);
    let longest = least.iter().copied().fold(0.0, f64::max);
    // Trials that their sweep has stopped may go on, for as long as it likes.
    let open = count(Ended::Paused.name()) > 0 || (waiting > 0.0 && slowest.is_none());
    let most: Option<Vec<f64>> = running
        .iter()
        .map(|left| left.and_then(|it| it.most))
        .collect();
    let most = most.filter(|_| !open).map(|most| {
        let slowest = slowest.filter(|_| waiting > 0.0).unwrap_or(0.0);
        let longest = most.iter().copied().fold(slowest, f64::max);
        let sum = most.iter().sum::<f64>() + waiting * slowest;
        // A worker is idle only while the last trials run.
        sum / at_once + longest * (1.0 - 1.0 / at_once)
    });
    let least = (sum / at_once).max(longest);
    Some(Left {
        least,
        most: most.map(|most| most.max(least)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trial that stands so.
    fn trial(id: usize, status: &str, left: Option<Left>) -> TrialState {
        let begun = status != "waiting";
        TrialState {
            trial: format!("{id:010x}"),
            settings: format!("train.batch_size={} seed={id}", 8 << (id % 3)),
            status: status.into(),
            reason: (status == "failed").then(|| "the loss is NaN".into()),
            epoch: begun.then_some(id),
            epochs: begun.then_some(20),
            val_accuracy: begun.then_some(0.5 + id as f64 / 100.0),
            test_accuracy: (status == "done").then_some(0.5),
            left,
            run: PathBuf::from(format!("runs/s/s_{id:010x}")),
        }
    }

    fn between(least: f64, most: f64) -> Option<Left> {
        Some(Left {
            least,
            most: Some(most),
        })
    }

    #[test]
    fn time_left_follows_from_complete_trials_and_workers() {
        let all = [
            trial(0, "done", None),
            trial(1, "running", between(2.0, 4.0)),
            trial(2, "running", between(2.0, 4.0)),
            trial(3, "waiting", None),
            trial(4, "waiting", None),
        ];
        assert_eq!(left(&all, &[10.0, 12.0]), between(12.0, 22.0));
        assert_eq!(left(&all[..3], &[10.0, 12.0]), between(2.0, 6.0));
        let unknown = left(&all, &[]).unwrap();
        assert_eq!((unknown.least, unknown.most), (2.0, None));
        assert_eq!(left(&[trial(3, "waiting", None)], &[10.0]), None);
        assert_eq!(left(&all[..1], &[10.0]), Some(Left::NOTHING));
    }
}
