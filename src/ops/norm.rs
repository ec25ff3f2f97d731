//! Batch normalisation over the last axis (Ioffe and Szegedy, 2015), of maps and of vectors.

use candle_core::{Result, Tensor};

/// Scale, offset and statistics, each `[channels]`.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Scale.
    pub gamma: &'a Tensor,
    /// Offset.
    pub beta: &'a Tensor,
    /// Running mean.
    pub mean: &'a Tensor,
    /// Running variance.
    pub variance: &'a Tensor,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Gradients of a batch norm; `None` where not asked for.
#[derive(Debug, Default)]
pub struct NormGrads {
    /// To the input.
    pub input: Option<Tensor>,
    /// To the scale, `[channels]`.
    pub gamma: Option<Tensor>,
    /// To the offset, `[channels]`.
    pub beta: Option<Tensor>,
}

/// What a training forward pass returns.
#[derive(Debug)]
pub struct Trained {
    /// The output.
    pub y: Tensor,
    /// The batch's mean, `[channels]`.
    pub mean: Tensor,
    /// The batch's biased variance, `[channels]`; the backward pass wants it.
    pub variance: Tensor,
    /// Running mean after this batch.
    pub running_mean: Tensor,
    /// Running variance after this batch (unbiased batch variance, as PyTorch has it).
    pub running_variance: Tensor,
}

/// With the stored statistics.
pub fn forward_eval(_x: &Tensor, _norm: BatchNorm<'_>) -> Result<Tensor> {
    todo!()
}

/// Gradients of [`forward_eval`]. `affine` says whether gamma and beta need theirs.
pub fn backward_eval(
    _x: &Tensor,
    _dy: &Tensor,
    _norm: BatchNorm<'_>,
    _input: bool,
    _affine: bool,
) -> Result<NormGrads> {
    todo!()
}

/// With the batch's statistics; `momentum` is the share of the new ones in the running ones.
pub fn forward_train(_x: &Tensor, _norm: BatchNorm<'_>, _momentum: f64) -> Result<Trained> {
    todo!()
}

/// Gradients of [`forward_train`], given the batch's mean and biased variance.
pub fn backward_train(
    _x: &Tensor,
    _dy: &Tensor,
    _norm: BatchNorm<'_>,
    _mean: &Tensor,
    _variance: &Tensor,
    _input: bool,
    _affine: bool,
) -> Result<NormGrads> {
    todo!()
}
