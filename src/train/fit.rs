//! The training loop: phases, epochs, steps.

use std::sync::Arc;
use std::time::Instant;

use rand::seq::SliceRandom;
use thiserror::Error;

use super::early_stopping::{Best, Decision, EarlyStopping};
use super::evaluate;
use super::features::{FeatureBank, Network};
use super::feed::{Feed, FeedError, Pass};
use super::inputs::Inputs;
use super::metrics::{Accumulator, Scores};
use super::observer::{EpochEnded, Observer, ObserverError, PhaseStarted, Progress, StepTaken};
use super::optimizer::Optimizer;
use super::phase::{PhasePlan, Plan};
use super::schedule::learning_rate;
use super::selfcheck::{self, SelfCheck, SelfCheckError};
use crate::config::Monitor;
use crate::engine::params::Params;
use crate::engine::prefix::Prefix;
use crate::engine::suffix::{Stepped, Suffix};
use crate::graph::Graph;
use crate::records::{MetricsRow, Split};
use crate::rng;

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

/// What training leaves.
#[derive(Debug)]
pub struct Fitted {
    /// Parameters after the last epoch.
    pub last: Params,
    /// Parameters of the best epoch, and its row; the last epoch without a validation split.
    pub best: (Params, MetricsRow),
}

/// Trains all phases of the plan. `bank` caches features.
pub fn fit(
    graph: &Arc<Graph>,
    params: Params,
    plan: &Plan,
    feed: &Feed,
    bank: &mut FeatureBank,
    observer: &mut dyn Observer,
) -> Result<Fitted, FitError> {
    let mut fit = Fit {
        graph,
        plan,
        feed,
        observer,
        params,
        updated_statistics: Vec::new(),
        checked: false,
        epoch: 0,
        step: 0,
        best: None,
    };
    for index in 0..plan.phases.len() {
        let network = Network {
            graph,
            params: &fit.params,
        };
        bank.prepare(network, &plan.phases, index, feed, fit.observer)?;
        fit.phase(index, bank)?;
    }
    let last = fit.params;
    let (_, params, row) = fit
        .best
        .expect("every plan has a phase and every phase an epoch");
    Ok(Fitted {
        last,
        best: (params, row),
    })
}

struct Fit<'a> {
    graph: &'a Arc<Graph>,
    plan: &'a Plan,
    feed: &'a Feed,
    observer: &'a mut dyn Observer,
    params: Params,
    /// Running statistics that the current phase updates.
    updated_statistics: Vec<String>,
    /// Whether a step of the current phase has passed the self-check.
    checked: bool,
    epoch: usize,
    step: u64,
    best: Option<(Best, Params, MetricsRow)>,
}

