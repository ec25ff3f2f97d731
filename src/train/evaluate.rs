//! Losses and whole-split evaluation.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::feed::{Feed, FeedError, Pass};
use super::fit::FitError;
use super::inputs::SuffixBatch;
use super::labels::Labels;
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

/// The plan's loss of a batch's logits. That of auxiliary classifiers is added to the head's, which
/// alone says what is correct.
pub fn loss(plan: &LossPlan, logits: &Tensor, labels: &Labels) -> Result<LossOutput> {
    loss_of_part(plan, logits, labels, 0..labels.len())
}

fn loss_of_part(
    plan: &LossPlan,
    logits: &Tensor,
    labels: &Labels,
    pictures: Range<usize>,
) -> Result<LossOutput> {
    let (labels, others) = labels.part(pictures);
    let target = Target {
        labels,
        others,
        smoothing: plan.smoothing,
        class_weights: plan.class_weights.as_deref(),
    };
    let Some(weight) = plan.auxiliary else {
        return loss_of_one(plan, logits, target);
    };
    let classifiers = logits.dim(1)? / plan.outputs.max(1);
    let part = |index: usize| logits.narrow(1, index * plan.outputs, plan.outputs);
    let mut total = loss_of_one(plan, &part(0)?, target)?;
    let mut gradients = vec![total.gradient.clone()];
    for index in 1..classifiers {
        let auxiliary = loss_of_one(plan, &part(index)?, target)?;
        total.sum += weight * auxiliary.sum;
        gradients.push(auxiliary.gradient.affine(weight, 0.0)?);
    }
    total.gradient = Tensor::cat(&gradients, 1)?;
    Ok(total)
}

fn loss_of_one(plan: &LossPlan, logits: &Tensor, target: Target<'_>) -> Result<LossOutput> {
    if plan.binary {
        loss::binary(logits, target)
    } else {
        loss::categorical(logits, target)
    }
}

/// Sum of the weights of a batch's pictures.
pub fn weight(plan: &LossPlan, labels: &Labels) -> f64 {
    let (labels, others) = labels.part(0..labels.len());
    let target = Target {
        labels,
        others,
        smoothing: plan.smoothing,
        class_weights: plan.class_weights.as_deref(),
    };
    target.weight()
}

/// The gradient of a batch's mean loss to the logits of a part of it.
pub fn loss_gradient(
    plan: &LossPlan,
    labels: &Labels,
) -> impl Fn(&Tensor, Range<usize>) -> Result<Tensor> + Sync {
    let (own, others) = labels.part(0..labels.len());
    let target = Target {
        labels: own,
        others,
        smoothing: plan.smoothing,
        class_weights: plan.class_weights.as_deref(),
    };
    let total = target.weight();
    move |logits, pictures| {
        let part = loss_of_part(plan, logits, labels, pictures)?;
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn auxiliary_losses_are_added_with_their_weight() {
        let plan = LossPlan {
            binary: false,
            smoothing: 0.1,
            class_weights: None,
            outputs: 3,
            auxiliary: None,
        };
        let labels = Labels::from(vec![2, 0]);
        let logits = |values: [f32; 6]| Tensor::from_slice(&values, (2, 3), &Device::Cpu).unwrap();
        let head = logits([0.1, 0.7, -0.3, 1.0, 2.0, 0.5]);
        let beside = logits([-1.0, 0.2, 0.9, 0.0, -0.5, 0.4]);
        let [a, b] = [&head, &beside].map(|logits| loss(&plan, logits, &labels).unwrap());
        let both = Tensor::cat(&[&head, &beside], 1).unwrap();
        let plan = plan.with_auxiliary(Some(0.4));
        let sum = loss(&plan, &both, &labels).unwrap();
        assert!((sum.sum - (a.sum + 0.4 * b.sum)).abs() < 1e-12);
        assert_eq!((sum.weight, sum.correct), (a.weight, a.correct));
        let scaled = b.gradient.affine(0.4, 0.0).unwrap();
        let expected = Tensor::cat(&[&a.gradient, &scaled], 1).unwrap();
        let values = |tensor: &Tensor| tensor.to_vec2::<f32>().unwrap();
        assert_eq!(values(&sum.gradient), values(&expected));
        let of_part = loss_gradient(&plan, &labels)(&both.narrow(0, 1, 1).unwrap(), 1..2).unwrap();
        for (part, whole) in values(&of_part)[0].iter().zip(&values(&expected)[1]) {
            assert!((part - whole).abs() < 1e-6);
        }
    }
}
