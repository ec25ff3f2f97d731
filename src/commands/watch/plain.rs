//! What is watched, in lines: for pipes, files and other programs.

use std::collections::HashMap;

use serde::Serialize;

use super::left::shown;
use super::place::PhaseAt;
use super::run_state::RunState;
use super::sweep_state::{SweepState, TrialState};
use crate::commands::table;

/// A run in a line.
pub fn run_line(state: &RunState) -> String {
    let mut parts = vec![state.status().to_owned()];
    parts.extend(facts(state));
    if let Some(reason) = &state.run.reason {
        parts.push(table::printable(reason));
    }
    parts.join("  ")
}

/// What there is to say of a run beside its status, each in a few words.
pub fn facts(state: &RunState) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(phase) = &state.phase {
        facts.push(format!(
            "phase {}/{} {}",
            phase.index,
            phase.of,
            table::printable(&phase.name)
        ));
    }
    facts.push(progress(state));
    let row = state.row.as_ref();
    if let Some(accuracy) = row.and_then(|row| row.val_accuracy) {
        facts.push(format!("val {} %", table::percent(Some(accuracy))));
    }
    if state.run.val_accuracy.is_some() {
        let epoch = state
            .run
            .best_epoch
            .map_or_else(|| "?".into(), |it| it.to_string());
        let best = table::percent(state.run.val_accuracy);
        facts.push(format!("best {best} % (epoch {epoch})"));
    }
    if state.run.test_accuracy.is_some() {
        facts.push(format!(
            "test {} %",
            table::percent(state.run.test_accuracy)
        ));
    }
    if let Some(patience) = state.patience {
        facts.push(format!("patience {}/{}", patience.left, patience.of));
    }
    if let Some(speed) = state.images_per_second {
        facts.push(format!("{speed:.0} img/s"));
    }
    if !state.is_over() {
        facts.push(left(state));
    }
    if let Some(seconds) = state.run.seconds.filter(|_| state.is_over()) {
        facts.push(format!("took {}", table::span(seconds)));
    }
    facts
}

/// `left 12 s to 15 s`; with phases to come that nothing is known of, also that of this phase.
fn left(state: &RunState) -> String {
    let all = shown(state.left);
    match state.phase_left.filter(|_| state.phase_left != state.left) {
        Some(phase) => format!("left {all} (of this phase {})", shown(Some(phase))),
        None => format!("left {all}"),
    }
}

/// `epoch 3/20`, or `step 30/300` in a phase that counts them.
fn progress(state: &RunState) -> String {
    let of = |done: String, all: Option<String>| match all {
        Some(all) => format!("{done}/{all}"),
        None => done,
    };
    match &state.phase {
        Some(PhaseAt {
            step,
            steps: Some(steps),
            ..
        }) => format!("step {}", of(step.to_string(), Some(steps.to_string()))),
        _ => {
            let epoch = state.run.epochs.unwrap_or(0).to_string();
            let all = state.run.epochs_planned.map(|all| all.to_string());
            format!("epoch {}", of(epoch, all))
        }
    }
}

/// A sweep in a line.
pub fn sweep_line(state: &SweepState) -> String {
    let mut parts = vec![counts(state)];
    match state.gone {
        true => parts.insert(0, "gone".into()),
        false if state.is_over() => {}
        false => parts.push(format!("left {}", shown(state.left))),
    }
    parts.extend(state.damage.iter().map(|it| table::printable(it)));
    parts.join("  ")
}

/// `2 of 12 done, 1 running, 9 waiting`.
pub fn counts(state: &SweepState) -> String {
    let count = |status: &str| state.counts.get(status).copied().unwrap_or(0);
    let mut text = format!("{} of {} done", count("done"), state.trials.len());
    for (status, count) in state.counts.iter().filter(|(status, _)| *status != "done") {
        text.push_str(&format!(", {count} {status}"));
    }
    text
}

/// A trial in a line.
pub fn trial_line(trial: &TrialState) -> String {
    let mut parts = vec![
        trial.trial.clone(),
        format!("{:<7}", trial.status),
        table::printable(&trial.settings),
    ];
    let accuracies = [("val", trial.val_accuracy), ("test", trial.test_accuracy)];
    for (name, accuracy) in accuracies {
        if accuracy.is_some() {
            parts.push(format!("{name} {} %", table::percent(accuracy)));
        }
    }
    if let Some(reason) = &trial.reason {
        parts.push(table::printable(reason));
    }
    parts.join("  ")
}

/// Says what has changed since it was asked last: of a run its status, phase and rows, of a sweep the
/// status of trials and how many stand how. Time alone changes nothing.
#[derive(Debug)]
pub struct Teller {
    json: bool,
    run: Option<RunChange>,
    trials: HashMap<String, (String, Option<usize>)>,
    counts: Option<String>,
}

type RunChange = (&'static str, usize, Option<usize>, Option<u64>);

impl Teller {
    /// In JSON or in words.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            run: None,
            trials: HashMap::new(),
            counts: None,
        }
    }

    /// Of a run.
    pub fn run(&mut self, state: &RunState) -> Vec<String> {
        let change = (
            state.status(),
            state.rows.len(),
            state.phase.as_ref().map(|phase| phase.index),
            state.run.test_accuracy.map(f64::to_bits),
        );
        if self.run.replace(change) == Some(change) {
            return Vec::new();
        }
        match self.json {
            true => json(state),
            false => vec![run_line(state)],
        }
    }

    /// Of a sweep: a line a trial that stands differently, and one of all. In JSON rows count, too.
    pub fn sweep(&mut self, state: &SweepState) -> Vec<String> {
        let first = self.counts.is_none();
        let mut lines = Vec::new();
        let mut changed = false;
        for trial in &state.trials {
            let now = (trial.status.clone(), trial.epoch);
            let before = self.trials.insert(trial.trial.clone(), now.clone());
            changed |= before.as_ref() != Some(&now);
            if before.is_none_or(|(status, _)| status != now.0) && trial.status != "waiting" {
                lines.push(trial_line(trial));
            }
        }
        let counts = format!("{}{}", counts(state), state.gone);
        let recounted = self.counts.replace(counts.clone()) != Some(counts);
        match self.json {
            true if changed || recounted => json(state),
            true => Vec::new(),
            false => {
                if recounted || first {
                    lines.push(sweep_line(state));
                }
                lines
            }
        }
    }
}

/// Nothing where a path is no Unicode: JSON has none such.
fn json(state: &impl Serialize) -> Vec<String> {
    serde_json::to_string(state).ok().into_iter().collect()
}
