//! Successive halving (Jamieson and Talwalkar, 2016, "Non-stochastic Best Arm Identification and
//! Hyperparameter Optimization"): combinations run a little, the better ones run on.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::Value;

use super::launcher::{Ended, LaunchError, Launcher, Watcher};
use super::{SweepDir, Trial};
use crate::config::Halving;
use crate::run::RunDir;

/// Runs trials by halving. Seeds of one combination go on or are given up together, by the mean of
/// their best validation accuracies. One outcome a trial.
///
/// # Errors
/// As for [`Launcher::run`].
pub fn run(
    launcher: &dyn Launcher,
    halving: Halving,
    trials: &[&Trial],
    fail_fast: bool,
    watcher: &mut dyn Watcher,
) -> Result<Vec<Ended>, LaunchError> {
    let mut outcomes = vec![Ended::Waiting; trials.len()];
    let mut left = combinations(trials);
    let mut until = Some(halving.min_epochs);
    loop {
        if left.len() <= 1 {
            until = None;
        }
        let indices: Vec<usize> = left.iter().flatten().copied().collect();
        let chosen: Vec<&Trial> = indices.iter().map(|&index| trials[index]).collect();
        let ended = launcher.run(&chosen, until, watcher)?;
        for (&index, ended) in indices.iter().zip(&ended) {
            outcomes[index] = ended.clone();
        }
        let stopped = |ended: &Ended| match ended {
            Ended::Interrupted | Ended::Waiting | Ended::Elsewhere => true,
            Ended::Failed(_) => fail_fast,
            Ended::Done | Ended::Paused => false,
        };
        let all_done = !ended.contains(&Ended::Paused);
        let Some(epochs) = until.filter(|_| !all_done && !ended.iter().any(stopped)) else {
            return Ok(outcomes);
        };
        left = best(left, halving.factor, |index| match outcomes[index] {
            Ended::Failed(_) => None,
            _ => accuracy(launcher.sweep(), trials[index], epochs),
        });
        until = epochs.checked_mul(halving.factor);
    }
}

/// Indices of trials that differ in nothing but the seed, in order.
fn combinations(trials: &[&Trial]) -> Vec<Vec<usize>> {
    let mut found: IndexMap<String, Vec<usize>> = IndexMap::new();
    for (index, trial) in trials.iter().enumerate() {
        let settings = trial.settings.iter().filter(|(key, _)| *key != "seed");
        let settings: BTreeMap<&String, &Value> = settings.collect();
        let key = serde_json::to_string(&(&trial.config, settings)).unwrap_or_default();
        found.entry(key).or_default().push(index);
    }
    found.into_values().collect()
}

/// One of `factor` combinations, rounded up: those of the highest mean score, in their order. Of
/// equal ones the first. What failed counts as 0.
fn best(
    combinations: Vec<Vec<usize>>,
    factor: usize,
    score: impl Fn(usize) -> Option<f64>,
) -> Vec<Vec<usize>> {
    let mean = |indices: &Vec<usize>| {
        let scores = indices.iter().map(|&index| score(index).unwrap_or(0.0));
        scores.sum::<f64>() / indices.len() as f64
    };
    let mut ranked: Vec<(usize, f64)> = combinations.iter().map(mean).enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranked.truncate(combinations.len().div_ceil(factor));
    let kept = |index: &usize| ranked.iter().any(|(kept, _)| kept == index);
    let all = combinations.into_iter().enumerate();
    all.filter(|(index, _)| kept(index))
        .map(|(_, indices)| indices)
        .collect()
}

/// Best validation accuracy of the first epochs: what came later would not be fair to the others.
fn accuracy(sweep: &SweepDir, trial: &Trial, epochs: usize) -> Option<f64> {
    let run = RunDir::open(&sweep.run(trial)).ok()?;
    let rows = run.metrics().ok()?.rows.into_iter();
    let rows = rows.filter(|row| row.epoch <= epochs);
    rows.filter_map(|row| row.val_accuracy)
        .max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_third_goes_on() {
        let scores = [Some(0.5), Some(0.9), None, Some(0.7), Some(0.9), Some(0.1)];
        let single: Vec<Vec<usize>> = (0..6).map(|index| vec![index]).collect();
        let of = |factor| best(single.clone(), factor, |index| scores[index]);
        assert_eq!(of(3), [[1], [4]]);
        assert_eq!(of(2), [[1], [3], [4]]);
        assert_eq!(of(10), [[1]]);
        // By the mean over seeds: 0.45, 0.7 and 0.5.
        let seeds = vec![vec![1, 2], vec![0, 4], vec![4, 5]];
        assert_eq!(best(seeds, 3, |index| scores[index]), [[0, 4]]);
    }
}
