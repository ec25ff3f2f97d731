//! Losses and whole-split evaluation.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::deal::Deal;
use super::feed::{Feed, Pass, TensorBatch};
use super::fit::FitError;
use super::inputs::Inputs;
use super::labels::Labels;
use super::metrics::{Accumulator, Scores};
use super::phase::LossPlan;
use crate::engine::prefix::Prefix;
use crate::ops::loss::{self, LossOutput, Target};
use crate::ranks::Ranks;
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
    let mut totals = Totals::default();
    for batch in feed.batches(split, &order, Pass::Once)? {
        let TensorBatch { images, labels } = batch?;
        totals.add(plan, &network.run(&[images])?.swap_remove(0), &labels)?;
    }
    totals.evaluation(split)
}

/// What is evaluated: a network from stored layers to logits, and where these layers come from. The
/// ranks divide the batches among them.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// Stored layers to logits.
    pub network: &'a Prefix,
    /// From logits to the loss.
    pub loss: &'a LossPlan,
    /// The stored layers.
    pub inputs: &'a Inputs<'a>,
    /// The pictures.
    pub feed: &'a Feed,
    /// Which of them.
    pub split: Split,
    /// Who evaluates.
    pub ranks: &'a Ranks,
}

impl Judged<'_> {
    /// Calls `each` with logits and labels of every batch of `order`, which must not be mixed. Ends
    /// early, everywhere, if `stop` says so on any rank.
    pub(super) fn each(
        &self,
        order: &[Vec<usize>],
        pass: Pass,
        stop: impl Fn() -> bool,
        mut each: impl FnMut(&Tensor, &Labels) -> std::result::Result<(), FitError>,
    ) -> std::result::Result<(), FitError> {
        let deal = Deal::new(self.ranks, order);
        let own = deal.own();
        let mut batches = self.inputs.batches(self.split, &own, pass)?;
        let outputs = self.loss.outputs;
        deal.run(
            outputs,
            |_| {
                let Some(batch) = batches.next() else {
                    return Ok(Vec::new());
                };
                let logits = self.network.run(&batch?.0)?.swap_remove(0);
                Ok(logits.flatten_all()?.to_vec1()?)
            },
            |positions, values| {
                let dims = (positions.len(), outputs);
                let logits = Tensor::from_slice(values, dims, &Device::Cpu)?;
                each(&logits, &self.feed.labels(self.split, positions))
            },
            stop,
        )
    }

    /// Evaluates the whole split.
    ///
    /// # Errors
    /// If a batch cannot be made, or if the loss is not finite.
    pub fn evaluate(&self, stop: impl Fn() -> bool) -> std::result::Result<Evaluation, FitError> {
        let mut totals = Totals::default();
        let order = self.feed.in_order(self.split);
        self.each(&order, Pass::Once, stop, |logits, labels| {
            totals.add(self.loss, logits, labels)
        })?;
        totals.evaluation(self.split)
    }
}

#[derive(Default)]
struct Totals {
    scores: Accumulator,
    probabilities: Vec<Vec<f32>>,
}

impl Totals {
    fn add(
        &mut self,
        plan: &LossPlan,
        logits: &Tensor,
        labels: &Labels,
    ) -> std::result::Result<(), FitError> {
        self.scores.add(&loss(plan, logits, labels)?, labels.len());
        self.probabilities.extend(loss::probabilities(logits)?);
        Ok(())
    }

    fn evaluation(self, split: Split) -> std::result::Result<Evaluation, FitError> {
        let scores = self.scores.scores();
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
            probabilities: self.probabilities,
        })
    }
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
