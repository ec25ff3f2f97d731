//! One step: the batches that make it up, their mean gradient, the optimizer.

use std::ops::Range;
use std::sync::Arc;

use super::evaluate;
use super::feed::{Feed, FeedError};
use super::fit::FitError;
use super::gradients::{self, Mean};
use super::inputs::SuffixBatch;
use super::metrics::Accumulator;
use super::optimizer::Optimizer;
use super::phase::{LossPlan, PhasePlan, Plan};
use super::sampler::Sampler;
use super::selfcheck::SelfCheck;
use crate::engine::params::Params;
use crate::engine::suffix::{Gradients, Part, Session, Stepped, Suffix};
use crate::graph::Graph;
use crate::ranks::{RankError, Ranks};
use crate::rng;

/// What moves the parameters in a phase.
#[derive(Debug)]
pub(super) struct Trainer<'a> {
    pub(super) phase: &'a PhasePlan,
    pub(super) loss: &'a LossPlan,
    pub(super) suffix: Suffix,
    pub(super) optimizer: Optimizer,
    /// Running statistics that the phase updates.
    pub(super) updated_statistics: Vec<String>,
    pub(super) seed: u64,
    /// The same on a GPU, where parameters and moments then are.
    pub(super) there: Option<Session>,
    /// Who takes its steps together.
    pub(super) ranks: Ranks,
}

/// A step before it is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stride {
    /// Its number over all phases, from 0.
    pub(super) number: u64,
    pub(super) lr: f64,
    /// Whether to prove that the right parameters move.
    pub(super) check: bool,
}

/// What went wrong in a step, before anybody says where.
pub(super) enum StepError {
    NonFinite(String),
    Other(FitError),
}

impl StepError {
    /// Whether the step counts as not begun, so that what was before it can be kept.
    fn is_undone(&self) -> bool {
        use FeedError::{Interrupted, Ranks};
        matches!(self, Self::Other(FitError::Feed(Interrupted | Ranks(_))))
    }
}

impl<E: Into<FitError>> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl<'a> Trainer<'a> {
    /// What moves the parameters in a phase of the plan, before its first step.
    pub(super) fn new(graph: &Arc<Graph>, plan: &'a Plan, phase: &'a PhasePlan) -> Self {
        let at_once = plan.micro_batch;
        let at_once = at_once.and_then(|it| it.of_batch(plan.batch_size));
        let suffix = phase.suffix(graph).at_once(at_once);
        let members = phase.members(graph, suffix.trained());
        Self {
            phase,
            loss: &plan.loss,
            updated_statistics: suffix.updated_statistics(),
            optimizer: Optimizer::of(&phase.optimizer, members),
            suffix,
            seed: plan.seed,
            there: None,
            ranks: Ranks::alone(),
        }
    }

    /// Which pictures of each batch this process has to have in a step.
    pub(super) fn parts(&self, batches: &[Vec<usize>]) -> Option<Vec<Range<usize>>> {
        let part = |batch: &Vec<usize>| self.suffix.pictures(batch.len(), &self.ranks);
        (!self.ranks.is_alone()).then(|| batches.iter().map(part).collect())
    }

    /// Whether several processes take a step on so many pictures, whose inputs are there, sooner
    /// together than each by itself: an estimate from the network alone, so that all come to the same.
    pub(super) fn is_worth_sharing(&self, graph: &Graph, batch: usize) -> bool {
        /// Multiply-adds a second of a core, and values a second over a link, both ways.
        const SPEED: f64 = 2e10;
        const LINK: f64 = 1e8;
        /// Seconds until an exchange gets going, and for a batch norm that joins the batch.
        const BEGIN: f64 = 2e-4;
        // Forward, to inputs and to parameters.
        let work = 3.0 * self.suffix.multiply_adds(graph) as f64 * batch as f64 / SPEED;
        let joins = self.updated_statistics.len() as f64;
        work / 2.0 > self.suffix.exchanged() as f64 / LINK + (1.0 + joins) * BEGIN
    }

    /// The training pictures of an epoch, cut into batches; an error if there is none.
    pub(super) fn batches(
        &self,
        plan: &Plan,
        sampler: &Sampler,
        feed: &Feed,
        epoch: usize,
    ) -> Result<Vec<Vec<usize>>, FitError> {
        let order = sampler.order(epoch as u64);
        let statistics = !self.updated_statistics.is_empty();
        let count = plan.batches(order.len(), statistics);
        let mut batches = feed.cut(order);
        batches.truncate(count);
        if batches.is_empty() {
            let message = format!("phase `{}` has no batch to train on", self.phase.name);
            return Err(candle_core::Error::Msg(message).into());
        }
        Ok(batches)
    }

