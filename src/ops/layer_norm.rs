//! Layer normalisation over the last axis (Ba et al., 2016): of each pixel, token or vector.

use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::norm::NormGrads;
use super::{kernel, portable, shape};

/// The meaning, in stock Candle operations.
pub(super) fn portable(x: &Tensor, gamma: &Tensor, beta: &Tensor, epsilon: f64) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(variance + epsilon)?.sqrt()?)?
        .broadcast_mul(gamma)?
        .broadcast_add(beta)
}

/// Channels of `x`, after a look at the parameters.
fn check(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<usize> {
    match x.dims().split_last() {
        Some((&channels, [_, ..])) if channels > 0 => {
            shape::expect_dims("gamma", gamma, &[channels])?;
            shape::expect_dims("beta", beta, &[channels])?;
            Ok(channels)
        }
        _ => bail!("layer norm: input {:?} has no channels", x.dims()),
    }
}

/// `gamma` and `beta` are `[channels]`.
///
/// # Errors
/// If the shapes do not fit together.
pub fn forward(x: &Tensor, gamma: &Tensor, beta: &Tensor, epsilon: f64) -> Result<Tensor> {
    let channels = check(x, gamma, beta)?;
    if !cpu::fits(&[x, gamma, beta]) {
        return portable(x, gamma, beta, epsilon);
    }
    let contiguous = x.contiguous()?;
    let values = Values::of(&contiguous)?;
    let values: &[f32] = &values;
    let (gamma, beta): (Vec<f32>, Vec<f32>) = (gamma.to_vec1()?, beta.to_vec1()?);
    let mut y = vec![0.0; values.len()];
    let chunk = cpu::chunk_of_rows(channels);
    y.par_chunks_mut(chunk)
        .zip(values.par_chunks(chunk))
        .for_each(|(y, x)| kernel::layer_norm(x, &gamma, &beta, epsilon as f32, y));
    cpu::tensor(y, x.dims())
}

/// Gradients of [`forward`]. `input` and `affine` say which are needed.
///
/// # Errors
/// If the shapes do not fit together.
pub fn backward(
    x: &Tensor,
    dy: &Tensor,
    gamma: &Tensor,
    epsilon: f64,
    input: bool,
    affine: bool,
) -> Result<NormGrads> {
    let channels = check(x, gamma, gamma)?;
    shape::same_shape("gradient of layer norm", x, dy)?;
    if !cpu::fits(&[x, dy, gamma]) {
        let beta = gamma.zeros_like()?;
        let found = portable::gradients([x, gamma, &beta], dy, |[x, gamma, beta]| {
            portable(x, gamma, beta, epsilon)
        })?;
        return Ok(NormGrads::keep(found, input, affine));
    }
    let epsilon = epsilon as f32;
    let (contiguous, dy) = (x.contiguous()?, dy.contiguous()?);
    let (values, dy) = (Values::of(&contiguous)?, Values::of(&dy)?);
    let (values, dy): (&[f32], &[f32]) = (&values, &dy);
    let chunk = cpu::chunk_of_rows(channels);
    let mut found = NormGrads::default();
    if input {
        let gamma: Vec<f32> = gamma.to_vec1()?;
        let mut dx = vec![0.0; values.len()];
        dx.par_chunks_mut(chunk)
            .zip(values.par_chunks(chunk).zip(dy.par_chunks(chunk)))
            .for_each(|(dx, (x, dy))| kernel::layer_norm_input_grad(x, dy, &gamma, epsilon, dx));
        found.input = Some(cpu::tensor(dx, x.dims())?);
    }
    if affine {
        let mut partials = vec![0.0; values.len().div_ceil(chunk) * 2 * channels];
        partials
            .par_chunks_mut(2 * channels)
            .zip(values.par_chunks(chunk).zip(dy.par_chunks(chunk)))
            .for_each(|(sums, (x, dy))| kernel::layer_norm_sums(x, dy, epsilon, false, sums));
        let sums = cpu::sum_in_order(&partials, 2 * channels);
        found.gamma = Some(cpu::tensor(sums[..channels].to_vec(), &[channels])?);
        found.beta = Some(cpu::tensor(sums[channels..].to_vec(), &[channels])?);
    }
    Ok(found)
}
