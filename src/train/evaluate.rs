//! Losses and whole-split evaluation.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::feed::{Feed, FeedError, Pass};
use super::fit::FitError;
use super::inputs::SuffixBatch;
use super::metrics::{Accumulator, Scores};
use super::phase::LossPlan;
use crate::engine::prefix::Prefix;
use crate::ops::loss::{self, LossOutput, Target};
use crate::records::Split;

/// Scores and the probabilities behind them.
#[derive(Debug)]
pub struct Evaluation {
    /// Loss and accuracy; `None` for a split without pictures.
    pub scores: Option<Scores>,
    /// Probability of each class for each picture, in split order.
    pub probabilities: Vec<Vec<f32>>,
}

/// The plan's loss of a batch's logits.
pub fn loss(plan: &LossPlan, logits: &Tensor, labels: &[u32]) -> Result<LossOutput> {
    let target = Target {
        labels,
        smoothing: plan.smoothing,
        class_weights: plan.class_weights.as_deref(),
    };
    if plan.binary {
        loss::binary(logits, target)
    } else {
        loss::categorical(logits, target)
    }
}

/// The gradient of a batch's mean loss to the logits of a part of it.
pub fn loss_gradient(
    plan: &LossPlan,
    labels: &[u32],
) -> impl Fn(&Tensor, Range<usize>) -> Result<Tensor> + Sync {
    let weight = |label: &u32| match &plan.class_weights {
        Some(weights) => weights.get(*label as usize).copied().map_or(0.0, f64::from),
        None => 1.0,
    };
    let total: f64 = labels.iter().map(weight).sum();
    move |logits, pictures| {
        let part = loss(plan, logits, &labels[pictures])?;
        let share = if total > 0.0 {
            part.weight / total
        } else {
            0.0
        };
        part.gradient.affine(share, 0.0)
    }
}

/// Runs a compiled network (picture to logits) over a split, without augmentation.
///
/// # Errors
/// If a picture cannot be read, or if the loss is not finite.
pub fn evaluate(
    network: &Prefix,
    plan: &LossPlan,
    feed: &Feed,
    split: Split,
) -> std::result::Result<Evaluation, FitError> {
    let order = feed.in_order(split);
    let batches = feed.batches(split, &order, Pass::Once)?;
    let batches = batches.map(|batch| batch.map(|batch| (vec![batch.images], batch.labels)));
    evaluate_batches(network, plan, split, batches)
}

/// Runs a compiled network over the batches of a split, in order.
///
/// # Errors
/// If a batch cannot be made, or if the loss is not finite.
pub fn evaluate_batches(
    network: &Prefix,
    plan: &LossPlan,
    split: Split,
    batches: impl Iterator<Item = std::result::Result<SuffixBatch, FeedError>>,
) -> std::result::Result<Evaluation, FitError> {
    let mut totals = Accumulator::default();
    let mut probabilities = Vec::new();
    for batch in batches {
        let (inputs, labels) = batch?;
        let logits = network.run(&inputs)?.swap_remove(0);
        totals.add(&loss(plan, &logits, &labels)?, labels.len());
        probabilities.extend(loss::probabilities(&logits)?);
    }
    let scores = totals.scores();
    if let Some(Scores { loss, .. }) = scores
        && !loss.is_finite()
    {
        return Err(FitError::NonFinite {
            what: format!("the loss is {loss}"),
            place: format!("the evaluation of the {} split", split.name()),
        });
    }
    Ok(Evaluation {
        scores,
        probabilities,
    })
}
