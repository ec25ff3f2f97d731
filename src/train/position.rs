//! Where training stands: one value, from which it can be taken up at any step.
//!
//! Every random stream is a function of the seed and of what it decides (epoch, step, picture), so
//! that nothing else needs to be known beside weights and optimizer.

use serde::{Deserialize, Serialize};

use super::early_stopping::{Best, EarlyStopping};
use super::ema::Ema;
use super::metrics::Accumulator;
use super::optimizer::OptimizerState;
use super::pace::Pace;
use crate::engine::params::Params;
use crate::gpu::Gpu;
use crate::records::MetricsRow;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// The phase begins; the first one with an evaluation if the plan says so.
    Begin,
    /// A step.
    Step,
    /// The evaluation that ends an interval.
    Evaluate,
}

/// The best evaluation so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestSoFar {
    /// What later ones must beat.
    pub best: Best,
    /// Its row of the log.
    pub row: MetricsRow,
}

/// Where training stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Seed of all random streams.
    pub seed: u64,
    /// Index of the phase; the number of phases after the last.
    pub phase: usize,
    /// What comes next.
    pub next: Next,
    /// Epochs begun in earlier phases.
    pub earlier_epochs: usize,
    /// Steps gone through in the phase, those that moved nothing included.
    pub phase_step: u64,
    /// Optimizer steps in all.
    pub step: u64,
    /// Whether a step of the phase has passed the self-check.
    pub checked: bool,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Sums over the steps since the last evaluation.
    pub interval: Accumulator,
    /// Seconds that these steps took.
    pub interval_seconds: f64,
    /// State of early stopping in this phase.
    pub early_stopping: Option<EarlyStopping>,
    /// The best evaluation so far.
    pub best: Option<BestSoFar>,
}

impl Position {
    /// Before anything.
    pub fn start(seed: u64) -> Self {
        Self {
            seed,
            phase: 0,
            next: Next::Begin,
            earlier_epochs: 0,
            phase_step: 0,
            step: 0,
            checked: false,
            lr: 0.0,
            interval: Accumulator::default(),
            interval_seconds: 0.0,
            early_stopping: None,
            best: None,
        }
    }

    /// Epoch over all phases, from 1, that the last step belongs to; 0 before the first.
    pub fn epoch(&self, pace: &Pace) -> usize {
        self.earlier_epochs + pace.epoch(self.phase_step)
    }

    /// Epoch over all phases, from 1, that the next step belongs to.
    pub fn next_epoch(&self, pace: &Pace) -> usize {
        self.earlier_epochs + pace.epoch(self.phase_step + 1)
    }

    /// A step is over.
    pub(super) fn stepped(&mut self, pace: &Pace) {
        self.phase_step += 1;
        if pace.evaluates(self.phase_step) {
            self.next = Next::Evaluate;
        }
    }

    /// An interval is evaluated; with `stop` the phase ends whatever its length.
    pub(super) fn evaluated(&mut self, pace: &Pace, stop: bool) {
        self.interval = Accumulator::default();
        self.interval_seconds = 0.0;
        if stop || pace.is_over(self.phase_step) {
            self.earlier_epochs = self.epoch(pace);
            self.phase += 1;
            self.phase_step = 0;
            self.checked = false;
            self.early_stopping = None;
            self.next = Next::Begin;
        } else {
            self.next = Next::Step;
        }
    }
}

/// All that training depends on besides plan and pictures: what a checkpoint keeps.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// Where training stands.
    pub position: &'a Position,
    /// Parameters as the optimizer moves them.
    pub params: &'a Params,
    /// Averaged ones, where the plan averages.
    pub ema: Option<&'a Ema>,
    /// The optimizer; `None` where the next step begins with a new one.
    pub optimizer: Option<&'a OptimizerState>,
}

/// Where to take training up.
#[derive(Debug)]
pub struct Start {
    /// Where it stood.
    pub position: Position,
    /// Parameters as the optimizer moves them.
    pub params: Params,
    /// All parameters with averages in place, and the steps they are of.
    pub averaged: Option<(Params, u64)>,
    /// The optimizer of the phase.
    pub optimizer: OptimizerState,
    /// Parameters of the best evaluation so far.
    pub best: Option<Params>,
}

impl Start {
    /// From the beginning.
    pub fn fresh(params: Params, seed: u64) -> Self {
        Self {
            position: Position::start(seed),
            params,
            averaged: None,
            optimizer: OptimizerState::default(),
            best: None,
        }
    }

    /// The same, on a GPU where there is one.
    #[must_use]
    pub fn on(self, gpu: Option<&Gpu>) -> Self {
        let on = |params: Params| params.on(gpu.cloned());
        Self {
            params: on(self.params),
            averaged: self.averaged.map(|(params, steps)| (on(params), steps)),
            best: self.best.map(on),
            ..self
        }
    }
}
