//! The line of phases: steps and evaluations, from wherever training stands to its end.

mod interval;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use super::early_stopping::EarlyStopping;
use super::ema::Ema;
use super::features::{FeatureBank, Network};
use super::feed::{Feed, FeedError, Pass};
use super::inputs::{Inputs, SuffixBatch};
use super::observer::{Observer, ObserverError, PhaseStarted, StepTaken};
use super::optimizer::OptimizerState;
use super::pace::Pace;
use super::phase::{PhasePlan, Plan};
use super::position::{BestSoFar, Next, Position, Snapshot, Start};
use super::sampler::Sampler;
use super::schedule::learning_rate;
use super::selfcheck::SelfCheckError;
use super::step::{StepError, Stride, Trainer};
use crate::engine::params::Params;
use crate::graph::Graph;
use crate::ranks::{RankError, Ranks};
use crate::records::{MetricsRow, Split};

/// Seconds that an interval takes at least, so that rates are numbers.
const SHORTEST: f64 = 1e-9;

/// Why training ended without a result.
#[derive(Debug, Error)]
pub enum FitError {
    /// A loss or a parameter became NaN or infinite.
    #[error("{what} in {place}")]
    NonFinite {
        /// What it is, for example `the loss is NaN`.
        what: String,
        /// Where it was found: phase, epoch, step and learning rate, or a split.
        place: String,
    },
    /// The self-check after a phase's first step failed.
    #[error(transparent)]
    SelfCheck(#[from] SelfCheckError),
    /// A batch could not be made.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] candle_core::Error),
    /// The observer failed.
    #[error("{0}")]
    Observer(#[from] ObserverError),
}

impl From<RankError> for FitError {
    fn from(error: RankError) -> Self {
        FeedError::from(error).into()
    }
}

/// What training leaves.
#[derive(Debug)]
pub struct Fitted {
    /// Parameters after the last step, averaged where the plan averages.
    pub last: Params,
    /// Parameters of the best evaluation, and its row; the last one without a validation split.
    pub best: (Params, MetricsRow),
    /// Whether the two are of the same step.
    pub best_is_last: bool,
}

/// Trains all phases of the plan from where `start` stands. `bank` caches features, and knows the ranks
/// that train together: each must begin with the same, and gets the same.
pub fn fit(
    graph: &Arc<Graph>,
    start: Start,
    plan: &Plan,
    feed: &Feed,
    bank: &mut FeatureBank,
    observer: &mut dyn Observer,
) -> Result<Fitted, FitError> {
    let mut fit = Fit::new(graph, start, plan, feed, observer);
    fit.ranks = bank.ranks().clone();
    while fit.position.phase < plan.phases.len() {
        let network = Network {
            graph,
            params: &fit.params,
        };
        let index = fit.position.phase;
        bank.prepare(network, &plan.phases, index, feed, fit.observer)?;
        fit.phase(index, bank)?;
    }
    Ok(fit.finish())
}

struct Fit<'a> {
    graph: &'a Arc<Graph>,
    plan: &'a Plan,
    feed: &'a Feed,
    observer: &'a mut dyn Observer,
    sampler: Sampler,
    position: Position,
    params: Params,
    ema: Option<Ema>,
    /// Averages and optimizer of the phase to be taken up.
    saved: Option<(Option<(Params, u64)>, OptimizerState)>,
    best: Option<Params>,
    /// Since when the steps of this interval have been running; the rest is in the position.
    running_since: Instant,
    ranks: Ranks,
}

/// A phase at work.
struct Stage<'a> {
    index: usize,
    plan: &'a PhasePlan,
    pace: Pace,
    inputs: Inputs<'a>,
    trainer: Trainer<'a>,
}

impl<'a> Fit<'a> {
    fn new(
        graph: &'a Arc<Graph>,
        start: Start,
        plan: &'a Plan,
        feed: &'a Feed,
        observer: &'a mut dyn Observer,
    ) -> Self {
        Self {
            graph,
            plan,
            feed,
            observer,
            sampler: Sampler::new(plan.sampling, plan.seed, &feed.classes(Split::Train)),
            position: start.position,
            params: start.params,
            ema: None,
            saved: Some((start.averaged, start.optimizer)),
            best: start.best,
            running_since: Instant::now(),
            ranks: Ranks::alone(),
        }
    }

