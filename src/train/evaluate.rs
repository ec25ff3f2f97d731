//! Losses and whole-split evaluation.

use candle_core::{Result, Tensor};

use super::feed::{Feed, FeedError};
use super::metrics::Accumulator;
use super::phase::LossPlan;
use crate::engine::prefix::Prefix;
use crate::ops::loss::{self, LossOutput, Target};
use crate::records::Split;

/// Loss and accuracy over a set of pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Mean loss.
    pub loss: f64,
    /// Share of pictures classified correctly.
    pub accuracy: f64,
}

/// Scores and the probabilities behind them.
#[derive(Debug)]
pub struct Evaluation {
    /// Loss and accuracy.
    pub scores: Scores,
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
    if plan.binary { loss::binary(logits, target) } else { loss::categorical(logits, target) }
}

/// Runs a compiled network (picture to logits) over a split, without augmentation.
pub fn evaluate(
    network: &Prefix,
    plan: &LossPlan,
    feed: &Feed,
    split: Split,
    batch_size: usize,
) -> std::result::Result<Evaluation, FeedError> {
    let positions: Vec<usize> = (0..feed.items(split).len()).collect();
    let order: Vec<Vec<usize>> = positions.chunks(batch_size).map(<[usize]>::to_vec).collect();
    let mut totals = Accumulator::default();
    let mut probabilities = Vec::with_capacity(positions.len());
    for batch in feed.batches(split, &order, None) {
        let batch = batch?;
        let logits = network.run(&[batch.images])?.swap_remove(0);
        totals.add(&loss(plan, &logits, &batch.labels)?, batch.labels.len());
        probabilities.extend(loss::probabilities(&logits)?);
    }
    let scores = Scores { loss: totals.loss(), accuracy: totals.accuracy() };
    Ok(Evaluation { scores, probabilities })
}