    /// Takes a step on these batches and counts it in; whether it moved anything: classes of
    /// weight 0 teach nothing, and a step on them alone moves nothing. `interrupted` between two
    /// batches, or with another process lost, all is left as if the step had not begun.
    pub(super) fn step(
        &mut self,
        params: &mut Params,
        stride: Stride,
        batches: impl Iterator<Item = Result<SuffixBatch, FeedError>>,
        totals: &mut Accumulator,
        interrupted: impl Fn() -> Result<bool, RankError>,
    ) -> Result<bool, StepError> {
        if let Some(session) = self.there.take() {
            let mut session = session;
            let stepped =
                self.step_there(&mut session, params, stride, batches, totals, interrupted);
            self.there = Some(session);
            return stepped;
        }
        let statistics = self.updated_statistics.iter();
        let statistics = statistics.map(|name| (name, params.value(name).clone()));
        let before = (*totals, statistics.collect::<Vec<_>>());
        let check = stride
            .check
            .then(|| SelfCheck::before(params, self.suffix.trained(), &self.updated_statistics))
            .transpose()?;
        let mut mean = Mean::default();
        for (index, batch) in batches.enumerate() {
            let stops = if index > 0 { interrupted() } else { Ok(false) };
            let done = match stops {
                Ok(false) => self.batch(params, stride, index, batch?, totals),
                Ok(true) => Err(FeedError::Interrupted.into()),
                Err(error) => Err(error.into()),
            };
            // Others may be lost in the middle of a step, which shows in many ways. What went wrong
            // here is known better here.
            let others = |lost: &RankError| lost.rank() != Some(self.ranks.rank());
            let lost = self.ranks.failure().filter(others).map(StepError::from);
            let error = match done {
                Ok((gradients, weight)) => {
                    mean.add(gradients, weight)?;
                    continue;
                }
                Err(error @ StepError::NonFinite(_)) => error,
                Err(error) => lost.unwrap_or(error),
            };
            if error.is_undone() {
                *totals = before.0;
                for (name, value) in before.1 {
                    params.set(name, value)?;
                }
            }
            return Err(error);
        }
        let Some(mut gradients) = mean.finish()? else {
            return Ok(false);
        };
        let unclipped = check.is_some().then(|| gradients.clone());
        self.clip(&mut gradients)?;
        self.optimizer.step(params, &gradients, stride.lr)?;
        if let (Some(check), Some(unclipped)) = (check, unclipped) {
            check.after(&self.phase.name, params, self.suffix.trained(), &unclipped)?;
        }
        Ok(true)
    }

    /// Gradients of the mean loss of one batch of the step, and the weight of its pictures.
    /// Statistics follow at once.
    fn batch(
        &self,
        params: &mut Params,
        stride: Stride,
        index: usize,
        (features, labels): SuffixBatch,
        totals: &mut Accumulator,
    ) -> Result<(Gradients, f64), StepError> {
        let dropout = self.dropout(stride, index);
        let gradient = evaluate::loss_gradient(self.loss, &labels);
        let Stepped {
            logits,
            statistics,
            gradients,
        } = {
            let part = Part {
                inputs: &features,
                batch: labels.len(),
            };
            let (suffix, ranks) = (&self.suffix, &self.ranks);
            suffix.step_of(params, part, dropout, &gradient, ranks)?
        };
        let loss = evaluate::loss(self.loss, &logits, &labels)?;
        if !loss.sum.is_finite() {
            return Err(StepError::NonFinite(format!("the loss is {}", loss.sum)));
        }
        totals.add(&loss, labels.len());
        if loss.weight > 0.0 {
            for (name, value) in statistics {
                params.set(&name, value)?;
            }
        }
        Ok((gradients, loss.weight))
    }

    /// The seed of a batch's dropout.
    pub(super) fn dropout(&self, stride: Stride, index: usize) -> u64 {
        let indices = [stride.number, index as u64];
        // The first batch's stream is named after the step alone.
        let indices = if index == 0 { &indices[..1] } else { &indices };
        rng::derive(self.seed, "dropout", indices)
    }

    fn clip(&self, gradients: &mut Gradients) -> Result<(), StepError> {
        if let Some(most) = self.phase.clip_norm {
            let norm = gradients::clip_norm(gradients, most)?;
            if !norm.is_finite() {
                let what = format!("the norm of the gradient is {norm}");
                return Err(StepError::NonFinite(what));
            }
        }
        if let Some(most) = self.phase.clip_value {
            gradients::clip_value(gradients, most)?;
        }
        Ok(())
    }

    /// Names of what moves in the phase: parameters, then statistics.
    pub(super) fn moving(&self) -> Vec<String> {
        let trained = self.suffix.trained().iter();
        trained.chain(&self.updated_statistics).cloned().collect()
    }
}
