//! Multi-head self-attention between the products (Vaswani et al., 2017): from queries, keys and
//! values, side by side in the last axis, to the weighted values of every head.

use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::kernel::{self, AttentionDims};
use super::{portable, shape};

/// The meaning, in stock Candle operations.
pub(super) fn portable(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, height, width, triple) = x.dims4()?;
    let (tokens, channels) = (height * width, triple / 3);
    let size = channels / heads;
    let split = x
        .reshape((batch, tokens, 3, heads, size))?
        .permute((2, 0, 3, 1, 4))?;
    let part = |index: usize| split.get(index)?.contiguous();
    let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
    let products = queries.matmul(&keys.transpose(2, 3)?.contiguous()?)?;
    let products = (products / (size as f64).sqrt())?;
    let most = products.max_keepdim(D::Minus1)?.detach();
    let weights = products.broadcast_sub(&most)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    weights
        .matmul(&values)?
        .transpose(1, 2)?
        .reshape((batch, height, width, channels))
}

/// Dimensions of a picture's attention.
fn dims(x: &Tensor, heads: usize) -> Result<AttentionDims> {
    let (_, height, width, triple) = x.dims4()?;
    if heads == 0 || triple == 0 || triple % (3 * heads) != 0 || height * width == 0 {
        bail!("attention: {heads} heads do not share out {:?}", x.dims())
    }
    Ok(AttentionDims {
        tokens: height * width,
        channels: triple / 3,
        heads,
    })
}

/// `[batch, height, width, 3 * channels]` to `[batch, height, width, channels]`: queries, keys and
/// values in this order, heads one after the other within each. The pixels are the tokens.
///
/// # Errors
/// If the heads do not divide the channels.
pub fn forward(x: &Tensor, heads: usize) -> Result<Tensor> {
    let map = dims(x, heads)?;
    if !cpu::fits(&[x]) {
        return portable(x, heads);
    }
    let (batch, height, width, _) = x.dims4()?;
    let contiguous = x.contiguous()?;
    let values = Values::of(&contiguous)?;
    let values: &[f32] = &values;
    let mut y = vec![0.0; batch * map.output_elements()];
    y.par_chunks_mut(map.output_elements())
        .zip(values.par_chunks(map.input_elements()))
        .for_each_init(
            || vec![0.0; kernel::attention_scratch(map)],
            |scratch, (y, x)| kernel::attention(x, map, y, scratch),
        );
    cpu::tensor(y, &[batch, height, width, map.channels])
}

/// Gradient of [`forward`] to its input.
///
/// # Errors
/// If the shapes do not fit together.
pub fn backward(x: &Tensor, dy: &Tensor, heads: usize) -> Result<Tensor> {
    let map = dims(x, heads)?;
    let (batch, height, width, _) = x.dims4()?;
    let wanted = [batch, height, width, map.channels];
    shape::expect_dims("gradient of attention", dy, &wanted)?;
    if !cpu::fits(&[x, dy]) {
        let [dx] = portable::gradients([x], dy, |[x]| portable(x, heads))?;
        return Ok(dx);
    }
    let (contiguous, dy) = (x.contiguous()?, dy.contiguous()?);
    let (values, dy) = (Values::of(&contiguous)?, Values::of(&dy)?);
    let (values, dy): (&[f32], &[f32]) = (&values, &dy);
    let mut dx = vec![0.0; values.len()];
    dx.par_chunks_mut(map.input_elements())
        .zip(values.par_chunks(map.input_elements()))
        .zip(dy.par_chunks(map.output_elements()))
        .for_each_init(Default::default, |scratch, ((dx, x), dy)| {
            kernel::attention_grad(x, map, dy, dx, scratch);
        });
    cpu::tensor(dx, x.dims())
}