    fn finish(self) -> Fitted {
        let averaged = self.saved.and_then(|(averaged, _)| averaged);
        let last = match (self.ema, averaged) {
            (Some(ema), _) => ema.params().clone(),
            (None, Some((averaged, _))) => averaged,
            (None, None) => self.params,
        };
        let best = self.position.best.zip(self.best);
        let (BestSoFar { row, .. }, params) =
            best.expect("every plan has a phase and every phase an evaluation");
        Fitted {
            best_is_last: row.step == self.position.step
                && row.epoch == self.position.earlier_epochs,
            best: (params, row),
            last,
        }
    }

    fn phase(&mut self, index: usize, bank: &FeatureBank) -> Result<(), FitError> {
        let (plan, graph) = (self.plan, self.graph);
        let phase = &plan.phases[index];
        let (stored, splits) = (&phase.frontier.stored, [Split::Train, Split::Val]);
        let feed = self.feed.in_phase(phase.pictures);
        let inputs = Inputs::open(bank, &feed, graph, &self.params, stored, &splits)?;
        let mut trainer = Trainer::new(graph, plan, phase);
        // Where features are there, a small step costs less than to share it.
        if !inputs.cached(Split::Train) || trainer.is_worth_sharing(graph, plan.batch_size) {
            trainer.ranks = self.ranks.clone();
        }
        let pace = self.pace(phase, &trainer)?;
        self.restore(&mut trainer)?;
        trainer.open(&self.params, self.ema.as_ref())?;
        let trained = trainer.suffix.trained();
        let values = trained
            .iter()
            .map(|name| self.params.value(name).elem_count())
            .sum();
        self.observer.phase_started(PhaseStarted {
            name: &phase.name,
            trainable: (values, trained.len()),
            cached: inputs.cached(Split::Train),
            done: self.position.phase_step,
            pace,
        });
        let mut stage = Stage {
            index,
            plan: phase,
            pace,
            inputs,
            trainer,
        };
        self.running_since = Instant::now();
        while self.position.phase == index {
            match self.position.next {
                Next::Begin => self.begin(&stage)?,
                Next::Step => self.epoch(&mut stage)?,
                Next::Evaluate => self.evaluate(&stage)?,
            }
        }
        Ok(())
    }

    /// Optimizer and averages as they were left in the middle of the phase, or new ones.
    fn restore(&mut self, trainer: &mut Trainer<'_>) -> Result<(), FitError> {
        let (averaged, optimizer) = self.saved.take().unwrap_or_default();
        let fresh = self.position.next == Next::Begin;
        if !fresh {
            trainer.optimizer.restore(optimizer)?;
        }
        self.ema = self.plan.ema.map(|config| match averaged {
            Some((params, steps)) if !fresh => {
                Ema::restored(config, trainer.moving(), params, steps)
            }
            _ => Ema::new(config, trainer.moving(), &self.params),
        });
        Ok(())
    }

    fn pace(&self, phase: &PhasePlan, trainer: &Trainer<'_>) -> Result<Pace, FitError> {
        let batches = self.batches(0, trainer)?.len();
        Ok(self.plan.pace(phase, batches))
    }

    /// The training pictures of an epoch, cut into batches.
    fn batches(&self, epoch: usize, trainer: &Trainer<'_>) -> Result<Vec<Vec<usize>>, FitError> {
        trainer.batches(self.plan, &self.sampler, self.feed, epoch)
    }

    fn begin(&mut self, stage: &Stage<'_>) -> Result<(), FitError> {
        let first = match stage.index == 0 && self.plan.evaluate_first {
            true => self.evaluate_first(stage)?,
            false => None,
        };
        // What is kept with the first row comes after it.
        let stopping = self.plan.early_stopping.as_ref();
        self.position.early_stopping = stopping.map(EarlyStopping::new);
        self.position.next = Next::Step;
        if let Some(row) = first {
            let is_best = self.compare(&row);
            self.tell(stage, &row, 0, is_best)?;
        }
        self.running_since = Instant::now();
        Ok(())
    }

    /// The rest of an epoch, with the evaluations that fall into it.
    fn epoch(&mut self, stage: &mut Stage<'_>) -> Result<(), FitError> {
        let pace = stage.pace;
        let epoch = self.position.next_epoch(&pace);
        let order = self.batches(epoch, &stage.trainer)?;
        let done = pace.in_epoch(self.position.phase_step) as usize;
        let rest = &order[done * self.plan.accumulate..];
        let pass = Pass::Epoch(epoch as u64);
        let parts = stage.trainer.parts(rest);
        let mut batches = stage.inputs.parts(Split::Train, rest, pass, parts)?;
        loop {
            let stepped = self.step(&mut stage.trainer, pace, &mut *batches);
            self.save_if_interrupted(stepped, stage)?;
            self.pause(stage)?;
            let ends = pace.ends_epoch(self.position.phase_step);
            if self.position.next == Next::Evaluate && !ends {
                self.evaluate(stage)?;
            }
            if ends || self.position.phase != stage.index {
                return Ok(());
            }
        }
    }

