//! Batch normalisation over the last axis (Ioffe and Szegedy, 2015), of maps and of vectors.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::kernel::{self, Clamped, NormGradSums};
use super::{portable, shape};
use crate::activation::Activation;

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

impl NormGrads {
    pub(super) fn keep([x, gamma, beta]: [Tensor; 3], input: bool, affine: bool) -> Self {
        Self {
            input: input.then_some(x),
            gamma: affine.then_some(gamma),
            beta: affine.then_some(beta),
        }
    }
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

/// The meaning with the stored statistics, in stock Candle operations.
pub(super) fn portable_eval(x: &Tensor, norm: BatchNorm<'_>) -> Result<Tensor> {
    portable(x, norm, norm.mean, norm.variance)
}

fn portable(x: &Tensor, norm: BatchNorm<'_>, mean: &Tensor, variance: &Tensor) -> Result<Tensor> {
    let deviation = (variance + norm.epsilon)?.sqrt()?;
    x.broadcast_sub(mean)?
        .broadcast_div(&deviation)?
        .broadcast_mul(norm.gamma)?
        .broadcast_add(norm.beta)
}

/// The meaning with the batch's statistics: output, mean and biased variance.
pub(super) fn portable_train(x: &Tensor, norm: BatchNorm<'_>) -> Result<[Tensor; 3]> {
    let rows = x.flatten_to(x.rank() - 2)?;
    let mean = rows.mean(0)?;
    let variance = rows.broadcast_sub(&mean)?.sqr()?.mean(0)?;
    Ok([portable(x, norm, &mean, &variance)?, mean, variance])
}

/// Channels of `x`, after a look at the four parameters.
fn check(x: &Tensor, norm: BatchNorm<'_>) -> Result<usize> {
    let Some((&channels, [_, ..])) = x.dims().split_last() else {
        bail!("batch norm: input {:?} has no channels", x.dims())
    };
    for (name, parameter) in [
        ("gamma", norm.gamma),
        ("beta", norm.beta),
        ("mean", norm.mean),
        ("variance", norm.variance),
    ] {
        if parameter.dims() != [channels] {
            let (x, parameter) = (x.dims(), parameter.dims());
            bail!("batch norm: input {x:?} and {name} {parameter:?} do not fit together")
        }
    }
    Ok(channels)
}

fn on_cpu(x: &Tensor, norm: BatchNorm<'_>) -> bool {
    cpu::fits(&[x, norm.gamma, norm.beta, norm.mean, norm.variance])
}

fn vector(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_vec1()
}

/// `1 / sqrt(variance + epsilon)`.
pub(crate) fn inverse_deviation(variance: &[f32], epsilon: f64) -> Vec<f64> {
    let inverse = |v: &f32| 1.0 / (f64::from(*v) + epsilon).sqrt();
    variance.iter().map(inverse).collect()
}

/// `(x - mean) * inverse * gamma + beta` in one pass.
fn normalise(
    x: &[f32],
    norm: BatchNorm<'_>,
    mean: &[f32],
    inverse: &[f64],
    dims: &[usize],
) -> Result<Tensor> {
    let (gamma, beta) = (vector(norm.gamma)?, vector(norm.beta)?);
    let scale: Vec<f32> = gamma
        .iter()
        .zip(inverse)
        .map(|(gamma, inverse)| (f64::from(*gamma) * inverse) as f32)
        .collect();
    let mut y = vec![0.0; x.len()];
    let chunk = cpu::chunk_of_rows(mean.len());
    y.par_chunks_mut(chunk)
        .zip(x.par_chunks(chunk))
        .for_each(|(y, x)| {
            kernel::normalise(x, Some(mean), &scale, &beta, None, Activation::Linear, y);
        });
    cpu::tensor(y, dims)
}

/// With the stored statistics.
///
/// # Errors
/// If the shapes do not fit together.
pub fn forward_eval(x: &Tensor, norm: BatchNorm<'_>) -> Result<Tensor> {
    check(x, norm)?;
    if !on_cpu(x, norm) {
        return portable_eval(x, norm);
    }
    let mean = vector(norm.mean)?;
    let inverse = inverse_deviation(&vector(norm.variance)?, norm.epsilon);
    let contiguous = x.contiguous()?;
    normalise(&Values::of(&contiguous)?, norm, &mean, &inverse, x.dims())
}

/// Gradients of [`forward_eval`]. `affine` says whether gamma and beta need theirs.
///
/// # Errors
/// If the shapes do not fit together.
pub fn backward_eval(
    x: &Tensor,
    dy: &Tensor,
    norm: BatchNorm<'_>,
    input: bool,
    affine: bool,
) -> Result<NormGrads> {
    check(x, norm)?;
    shape::same_shape("gradient of batch norm", x, dy)?;
    if !on_cpu(x, norm) || !cpu::fits(&[dy]) {
        let gradients = portable::gradients([x, norm.gamma, norm.beta], dy, |[x, gamma, beta]| {
            portable_eval(
                x,
                BatchNorm {
                    gamma,
                    beta,
                    ..norm
                },
            )
        })?;
        return Ok(NormGrads::keep(gradients, input, affine));
    }
    let (mean, variance) = (vector(norm.mean)?, vector(norm.variance)?);
    gradients(x, dy, norm, [&mean, &variance], false, [input, affine])
}

/// With the batch's statistics; `momentum` is the share of the new ones in the running ones.
///
/// # Errors
/// If the shapes do not fit together.
pub fn forward_train(x: &Tensor, norm: BatchNorm<'_>, momentum: f64) -> Result<Trained> {
    let channels = check(x, norm)?;
    let rows = x.elem_count() / channels.max(1);
    if rows == 0 {
        return Ok(Trained {
            y: x.clone(),
            mean: norm.mean.clone(),
            variance: norm.variance.clone(),
            running_mean: norm.mean.clone(),
            running_variance: norm.variance.clone(),
        });
    }
    let (y, mean, variance) = if on_cpu(x, norm) {
        let contiguous = x.contiguous()?;
        let values = Values::of(&contiguous)?;
        let [mean, variance] = batch_moments(&values, channels);
        let inverse = inverse_deviation(&variance, norm.epsilon);
        let y = normalise(&values, norm, &mean, &inverse, x.dims())?;
        let mean = cpu::tensor(mean, &[channels])?;
        (y, mean, cpu::tensor(variance, &[channels])?)
    } else {
        let [y, mean, variance] = portable_train(x, norm)?;
        (y, mean, variance)
    };
    let [running_mean, running_variance] = running(norm, &mean, &variance, rows, momentum)?;
    Ok(Trained {
        y,
        mean,
        variance,
        running_mean,
        running_variance,
    })
}

/// Running mean and variance after a batch of so many rows.
pub(crate) fn running(
    norm: BatchNorm<'_>,
    mean: &Tensor,
    variance: &Tensor,
    rows: usize,
    momentum: f64,
) -> Result<[Tensor; 2]> {
    let blend = |running: &Tensor, new: &Tensor, factor: f64| {
        running.affine(1.0 - momentum, 0.0)? + new.affine(momentum * factor, 0.0)?
    };
    // PyTorch divides by `rows - 1` here, and by `rows` in the normalisation.
    let unbiased = rows as f64 / rows.saturating_sub(1).max(1) as f64;
    Ok([
        blend(norm.mean, mean, 1.0)?,
        blend(norm.variance, variance, unbiased)?,
    ])
}

/// Gradients of [`forward_train`], given the batch's mean and biased variance.
///
/// # Errors
/// If the shapes do not fit together.
pub fn backward_train(
    x: &Tensor,
    dy: &Tensor,
    norm: BatchNorm<'_>,
    mean: &Tensor,
    variance: &Tensor,
    input: bool,
    affine: bool,
) -> Result<NormGrads> {
    let batch = BatchNorm {
        mean,
        variance,
        ..norm
    };
    check(x, batch)?;
    shape::same_shape("gradient of batch norm", x, dy)?;
    if !on_cpu(x, batch) || !cpu::fits(&[dy]) {
        let gradients = portable::gradients([x, norm.gamma, norm.beta], dy, |[x, gamma, beta]| {
            let [y, ..] = portable_train(
                x,
                BatchNorm {
                    gamma,
                    beta,
                    ..norm
                },
            )?;
            Ok(y)
        })?;
        return Ok(NormGrads::keep(gradients, input, affine));
    }
    let (mean, variance) = (vector(mean)?, vector(variance)?);
    gradients(x, dy, norm, [&mean, &variance], true, [input, affine])
}

/// Mean and biased variance of each channel: of chunks first, then joined in order (Chan, Golub
/// and LeVeque, 1979).
fn batch_moments(x: &[f32], channels: usize) -> [Vec<f32>; 2] {
    let chunk = cpu::chunk_of_rows(channels);
    let mut parts = vec![0.0; x.len().div_ceil(chunk) * 2 * channels];
    parts
        .par_chunks_mut(2 * channels)
        .zip(x.par_chunks(chunk))
        .for_each(|(part, x)| {
            let (mean, squares) = part.split_at_mut(channels);
            moments(x, 0, mean, squares);
        });
    join_moments(
        parts
            .chunks(2 * channels)
            .zip(x.chunks(chunk))
            .map(|(part, x)| (part, x.len() / channels)),
        channels,
    )
}

/// Rows that a sum in f32 goes over: a long one would lose digits.
const SHORT_SUM: usize = 256;

/// Mean and sum of squared deviations of each channel on one thread, joined to those of `before`
/// rows that `mean` and `squares` hold.
pub(crate) fn moments(x: &[f32], before: usize, mean: &mut [f32], squares: &mut [f32]) {
    let channels = mean.len().max(1);
    let block = SHORT_SUM * channels;
    let blocks = x.len().div_ceil(block);
    let mut parts = vec![0.0; (blocks + 1) * 2 * channels];
    let (earlier, new) = parts.split_at_mut(2 * channels);
    if before > 0 {
        earlier[..channels].copy_from_slice(mean);
        earlier[channels..].copy_from_slice(squares);
    }
    for (part, x) in new.chunks_mut(2 * channels).zip(x.chunks(block)) {
        let (mean, squares) = part.split_at_mut(channels);
        kernel::moments(x, mean, squares);
    }
    let rows = std::iter::once(before).chain(x.chunks(block).map(|x| x.len() / channels));
    let skipped = usize::from(before == 0);
    let parts = parts.chunks(2 * channels).zip(rows).skip(skipped);
    let [joint, variance] = join_moments(parts, channels);
    mean.copy_from_slice(&joint);
    let rows = (before + x.len() / channels) as f32;
    for (squares, variance) in squares.iter_mut().zip(variance) {
        *squares = variance * rows;
    }
}

/// Sums of `dy`, behind the clamp if there is one, and of `dy (x - mean)` of each channel on one
/// thread, set or added to `sums`.
pub(crate) fn gradient_sums(
    x: &[f32],
    dy: &[f32],
    mean: &[f32],
    clamped: Option<Clamped<'_>>,
    add: bool,
    sums: &mut [f32],
) {
    let channels = mean.len().max(1);
    let block = SHORT_SUM * channels;
    let mut parts = vec![0.0; x.len().div_ceil(block) * 2 * channels];
    let blocks = x.chunks(block).zip(dy.chunks(block));
    for (part, (x, dy)) in parts.chunks_mut(2 * channels).zip(blocks) {
        let (dy_sum, dy_x) = part.split_at_mut(channels);
        let sums = NormGradSums { dy: dy_sum, dy_x };
        kernel::norm_grad_sums(x, dy, mean, clamped, sums);
    }
    keep_sum(&parts, add, sums);
}

/// Sum over all but the last axis on one thread, set or added to `sums`.
pub(crate) fn sum_of_rows(x: &[f32], add: bool, sums: &mut [f32]) {
    let channels = sums.len().max(1);
    let block = SHORT_SUM * channels;
    let mut parts = vec![0.0; x.len().div_ceil(block) * channels];
    for (part, x) in parts.chunks_mut(channels).zip(x.chunks(block)) {
        kernel::add_rows(x, part);
    }
    keep_sum(&parts, add, sums);
}

fn keep_sum(parts: &[f32], add: bool, sums: &mut [f32]) {
    let total = cpu::sum_in_order(parts, sums.len());
    match add {
        true => kernel::add_into(&total, sums),
        false => sums.copy_from_slice(&total),
    }
}

/// Mean and biased variance from `[mean, squared deviations]` of parts of so many rows.
pub(crate) fn join_moments<'a>(
    parts: impl Iterator<Item = (&'a [f32], usize)>,
    channels: usize,
) -> [Vec<f32>; 2] {
    let (mut mean, mut squares) = (vec![0f64; channels], vec![0f64; channels]);
    let mut rows = 0.0;
    for (part, new) in parts {
        let new = new as f64;
        for channel in 0..channels {
            let gap = f64::from(part[channel]) - mean[channel];
            mean[channel] += gap * new / (rows + new);
            squares[channel] +=
                f64::from(part[channels + channel]) + gap * gap * rows * new / (rows + new);
        }
        rows += new;
    }
    [
        mean.into_iter().map(|mean| mean as f32).collect(),
        squares.into_iter().map(|s| (s / rows) as f32).collect(),
    ]
}

/// Coefficients `[a, b, c]` of the gradient to the input, `a dy + b (x - mean) + c`, from the
/// `sum` of `dy` and that of `dy (x - mean)` over so many rows; without batch statistics, `None`.
pub(crate) fn input_coefficients(
    gamma: &[f32],
    inverse: &[f64],
    sums: Option<([&[f32]; 2], usize)>,
) -> [Vec<f32>; 3] {
    let scale = |c: usize| f64::from(gamma[c]) * inverse[c];
    let per_row = |which: usize, c: usize| match sums {
        Some((sums, rows)) => f64::from(sums[which][c]) / rows.max(1) as f64,
        None => 0.0,
    };
    let each = |f: &dyn Fn(usize) -> f64| -> Vec<f32> {
        (0..gamma.len()).map(|channel| f(channel) as f32).collect()
    };
    [
        each(&scale),
        each(&|c| -scale(c) * inverse[c] * inverse[c] * per_row(1, c)),
        each(&|c| -scale(c) * per_row(0, c)),
    ]
}

/// Gradients on the CPU. In training the statistics depend on `x`, too, and add two terms:
/// `dx = scale * (dy - mean(dy) - normalised x * mean(dy * normalised x))`.
fn gradients(
    x: &Tensor,
    dy: &Tensor,
    norm: BatchNorm<'_>,
    [mean, variance]: [&[f32]; 2],
    training: bool,
    [input, affine]: [bool; 2],
) -> Result<NormGrads> {
    let channels = mean.len();
    let dims = x.dims();
    let (x, dy) = (x.contiguous()?, dy.contiguous()?);
    let (x, dy) = (Values::of(&x)?, Values::of(&dy)?);
    let (x, dy): (&[f32], &[f32]) = (&x, &dy);
    let inverse = inverse_deviation(variance, norm.epsilon);
    let chunk = cpu::chunk_of_rows(channels);
    let mut found = NormGrads::default();
    let (mut sum, mut product) = (vec![0.0; channels], vec![0.0; channels]);
    if affine || training {
        let mut parts = vec![0.0; x.len().div_ceil(chunk) * 2 * channels];
        parts
            .par_chunks_mut((2 * channels).max(1))
            .zip(x.par_chunks(chunk).zip(dy.par_chunks(chunk)))
            .for_each(|(part, (x, dy))| {
                let (dy_sum, dy_x) = part.split_at_mut(channels);
                let sums = NormGradSums { dy: dy_sum, dy_x };
                kernel::norm_grad_sums(x, dy, mean, None, sums);
            });
        let mut sums = cpu::sum_in_order(&parts, 2 * channels);
        product = sums.split_off(channels);
        sum = sums;
    }
    if input {
        let gamma = vector(norm.gamma)?;
        let rows = x.len() / channels.max(1);
        let sums = training.then_some(([sum.as_slice(), product.as_slice()], rows));
        let [a, b, c] = input_coefficients(&gamma, &inverse, sums);
        let mut dx = vec![0.0; x.len()];
        dx.par_chunks_mut(chunk)
            .zip(x.par_chunks(chunk).zip(dy.par_chunks(chunk)))
            .for_each(|(dx, (x, dy))| kernel::norm_input_grad(x, dy, mean, [&a, &b, &c], None, dx));
        found.input = Some(cpu::tensor(dx, dims)?);
    }
    if affine {
        let gamma = product.iter().zip(&inverse);
        let gamma = gamma.map(|(sum, inverse)| (f64::from(*sum) * inverse) as f32);
        found.gamma = Some(cpu::tensor(gamma.collect(), &[channels])?);
        found.beta = Some(cpu::tensor(sum, &[channels])?);
    }
    Ok(found)
}
