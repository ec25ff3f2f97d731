//! Maps times one value a picture and channel: the last step of squeeze and excitation (Hu et al.,
//! 2018).

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::kernel::{self, MapDims};
use super::shape;

/// The meaning, in stock Candle operations.
pub(super) fn portable(x: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let (batch, _, _, channels) = x.dims4()?;
    x.broadcast_mul(&factors.reshape((batch, 1, 1, channels))?)
}

/// Batch and map of `x`, after a look at the factors.
fn check(x: &Tensor, factors: &Tensor) -> Result<(usize, MapDims)> {
    let (batch, height, width, channels) = x.dims4()?;
    let wanted = [vec![batch, channels], vec![batch, 1, 1, channels]];
    if !wanted.iter().any(|dims| dims == factors.dims()) {
        let (x, factors) = (x.dims(), factors.dims());
        bail!("a map {x:?} and factors {factors:?} do not fit together")
    }
    let dims = MapDims {
        height,
        width,
        channels,
    };
    Ok((batch, dims))
}

/// `x [batch, height, width, channels]` times `factors`, `[batch, channels]` or
/// `[batch, 1, 1, channels]`.
///
/// # Errors
/// If the shapes do not fit together.
pub fn forward(x: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let (_, dims) = check(x, factors)?;
    if !cpu::fits(&[x, factors]) {
        return portable(x, factors);
    }
    let (values, factors) = (x.contiguous()?, factors.contiguous()?);
    let (values, factors) = (Values::of(&values)?, Values::of(&factors)?);
    let (values, factors): (&[f32], &[f32]) = (&values, &factors);
    let mut y = vec![0.0; values.len()];
    y.par_chunks_mut(dims.elements().max(1))
        .zip(values.par_chunks(dims.elements().max(1)))
        .zip(factors.par_chunks(dims.channels.max(1)))
        .for_each(|((y, x), factors)| kernel::gate(x, factors, dims, y));
    cpu::tensor(y, x.dims())
}

/// Gradients to the map and to the factors, those of the two that are wanted.
///
/// # Errors
/// If the shapes do not fit together.
pub fn backward(
    x: &Tensor,
    factors: &Tensor,
    dy: &Tensor,
    [map, values]: [bool; 2],
) -> Result<[Option<Tensor>; 2]> {
    let (_, dims) = check(x, factors)?;
    shape::same_shape("gradient of the product", x, dy)?;
    let dx = match map {
        true => Some(forward(dy, factors)?),
        false => None,
    };
    if !values {
        return Ok([dx, None]);
    }
    if !cpu::fits(&[x, dy]) {
        let sums = (x * dy)?.sum((1, 2))?;
        return Ok([dx, Some(sums.reshape(factors.dims())?)]);
    }
    let (x, dy) = (x.contiguous()?, dy.contiguous()?);
    let (x, dy) = (Values::of(&x)?, Values::of(&dy)?);
    let (x, dy): (&[f32], &[f32]) = (&x, &dy);
    let mut to = vec![0.0; factors.elem_count()];
    to.par_chunks_mut(dims.channels.max(1))
        .zip(x.par_chunks(dims.elements().max(1)))
        .zip(dy.par_chunks(dims.elements().max(1)))
        .for_each(|((to, x), dy)| kernel::gate_grad(x, dy, dims, to));
    Ok([dx, Some(cpu::tensor(to, factors.dims())?)])
}
