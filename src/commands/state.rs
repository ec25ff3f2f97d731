//! The state of training as a checkpoint keeps it, and the way back.

use serde::{Deserialize, Serialize};

use super::{Exit, Failure};
use crate::engine::params::Params;
use crate::graph::Graph;
use crate::records::MetricsRow;
use crate::run::{BestMetrics, Checkpoint, RunDir, RunError, Slot, Tensors};
use crate::train::ema::Ema;
use crate::train::fit::FitError;
use crate::train::optimizer::OptimizerState;
use crate::train::position::{Position, Snapshot, Start};

/// `state.json` of a checkpoint: all that is no tensor.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    position: Position,
    /// Steps of the phase's optimizer.
    optimizer_step: u64,
    /// Steps that the averages are of.
    averaged_steps: Option<u64>,
    /// Rows of the log so far. The last of them is kept here, too: it goes to the log only after
    /// this checkpoint.
    rows: usize,
    last_row: Option<MetricsRow>,
    /// Whether these are the best weights so far.
    is_best: bool,
}

/// All that training goes on from, behind these rows.
pub fn checkpoint(snapshot: Snapshot<'_>, rows: &[MetricsRow], is_best: bool) -> Checkpoint {
    let averaged = snapshot.ema.map(|ema| {
        let value = |name: &String| (name.clone(), ema.params().value(name).clone());
        ema.names().iter().map(value).collect()
    });
    // Between phases there is no optimizer, and its part of the checkpoint is empty.
    let optimizer = snapshot.optimizer.cloned().unwrap_or_default();
    let state = State {
        position: snapshot.position.clone(),
        optimizer_step: optimizer.step,
        averaged_steps: snapshot.ema.map(Ema::steps),
        rows: rows.len(),
        last_row: rows.last().cloned(),
        is_best,
    };
    Checkpoint {
        weights: tensors(snapshot.params),
        averaged: averaged.unwrap_or_default(),
        optimizer: optimizer.tensors,
        state: serde_json::json!(state),
    }
}

/// All parameters and statistics by name.
pub fn tensors(params: &Params) -> Tensors {
    params
        .iter()
        .map(|(name, param)| (name.to_owned(), param.value.clone()))
        .collect()
}

/// Where a run goes on.
#[derive(Debug)]
pub struct Restored {
    /// What training goes on from.
    pub start: Start,
    /// Rows that are earned.
    pub rows: Vec<MetricsRow>,
    /// Index of the best of them.
    pub best: Option<usize>,
}

impl Restored {
    /// At the beginning.
    pub fn fresh(params: Params, seed: u64) -> Self {
        Self {
            start: Start::fresh(params, seed),
            rows: Vec::new(),
            best: None,
        }
    }

    /// From this checkpoint, the run's newest. Puts right what a kill left between two writes.
    pub fn from_checkpoint(run: &RunDir, slot: Slot, graph: &Graph) -> Result<Self, Failure> {
        let checkpoint = run.checkpoint(slot)?;
        let state = state(run, slot, &checkpoint)?;
        let params = params(graph, &checkpoint.weights)?;
        let averaged = match state.averaged_steps {
            Some(steps) => Some((self::params(graph, &checkpoint.evaluated())?, steps)),
            None => None,
        };
        let evaluated = averaged.as_ref().map_or(&params, |(averaged, _)| averaged);
        let best = match &state.position.best {
            _ if state.is_best => {
                if slot == Slot::Last {
                    run.mark_best()?;
                }
                Some(evaluated.clone())
            }
            Some(best) => Some(best_params(run, graph, &best.row)?),
            None => None,
        };
        let rows = rows(run, &state)?;
        let best_row = state.position.best.as_ref();
        Ok(Self {
            best: best_row.and_then(|best| BestMetrics::from(&best.row).find(&rows)),
            rows,
            start: Start {
                position: state.position,
                params,
                averaged,
                optimizer: OptimizerState {
                    step: state.optimizer_step,
                    tensors: checkpoint.optimizer,
                },
                best,
            },
        })
    }
}

const DAMAGED: &str = "train it again with `xp run`";

fn damaged(run: &RunDir, slot: Slot, reason: String) -> Failure {
    let path = run.checkpoint_dir(slot);
    let help = DAMAGED;
    RunError::Damaged { path, reason, help }.into()
}

fn state(run: &RunDir, slot: Slot, checkpoint: &Checkpoint) -> Result<State, Failure> {
    serde_json::from_value(checkpoint.state.clone()).map_err(|error| {
        let reason = format!("its state is not of this version of xp: {error}");
        damaged(run, slot, reason)
    })
}

/// The rows behind a checkpoint: those of the log, cut back, and the last one.
fn rows(run: &RunDir, state: &State) -> Result<Vec<MetricsRow>, Failure> {
    if state.rows == 0 {
        return Ok(Vec::new());
    }
    let mut rows = match run.metrics_csv().exists() {
        true => run.metrics()?.rows,
        false => Vec::new(),
    };
    if rows.len() + 1 < state.rows {
        let error = RunError::Damaged {
            path: run.metrics_csv(),
            reason: format!(
                "it has {} rows, and the checkpoint was written after {}",
                rows.len(),
                state.rows
            ),
            help: DAMAGED,
        };
        return Err(error.into());
    }
    // The last one may be torn, or not there yet.
    rows.truncate(state.rows - 1);
    rows.extend(state.last_row.clone());
    Ok(rows)
}

/// The best weights, which must be those of this row.
fn best_params(run: &RunDir, graph: &Graph, row: &MetricsRow) -> Result<Params, Failure> {
    let slot = Slot::Best;
    if !run.has_checkpoint(slot) {
        return Err(damaged(run, slot, "it is not there".into()));
    }
    let checkpoint = run.checkpoint(slot)?;
    let state = state(run, slot, &checkpoint)?;
    match state.position.best {
        Some(best) if best.row == *row => params(graph, &checkpoint.evaluated()),
        _ => Err(damaged(
            run,
            slot,
            format!("it is not of step {}, which was the best", row.step),
        )),
    }
}

/// Parameters of a network with these values.
pub(super) fn params(graph: &Graph, tensors: &Tensors) -> Result<Params, Failure> {
    let mut params = Params::initialise(graph, 0, &candle_core::Device::Cpu)?;
    let names: Vec<String> = params.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let Some(value) = tensors.get(&name) else {
            let message = format!("the checkpoint has no `{name}`");
            return Err(Failure::new(Exit::Other, message).help(DAMAGED));
        };
        params.set(&name, value.clone()).map_err(FitError::from)?;
    }
    Ok(params)
}

/// What a run had done when it was left, in words; for `xp verify-resume`.
pub fn whereabouts(run: &RunDir) -> String {
    let kept = run.checkpoint(Slot::Last).ok();
    let state = kept.and_then(|kept| serde_json::from_value::<State>(kept.state).ok());
    match state {
        None => "before the first checkpoint".into(),
        Some(State { position, rows, .. }) => format!(
            "phase {}, step {} of it, {rows} rows",
            position.phase + 1,
            position.phase_step
        ),
    }
}
