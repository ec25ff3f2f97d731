//! The training loop: phases, epochs, steps.

use std::sync::Arc;
use std::time::Instant;

use rand::seq::SliceRandom;
use thiserror::Error;

use super::early_stopping::{Best, Decision, EarlyStopping};
use super::evaluate::{self, Scores};
use super::features::FeatureBank;
use super::feed::{Feed, FeedError};
use super::inputs::Inputs;
use super::metrics::Accumulator;
use super::observer::{
    EpochEnded, Observer, ObserverError, PhaseStarted, Progress, StepTaken,
};
use super::optimizer::Optimizer;
use super::phase::{PhasePlan, Plan};
use super::schedule::learning_rate;
use super::selfcheck::{SelfCheck, SelfCheckError};
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::engine::suffix::Suffix;
use crate::graph::Graph;
use crate::records::{MetricsRow, Split};
use crate::rng;

/// Why training ended without a result.
#[derive(Debug, Error)]
pub enum FitError {
    /// The loss became NaN or infinite.
    #[error(
        "the loss is {loss} in phase `{phase}`, epoch {epoch}, step {step}, learning rate {lr:e}"
    )]
    NonFinite {
        /// Name of the phase.
        phase: String,
        /// Epoch over all phases.
        epoch: usize,
        /// Step over all phases.
        step: u64,
        /// Learning rate of the step.
        lr: f64,
        /// The loss.
        loss: f64,
    },
    /// The self-check after a phase's first step failed.
    #[error("self-check of phase `{phase}`: {source}")]
    SelfCheck {
        /// Name of the phase.
        phase: String,
        /// What it found.
        source: SelfCheckError,
    },
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

/// What training leaves.
#[derive(Debug)]
pub struct Fitted {
    /// Parameters after the last epoch.
    pub last: Params,
    /// Parameters of the best epoch, and its row; the last epoch without a validation split.
    pub best: (Params, MetricsRow),
}

/// Trains all phases of the plan.
pub fn fit(
    graph: &Arc<Graph>,
    params: Params,
    plan: &Plan,
    feed: &Feed,
    observer: &mut dyn Observer,
) -> Result<Fitted, FitError> {
    let mut fit = Fit {
        graph,
        plan,
        feed,
        observer,
        params,
        epoch: 0,
        step: 0,
        best: None,
    };
    let mut bank = FeatureBank::new(plan.cache_bytes);
    for index in 0..plan.phases.len() {
        bank.prepare(graph, &fit.params, &plan.phases, index, feed, fit.observer)?;
        fit.phase(index, &bank)?;
    }
    let last = fit.params;
    let (_, params, row) = fit.best.expect("every plan has a phase and every phase an epoch");
    Ok(Fitted { last, best: (params, row) })
}

struct Fit<'a> {
    graph: &'a Arc<Graph>,
    plan: &'a Plan,
    feed: &'a Feed,
    observer: &'a mut dyn Observer,
    params: Params,
    epoch: usize,
    step: u64,
    best: Option<(Best, Params, MetricsRow)>,
}

