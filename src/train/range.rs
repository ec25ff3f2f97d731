//! The learning-rate range test (Smith, 2017, <https://arxiv.org/abs/1506.01186>): the steps of a
//! phase with a rate that rises from each to the next, and the loss of each.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::features::{FeatureBank, Network};
use super::feed::{Feed, Pass};
use super::fit::FitError;
use super::inputs::Inputs;
use super::metrics::Accumulator;
use super::observer::{Observer, PhaseStarted, StepTaken};
use super::pace::Pace;
use super::phase::Plan;
use super::sampler::Sampler;
use super::step::{StepError, Stride, Trainer};
use crate::engine::params::Params;
use crate::graph::Graph;
use crate::records::Split;

/// Share of the mean of all losses before in the next one; fastai's.
const MOMENTUM: f64 = 0.98;

/// The test ends where the smoothed loss is so many times the lowest.
const DIVERGED: f64 = 4.0;

/// Which rates are tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sweep {
    /// The rate of the first step.
    pub from: f64,
    /// The rate of the last.
    pub to: f64,
    /// Steps.
    pub steps: usize,
}

impl Sweep {
    /// Rate of a step, counted from 0: each is the one before it times the same factor.
    pub fn rate(&self, step: usize) -> f64 {
        let last = self.steps.saturating_sub(1).max(1);
        self.from * (self.to / self.from).powf(step as f64 / last as f64)
    }
}

/// A step of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Learning rate.
    pub lr: f64,
    /// Loss of its batch, before the step.
    pub loss: f64,
    /// Mean of the losses so far, later ones weighing more.
    pub smoothed: f64,
}

/// Why the test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All rates are tried.
    Through,
    /// The smoothed loss had grown to several times the lowest.
    Diverged,
    /// The loss or a gradient was no finite number.
    NonFinite,
}

/// What a test has found.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeTest {
    /// Its steps.
    pub points: Vec<Point>,
    /// Why there are no more.
    pub end: End,
}

/// Trains phase `index` from these parameters with rates that rise, on training pictures as the
/// phase sees them, and with its optimizer. The parameters are given away. `bank` caches features
/// if the test is to see a picture twice.
pub fn range_test(
    (graph, mut params): (&Arc<Graph>, Params),
    (plan, index): (&Plan, usize),
    sweep: Sweep,
    feed: &Feed,
    bank: &mut FeatureBank,
    observer: &mut dyn Observer,
) -> Result<RangeTest, FitError> {
    let phase = &plan.phases[index];
    // Nothing is validated.
    let feed = feed.in_phase(phase.pictures).only(Split::Val, &[]);
    let mut trainer = Trainer::new(graph, plan, phase);
    let sampler = Sampler::new(plan.sampling, plan.seed, &feed.classes(Split::Train));
    let batches = trainer.batches(plan, &sampler, &feed, 1)?.len();
    let pace = Pace {
        steps_per_epoch: plan.pace(phase, batches).steps_per_epoch,
        steps: sweep.steps as u64,
        interval: sweep.steps as u64,
    };
    if pace.steps >= pace.steps_per_epoch {
        let network = Network {
            graph,
            params: &params,
        };
        let phases = std::slice::from_ref(phase);
        bank.prepare(network, phases, 0, &feed, observer)?;
    }
    let stored = &phase.frontier.stored;
    let inputs = Inputs::open(bank, &feed, graph, &params, stored, &[Split::Train])?;
    trainer.open(&params, None)?;
    let trained = trainer.suffix.trained();
    let values = trained
        .iter()
        .map(|name| params.value(name).elem_count())
        .sum();
    observer.phase_started(PhaseStarted {
        name: &phase.name,
        trainable: (values, trained.len()),
        cached: inputs.cached(Split::Train),
        done: 0,
        pace,
    });
    let mut curve = Curve::default();
    let (started, mut seen) = (Instant::now(), 0);
    while curve.steps < sweep.steps {
        let epoch = pace.epoch(curve.steps as u64 + 1);
        let mut order = trainer.batches(plan, &sampler, &feed, epoch)?;
        order.truncate((sweep.steps - curve.steps).saturating_mul(plan.accumulate));
        let mut batches = inputs.batches(Split::Train, &order, Pass::Epoch(epoch as u64))?;
        for _ in 0..order.len().div_ceil(plan.accumulate) {
            let stride = Stride {
                number: curve.steps as u64,
                lr: sweep.rate(curve.steps),
                check: false,
            };
            let mut totals = Accumulator::default();
            let batches = batches.by_ref().take(plan.accumulate);
            let interrupted = || Ok(observer.interrupted());
            match trainer.step(&mut params, stride, batches, &mut totals, interrupted) {
                Ok(_) => {}
                Err(StepError::NonFinite(_)) => return Ok(curve.end(End::NonFinite)),
                Err(StepError::Other(error)) => return Err(error),
            }
            if curve.add(stride.lr, totals.loss()) {
                return Ok(curve.end(End::Diverged));
            }
            seen += totals.seen;
            observer.step(StepTaken {
                phase: &phase.name,
                epoch,
                phase_step: curve.steps as u64,
                pace,
                loss: curve.points.last().map_or(0.0, |point| point.smoothed),
                accuracy: totals.accuracy().unwrap_or(f64::NAN),
                images_per_second: seen as f64 / started.elapsed().as_secs_f64().max(1e-9),
            });
        }
    }
    Ok(curve.end(End::Through))
}

/// The losses so far.
#[derive(Debug, Default)]
struct Curve {
    points: Vec<Point>,
    /// Steps, those on classes of weight 0 alone included, which have no loss.
    steps: usize,
    mean: f64,
    lowest: Option<f64>,
}

impl Curve {
    /// Counts a step in; whether the loss has grown too far.
    fn add(&mut self, lr: f64, loss: Option<f64>) -> bool {
        self.steps += 1;
        let Some(loss) = loss else {
            return false;
        };
        self.mean = MOMENTUM * self.mean + (1.0 - MOMENTUM) * loss;
        // The mean began at 0: divided by the weight that the losses have in it.
        let count = self.points.len() as f64 + 1.0;
        let smoothed = self.mean / (1.0 - MOMENTUM.powf(count));
        self.points.push(Point { lr, loss, smoothed });
        let lowest = self.lowest.map_or(smoothed, |lowest| lowest.min(smoothed));
        self.lowest = Some(lowest);
        smoothed > DIVERGED * lowest
    }

    fn end(self, end: End) -> RangeTest {
        RangeTest {
            points: self.points,
            end,
        }
    }
}

#[cfg(test)]
mod tests;
