//! Loss and accuracy over an interval: count, then divide once.

use serde::{Deserialize, Serialize};

use crate::ops::loss::LossOutput;

/// Loss and accuracy over a set of pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Mean loss.
    pub loss: f64,
    /// Share of pictures classified correctly, 0 to 1.
    pub accuracy: f64,
}

/// Sums over the batches of an interval; every picture counts once, whatever its batch's size.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Accumulator {
    /// Weighted sum of the pictures' losses.
    pub loss_sum: f64,
    /// Sum of the pictures' class weights.
    pub weight_sum: f64,
    /// Pictures whose most probable class is their label.
    pub correct: usize,
    /// Pictures.
    pub seen: usize,
}

impl Accumulator {
    /// Counts in a batch of `pictures` pictures.
    pub fn add(&mut self, batch: &LossOutput, pictures: usize) {
        self.loss_sum += batch.sum;
        self.weight_sum += batch.weight;
        self.correct += batch.correct;
        self.seen += pictures;
    }

    /// Mean loss; `None` before the first picture or when all class weights are 0.
    pub fn loss(&self) -> Option<f64> {
        (self.weight_sum > 0.0).then(|| self.loss_sum / self.weight_sum)
    }

    /// Share of pictures classified correctly, 0 to 1; `None` before the first picture.
    pub fn accuracy(&self) -> Option<f64> {
        (self.seen > 0).then(|| self.correct as f64 / self.seen as f64)
    }

    /// Both; `None` before the first picture.
    pub fn scores(&self) -> Option<Scores> {
        Some(Scores {
            loss: self.loss()?,
            accuracy: self.accuracy()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    fn batch(sum: f64, weight: f64, correct: usize) -> LossOutput {
        LossOutput {
            sum,
            weight,
            correct,
            gradient: Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap(),
        }
    }

    #[test]
    fn the_last_partial_batch_counts_by_its_size() {
        let mut total = Accumulator::default();
        assert_eq!(total.loss(), None);
        assert_eq!(total.accuracy(), None);
        total.add(&batch(8.0, 4.0, 4), 4);
        total.add(&batch(7.0, 1.0, 0), 1);
        assert_eq!(total.loss(), Some(3.0));
        assert_eq!(total.accuracy(), Some(0.8));
    }
}
