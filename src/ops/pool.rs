//! Global pooling: `[batch, height, width, channels]` to `[batch, channels]`.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::kernel::{self, MapDims};
use super::shape;

/// One slice kernel over all maps, in parallel.
fn pool(x: &Tensor, kernel: impl Fn(&[f32], usize, MapDims, &mut [f32]) + Sync) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let map = MapDims {
        height,
        width,
        channels,
    };
    let contiguous = x.contiguous()?;
    let values = Values::of(&contiguous)?;
    let values: &[f32] = &values;
    let mut y = vec![0.0; batch * channels];
    y.par_chunks_mut(channels.max(1))
        .zip(values.par_chunks(map.elements().max(1)))
        .for_each(|(y, x)| kernel(x, 1, map, y));
    cpu::tensor(y, &[batch, channels])
}

/// Mean over height and width.
///
/// # Errors
/// If `x` does not have four dimensions.
pub fn global_avg(x: &Tensor) -> Result<Tensor> {
    if cpu::fits(&[x]) {
        return pool(x, kernel::global_avg);
    }
    x.mean((1, 2))
}

/// Gradient of [`global_avg`] for an input of `height` x `width`.
///
/// # Errors
/// If `dy` does not have two dimensions.
pub fn global_avg_backward(dy: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, channels) = dy.dims2()?;
    let share = 1.0 / (height * width) as f64;
    let dims = (batch, height, width, channels);
    let dy = dy.affine(share, 0.0)?.reshape((batch, 1, 1, channels))?;
    dy.broadcast_as(dims)?.contiguous()
}

/// Maximum over height and width.
///
/// # Errors
/// If `x` does not have four dimensions.
pub fn global_max(x: &Tensor) -> Result<Tensor> {
    if cpu::fits(&[x]) {
        return pool(x, kernel::global_max);
    }
    x.flatten(1, 2)?.max(1)
}

/// Gradient of [`global_max`]: to the first maximum of each channel.
///
/// # Errors
/// If the shapes do not fit together.
pub fn global_max_backward(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    shape::expect_dims("gradient of the maximum", dy, &[batch, channels])?;
    if !cpu::fits(&[x, dy]) {
        let pixels = x.flatten(1, 2)?;
        let first = pixels.argmax_keepdim(1)?;
        let dx = pixels
            .zeros_like()?
            .scatter_add(&first, &dy.unsqueeze(1)?, 1)?;
        return dx.reshape(x.shape());
    }
    let (contiguous, dy) = (x.contiguous()?, dy.contiguous()?);
    let (values, dy) = (Values::of(&contiguous)?, Values::of(&dy)?);
    let (values, dy): (&[f32], &[f32]) = (&values, &dy);
    let mut dx = vec![0.0; values.len()];
    let map = MapDims {
        height,
        width,
        channels,
    };
    let elements = map.elements().max(1);
    dx.par_chunks_mut(elements)
        .zip(values.par_chunks(elements))
        .zip(dy.par_chunks(channels.max(1)))
        .for_each(|((dx, x), dy)| kernel::global_max_grad(x, dy, map, dx));
    cpu::tensor(dx, x.dims())
}