impl Fit<'_> {
    fn phase(&mut self, index: usize, bank: &FeatureBank) -> Result<(), FitError> {
        let (plan, graph) = (self.plan, self.graph);
        let phase = &plan.phases[index];
        let inputs = Inputs::open(bank, self.feed, graph, &self.params, phase)?;
        let suffix = Suffix::new(graph.clone(), &phase.trainable, &phase.frontier, phase.bn);
        let mut optimizer = Optimizer::new(&phase.optimizer, suffix.trained());
        let values = suffix.trained().iter().map(|name| self.params.value(name).elem_count()).sum();
        self.observer.phase_started(PhaseStarted {
            name: &phase.name,
            epochs: phase.epochs,
            trainable: (values, suffix.trained().len()),
            cached: inputs.cached(Split::Train),
        });
        let mut stopping = plan.early_stopping.as_ref().map(EarlyStopping::new);
        if index == 0 && plan.evaluate_first {
            self.evaluate_first(phase, &inputs)?;
        }
        for phase_epoch in 1..=phase.epochs {
            let started = Instant::now();
            let trained = self.train_epoch(phase, phase_epoch, &inputs, &suffix, &mut optimizer)?;
            let val = self.validate(phase, &inputs)?;
            let row = MetricsRow {
                phase: phase.name.clone(),
                phase_epoch,
                epoch: self.epoch,
                step: self.step,
                lr: trained.lr,
                train_loss: Some(trained.totals.loss()),
                train_accuracy: Some(trained.totals.accuracy()),
                val_loss: val.as_ref().map(|scores| scores.loss),
                val_accuracy: val.as_ref().map(|scores| scores.accuracy),
                images_per_second: trained.images_per_second,
                seconds: started.elapsed().as_secs_f64(),
            };
            let stop = stopping.as_mut().is_some_and(|s| s.update(&row) == Decision::Stop);
            self.end_epoch(index, row, Some(&optimizer), stopping.as_ref())?;
            if stop {
                self.observer.stopped_early(&phase.name, phase_epoch);
                break;
            }
        }
        Ok(())
    }

    /// Epoch 0: how good the network is before any step.
    fn evaluate_first(&mut self, phase: &PhasePlan, inputs: &Inputs<'_>) -> Result<(), FitError> {
        let started = Instant::now();
        let Some(val) = self.validate(phase, inputs)? else { return Ok(()) };
        let row = MetricsRow {
            phase: phase.name.clone(),
            phase_epoch: 0,
            epoch: 0,
            step: 0,
            lr: 0.0,
            train_loss: None,
            train_accuracy: None,
            val_loss: Some(val.loss),
            val_accuracy: Some(val.accuracy),
            images_per_second: 0.0,
            seconds: started.elapsed().as_secs_f64(),
        };
        self.end_epoch(0, row, None, None)
    }

    fn end_epoch(
        &mut self,
        phase: usize,
        row: MetricsRow,
        optimizer: Option<&Optimizer>,
        stopping: Option<&EarlyStopping>,
    ) -> Result<(), FitError> {
        let mut best =
            self.best.as_ref().map_or_else(|| Best::new(self.plan.best), |(best, ..)| best.clone());
        // Without validation there is nothing to choose by, and the last epoch is the best.
        let is_best = best.update(&row) || row.val_loss.is_none() || self.best.is_none();
        if is_best {
            self.best = Some((best.clone(), self.params.clone(), row.clone()));
        }
        let progress = Progress {
            phase,
            phase_epoch: row.phase_epoch,
            epoch: row.epoch,
            step: row.step,
            seed: self.plan.seed,
            best: Some(best),
            early_stopping: stopping.cloned(),
        };
        self.observer.epoch_ended(EpochEnded {
            row: &row,
            params: &self.params,
            optimizer: optimizer.map(Optimizer::state),
            progress,
            is_best,
        })?;
        Ok(())
    }

    fn train_epoch(
        &mut self,
        phase: &PhasePlan,
        phase_epoch: usize,
        inputs: &Inputs<'_>,
        suffix: &Suffix,
        optimizer: &mut Optimizer,
    ) -> Result<EpochTotals, FitError> {
        let plan = self.plan;
        self.epoch += 1;
        let total = self.feed.items(Split::Train).len();
        let order = self.batch_positions(phase, total);
        let steps_per_epoch = order.len() as u64;
        let total_steps = steps_per_epoch * phase.epochs as u64;
        let first_step = steps_per_epoch * (phase_epoch as u64 - 1);
        let epochs = plan.phases.iter().map(|phase| phase.epochs).sum();

        let started = Instant::now();
        let mut totals = Accumulator::default();
        let mut lr = 0.0;
        let batches = inputs.batches(Split::Train, &order, Some(self.epoch as u64));
        for (index, batch) in batches.enumerate() {
            let (features, labels) = batch?;
            let in_phase = first_step + index as u64;
            let base = phase.optimizer.learning_rate();
            lr = learning_rate(base, &phase.schedule, in_phase, steps_per_epoch, total_steps);
            let check = (in_phase == 0)
                .then(|| SelfCheck::before(&self.params, suffix.trained(), suffix.statistics()));

            let dropout = rng::derive(plan.seed, "dropout", &[self.step]);
            let tape = suffix.forward(&self.params, &features, dropout)?;
            let loss = evaluate::loss(&plan.loss, &tape.logits, &labels)?;
            let mean = loss.sum / loss.weight;
            if !mean.is_finite() {
                return Err(FitError::NonFinite {
                    phase: phase.name.clone(),
                    epoch: self.epoch,
                    step: self.step + 1,
                    lr,
                    loss: mean,
                });
            }
            totals.add(&loss, labels.len());
            for (name, value) in &tape.statistics {
                self.params.set(name, value.clone())?;
            }
            let gradients = suffix.backward(&self.params, tape, &loss.gradient)?;
            optimizer.step(&mut self.params, &gradients, lr)?;
            self.step += 1;
            if let Some(check) = check {
                check.after(&self.params, &gradients).map_err(|source| FitError::SelfCheck {
                    phase: phase.name.clone(),
                    source,
                })?;
            }
            self.observer.step(StepTaken {
                phase: &phase.name,
                epoch: self.epoch,
                epochs,
                done: totals.seen(),
                total,
                loss: totals.loss(),
                accuracy: totals.accuracy(),
                images_per_second: totals.seen() as f64 / started.elapsed().as_secs_f64(),
            });
        }
        let images_per_second = totals.seen() as f64 / started.elapsed().as_secs_f64();
        Ok(EpochTotals { totals, lr, images_per_second })
    }

    /// This epoch's order of the training pictures, cut into batches.
    fn batch_positions(&self, phase: &PhasePlan, total: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..total).collect();
        order.shuffle(&mut rng::stream(self.plan.seed, "shuffle", &[self.epoch as u64]));
        let mut batches: Vec<Vec<usize>> =
            order.chunks(self.plan.batch_size).map(<[usize]>::to_vec).collect();
        // One picture has no batch statistics; it joins the batch before it.
        if phase.normalizes_batches(self.graph)
            && batches.len() > 1
            && batches.last().is_some_and(|last| last.len() == 1)
        {
            let single = batches.pop().unwrap_or_default();
            if let Some(previous) = batches.last_mut() {
                previous.extend(single);
            }
        }
        batches
    }

    fn validate(
        &self,
        phase: &PhasePlan,
        inputs: &Inputs<'_>,
    ) -> Result<Option<Scores>, FitError> {
        let total = self.feed.items(Split::Val).len();
        if total == 0 {
            return Ok(None);
        }
        let positions: Vec<usize> = (0..total).collect();
        let order: Vec<Vec<usize>> =
            positions.chunks(self.plan.batch_size).map(<[usize]>::to_vec).collect();
        let network =
            Prefix::compile(self.graph, &self.params, &phase.frontier.stored, &[self.graph.output()])?;
        let mut totals = Accumulator::default();
        for batch in inputs.batches(Split::Val, &order, None) {
            let (features, labels) = batch?;
            let logits = network.run(&features)?.swap_remove(0);
            totals.add(&evaluate::loss(&self.plan.loss, &logits, &labels)?, labels.len());
        }
        Ok(Some(Scores { loss: totals.loss(), accuracy: totals.accuracy() }))
    }
}

struct EpochTotals {
    totals: Accumulator,
    lr: f64,
    images_per_second: f64,
}