    /// After a step: keeps the state if it is wanted, ends if that is.
    fn pause(&mut self, stage: &Stage<'_>) -> Result<(), FitError> {
        let end = self.ranks.agree(self.observer.interrupted());
        let end = self.save_if_interrupted(end.map_err(FitError::from), stage)?;
        // The state before an evaluation is kept with its row.
        let wanted = self.observer.wants_state() && self.position.next == Next::Step;
        if end || wanted {
            self.save(stage)?;
        }
        match end {
            true => Err(FeedError::Interrupted.into()),
            false => Ok(()),
        }
    }

    /// Hands over the state before what was interrupted, by a signal or the loss of another process.
    fn save_if_interrupted<T>(
        &mut self,
        done: Result<T, FitError>,
        stage: &Stage<'_>,
    ) -> Result<T, FitError> {
        if let Err(FitError::Feed(FeedError::Interrupted | FeedError::Ranks(_))) = done {
            self.save(stage)?;
        }
        done
    }

    /// Hands over the state between two rows.
    fn save(&mut self, stage: &Stage<'_>) -> Result<(), FitError> {
        self.settle();
        stage.trainer.fetch(&mut self.params, self.ema.as_mut())?;
        let optimizer = stage.trainer.optimizer_state()?;
        self.observer.save(Snapshot {
            position: &self.position,
            params: &self.params,
            ema: self.ema.as_ref(),
            optimizer: Some(&optimizer),
        })?;
        Ok(())
    }

    /// Moves the time that has passed into the position.
    fn settle(&mut self) {
        self.position.interval_seconds += self.running_since.elapsed().as_secs_f64();
        self.running_since = Instant::now();
    }

    fn step(
        &mut self,
        trainer: &mut Trainer<'_>,
        pace: Pace,
        batches: &mut dyn Iterator<Item = Result<SuffixBatch, FeedError>>,
    ) -> Result<(), FitError> {
        let phase = trainer.phase;
        let base = phase.optimizer.learning_rate();
        let Position {
            phase_step, step, ..
        } = self.position;
        let stride = Stride {
            number: step,
            lr: learning_rate(
                base,
                &phase.schedule,
                phase_step,
                pace.steps_per_epoch,
                pace.steps,
            ),
            check: !self.position.checked,
        };
        let batches = batches.take(self.plan.accumulate);
        let totals = &mut self.position.interval;
        let observer = &*self.observer;
        let ranks = &self.ranks;
        let interrupted = || ranks.agree(observer.interrupted());
        let moved = match trainer.step(&mut self.params, stride, batches, totals, interrupted) {
            Ok(moved) => moved,
            Err(StepError::Other(error)) => return Err(error),
            Err(StepError::NonFinite(what)) => {
                let epoch = self.position.next_epoch(&pace);
                return Err(non_finite(what, phase, epoch, step + 1, stride.lr));
            }
        };
        self.position.lr = stride.lr;
        if moved {
            self.position.step += 1;
            self.position.checked = true;
            if let Some(ema) = &mut self.ema {
                trainer.average(&self.params, ema)?;
            }
        }
        self.position.stepped(&pace);
        let totals = &self.position.interval;
        let seconds = self.position.interval_seconds + self.running_since.elapsed().as_secs_f64();
        self.observer.step(StepTaken {
            phase: &phase.name,
            epoch: self.position.epoch(&pace),
            phase_step: self.position.phase_step,
            pace,
            loss: totals.loss().unwrap_or(0.0),
            accuracy: totals.accuracy().unwrap_or(f64::NAN),
            images_per_second: totals.seen as f64 / seconds.max(SHORTEST),
        });
        Ok(())
    }
}

/// A failure of a step that was taken or is being taken.
fn non_finite(what: String, phase: &PhasePlan, epoch: usize, step: u64, lr: f64) -> FitError {
    let place = format!(
        "phase `{}`, epoch {epoch}, step {step}, learning rate {lr:e}",
        phase.name
    );
    FitError::NonFinite { what, place }
}