impl Fit<'_> {
    fn phase(&mut self, index: usize, bank: &FeatureBank) -> Result<(), FitError> {
        let (plan, graph) = (self.plan, self.graph);
        let phase = &plan.phases[index];
        let (stored, splits) = (&phase.frontier.stored, [Split::Train, Split::Val]);
        let feed = self.feed.in_phase(phase.pictures);
        let inputs = Inputs::open(bank, &feed, graph, &self.params, stored, &splits)?;
        let suffix = Suffix::new(graph.clone(), &phase.trainable, &phase.frontier, phase.bn);
        self.updated_statistics = suffix.updated_statistics();
        self.checked = false;
        let members = phase.members(graph, suffix.trained());
        let mut optimizer = Optimizer::of(&phase.optimizer, members);
        let values = suffix
            .trained()
            .iter()
            .map(|name| self.params.value(name).elem_count())
            .sum();
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
            let val = self.validate(phase, &inputs, trained.lr)?;
            if val.is_none() {
                self.check_params(phase, trained.lr)?;
            }
            let row = MetricsRow {
                phase: phase.name.clone(),
                phase_epoch,
                epoch: self.epoch,
                step: self.step,
                lr: trained.lr,
                train_loss: trained.totals.loss(),
                train_accuracy: trained.totals.accuracy(),
                val_loss: val.map(|scores| scores.loss),
                val_accuracy: val.map(|scores| scores.accuracy),
                images_per_second: trained.images_per_second,
                seconds: started.elapsed().as_secs_f64(),
            };
            let stop = stopping.as_mut().is_some_and(|stopping| {
                let value = monitored(stopping.monitor(), &row);
                value.is_some_and(|value| stopping.update(value) == Decision::Stop)
            });
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
        let Some(val) = self.validate(phase, inputs, 0.0)? else {
            return Ok(());
        };
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
        let mut best = self
            .best
            .as_ref()
            .map_or_else(Best::default, |(best, ..)| *best);
        let is_best = match monitored(self.plan.best, &row) {
            Some(value) => {
                let loss = row.val_loss.unwrap_or(f64::NAN);
                best.update(self.plan.best, value, loss) || self.best.is_none()
            }
            // Without validation there is nothing to choose by, and the last epoch is the best.
            None => true,
        };
        if is_best {
            self.best = Some((best, self.params.clone(), row.clone()));
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
            optimizer: optimizer.map(Optimizer::state).transpose()?,
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
        let order = self.batch_positions(total);
        let steps_per_epoch = order.len() as u64;
        let total_steps = steps_per_epoch * phase.epochs as u64;
        let first_step = steps_per_epoch * (phase_epoch as u64 - 1);
        let epochs = plan.phases.iter().map(|phase| phase.epochs).sum();

        let started = Instant::now();
        let mut totals = Accumulator::default();
        let mut lr = 0.0;
        let batches = inputs.batches(Split::Train, &order, self.pass())?;
        for (index, batch) in batches.enumerate() {
            let (features, labels) = batch?;
            let in_phase = first_step + index as u64;
            let base = phase.optimizer.learning_rate();
            lr = learning_rate(
                base,
                &phase.schedule,
                in_phase,
                steps_per_epoch,
                total_steps,
            );
            let check = (!self.checked)
                .then(|| {
                    SelfCheck::before(&self.params, suffix.trained(), &self.updated_statistics)
                })
                .transpose()?;

            let dropout = rng::derive(plan.seed, "dropout", &[self.step]);
            let gradient = evaluate::loss_gradient(&plan.loss, &labels);
            let Stepped {
                logits,
                statistics,
                gradients,
            } = suffix.step(&self.params, &features, dropout, &gradient)?;
            let loss = evaluate::loss(&plan.loss, &logits, &labels)?;
            if !loss.sum.is_finite() {
                let what = format!("the loss is {}", loss.sum);
                return Err(self.non_finite(what, phase, self.step + 1, lr));
            }
            totals.add(&loss, labels.len());
            // Classes of weight 0 teach nothing, and a batch of them alone moves nothing.
            if loss.weight > 0.0 {
                for (name, value) in statistics {
                    self.params.set(&name, value)?;
                }
                optimizer.step(&mut self.params, &gradients, lr)?;
                self.step += 1;
                if let Some(check) = check {
                    check.after(&phase.name, &self.params, suffix.trained(), &gradients)?;
                    self.checked = true;
                }
            }
            self.observer.step(StepTaken {
                phase: &phase.name,
                epoch: self.epoch,
                epochs,
                done: totals.seen,
                total,
                loss: totals.loss().unwrap_or(0.0),
                accuracy: totals.accuracy().unwrap_or(f64::NAN),
                images_per_second: totals.seen as f64 / started.elapsed().as_secs_f64(),
            });
        }
        let images_per_second = totals.seen as f64 / started.elapsed().as_secs_f64();
        Ok(EpochTotals {
            totals,
            lr,
            images_per_second,
        })
    }

    fn pass(&self) -> Pass {
        Pass::Epoch(self.epoch as u64)
    }

    /// This epoch's order of the training pictures, cut into batches.
    fn batch_positions(&self, total: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..total).collect();
        order.shuffle(&mut rng::stream(
            self.plan.seed,
            "shuffle",
            &[self.epoch as u64],
        ));
        let mut batches = self.feed.cut(order);
        // One picture has no batch statistics: it sits this epoch out.
        if !self.updated_statistics.is_empty() && batches.last().is_some_and(|b| b.len() == 1) {
            batches.pop();
        }
        batches
    }

    /// A failure of the step that was taken last, or is being taken.
    fn non_finite(&self, what: String, phase: &PhasePlan, step: u64, lr: f64) -> FitError {
        let place = format!(
            "phase `{}`, epoch {}, step {step}, learning rate {lr:e}",
            phase.name, self.epoch
        );
        FitError::NonFinite { what, place }
    }

    /// Without a validation split no loss tells what the last step did.
    fn check_params(&self, phase: &PhasePlan, lr: f64) -> Result<(), FitError> {
        match selfcheck::first_non_finite(&self.params)? {
            None => Ok(()),
            Some(name) => {
                let what = format!("`{name}` has infinite or undefined values");
                Err(self.non_finite(what, phase, self.step, lr))
            }
        }
    }

    /// Scores on the validation split, if there is one. `lr` is that of the last step, for errors.
    fn validate(
        &self,
        phase: &PhasePlan,
        inputs: &Inputs<'_>,
        lr: f64,
    ) -> Result<Option<Scores>, FitError> {
        if self.feed.items(Split::Val).is_empty() {
            return Ok(None);
        }
        let order = self.feed.in_order(Split::Val);
        let network = Prefix::compile(
            self.graph,
            &self.params,
            &phase.frontier.stored,
            &[self.graph.output()],
        )?;
        let mut totals = Accumulator::default();
        for batch in inputs.batches(Split::Val, &order, self.pass())? {
            let (features, labels) = batch?;
            let logits = network.run(&features)?.swap_remove(0);
            totals.add(
                &evaluate::loss(&self.plan.plain_loss, &logits, &labels)?,
                labels.len(),
            );
        }
        let scores = totals.scores();
        match scores {
            Some(Scores { loss, .. }) if !loss.is_finite() => {
                let what = format!("the validation loss is {loss}");
                Err(self.non_finite(what, phase, self.step, lr))
            }
            _ => Ok(scores),
        }
    }
}

struct EpochTotals {
    totals: Accumulator,
    lr: f64,
    images_per_second: f64,
}

/// The value that a monitor watches; `None` without a validation split.
fn monitored(monitor: Monitor, row: &MetricsRow) -> Option<f64> {
    match monitor {
        Monitor::ValAccuracy => row.val_accuracy,
        Monitor::ValLoss => row.val_loss,
    }
}
