//! Cross entropies on logits, with their gradients.

use candle_core::{Result, Tensor};

/// What the loss of a batch is.
#[derive(Debug)]
pub struct LossOutput {
    /// Weighted sum of the pictures' losses, in f64, summed in picture order.
    pub sum: f64,
    /// Sum of the pictures' class weights: what `sum` is divided by for the mean.
    pub weight: f64,
    /// Pictures whose most probable class is their label.
    pub correct: usize,
    /// Gradient of the *mean* loss (`sum / weight`) to the logits, `[batch, outputs]`.
    pub gradient: Tensor,
}

/// Targets and their treatment.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Class of each picture.
    pub labels: &'a [u32],
    /// Share of the target spread evenly over the classes.
    pub smoothing: f64,
    /// Weight of each class; `None` weighs all 1.
    pub class_weights: Option<&'a [f32]>,
}

/// Softmax and categorical cross entropy; logits `[batch, classes]`.
pub fn categorical(_logits: &Tensor, _target: Target<'_>) -> Result<LossOutput> {
    todo!()
}

/// Sigmoid and binary cross entropy; logits `[batch, 1]`, labels 0 and 1.
pub fn binary(_logits: &Tensor, _target: Target<'_>) -> Result<LossOutput> {
    todo!()
}

/// Probabilities of all classes, `[batch][classes]`: softmax, or (1 - p, p) of one sigmoid output.
pub fn probabilities(_logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    todo!()
}
