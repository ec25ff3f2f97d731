//! Maximum and mean over windows: `[batch, height, width, channels]` to the same with a map of the
//! window's output size. Windows have no dilation, and no side is padded by as much as the window
//! is wide, so that every window holds at least one value.

use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::kernel::{self, MapDims};
use super::{portable, shape};
use crate::geometry::{Padding, Window};

/// Number of maps, and dimensions of an input and an output map.
struct Maps {
    batch: usize,
    input: MapDims,
    output: MapDims,
}

impl Maps {
    fn of(dims: &[usize], window: &Window) -> Result<Self> {
        let &[batch, height, width, channels] = dims else {
            bail!("pooling needs maps, not {dims:?}")
        };
        let Padding {
            top,
            bottom,
            left,
            right,
        } = window.padding;
        let [rows, columns] = window.kernel;
        let padded = top.max(bottom) >= rows || left.max(right) >= columns;
        if padded || window.dilation != [1, 1] || window.stride.contains(&0) {
            bail!("pooling: {window:?} is dilated, has no stride or pads by a whole window")
        }
        let output = window.output(height, width).filter(|_| height * width > 0);
        let Some([out_height, out_width]) = output else {
            bail!("pooling: {window:?} does not fit into maps of {dims:?}")
        };
        let map = |height, width| MapDims {
            height,
            width,
            channels,
        };
        Ok(Self {
            batch,
            input: map(height, width),
            output: map(out_height, out_width),
        })
    }

    fn dims(&self, map: MapDims) -> [usize; 4] {
        [self.batch, map.height, map.width, map.channels]
    }

    fn output_dims(&self) -> [usize; 4] {
        self.dims(self.output)
    }
}

/// One slice kernel over all maps, in parallel.
fn pool(
    x: &Tensor,
    maps: &Maps,
    kernel: impl Fn(&[f32], MapDims, &mut [f32]) + Sync,
) -> Result<Tensor> {
    let contiguous = x.contiguous()?;
    let values = Values::of(&contiguous)?;
    let values: &[f32] = &values;
    let mut y = vec![0.0; maps.output_dims().iter().product()];
    y.par_chunks_mut(maps.output.elements().max(1))
        .zip(values.par_chunks(maps.input.elements().max(1)))
        .for_each(|(y, x)| kernel(x, maps.input, y));
    cpu::tensor(y, &maps.output_dims())
}

/// The meaning of [`max`], in stock Candle operations.
pub(super) fn portable_max(x: &Tensor, window: &Window) -> Result<Tensor> {
    let maps = Maps::of(x.dims(), window)?;
    let mut most: Option<Tensor> = None;
    for_each_tap(
        &padded_below(&x.contiguous()?, window)?,
        window,
        &maps,
        |x, _| {
            most = Some(match most.take() {
                Some(most) => most.maximum(x)?,
                None => x.clone(),
            });
            Ok(())
        },
    )?;
    some(most)
}

/// The meaning of [`avg`], in stock Candle operations.
pub(super) fn portable_avg(x: &Tensor, window: &Window, count_include_pad: bool) -> Result<Tensor> {
    let maps = Maps::of(x.dims(), window)?;
    let output = [maps.output.height, maps.output.width];
    let sum = |x: &Tensor| portable::sum_over_taps(x, window, output, |x, _| Ok(x.clone()));
    let counts = if count_include_pad {
        let counts = Tensor::ones((1, output[0], output[1], 1), x.dtype(), x.device())?;
        (counts * (window.kernel[0] * window.kernel[1]) as f64)?
    } else {
        let dims = (1, maps.input.height, maps.input.width, 1);
        sum(&Tensor::ones(dims, x.dtype(), x.device())?)?
    };
    sum(&x.contiguous()?)?.broadcast_div(&counts)
}

/// Maximum over each window; padding never wins.
///
/// # Errors
/// If `x` holds no maps or the window does not fit.
pub fn max(x: &Tensor, window: &Window) -> Result<Tensor> {
    let maps = Maps::of(x.dims(), window)?;
    if !cpu::fits(&[x]) {
        return portable_max(x, window);
    }
    pool(x, &maps, |x, input, y| {
        kernel::max_pool(x, 1, input, window, y)
    })
}

/// Gradient of [`max`]: to the first maximum of each window, row by row.
///
/// # Errors
/// If the shapes do not fit together.
pub fn max_backward(x: &Tensor, dy: &Tensor, window: &Window) -> Result<Tensor> {
    let maps = Maps::of(x.dims(), window)?;
    shape::expect_dims("gradient of max pooling", dy, &maps.output_dims())?;
    if !cpu::fits(&[x, dy]) {
        return portable_max_backward(x, dy, window, &maps);
    }
    let (x, dy) = (x.contiguous()?, dy.contiguous()?);
    let (values, dy) = (Values::of(&x)?, Values::of(&dy)?);
    let (values, dy): (&[f32], &[f32]) = (&values, &dy);
    let mut dx = vec![0.0; values.len()];
    let elements = maps.input.elements().max(1);
    dx.par_chunks_mut(elements)
        .zip(values.par_chunks(elements))
        .zip(dy.par_chunks(maps.output.elements().max(1)))
        .for_each(|((dx, x), dy)| kernel::max_pool_grad(x, dy, maps.input, window, dx));
    cpu::tensor(dx, x.dims())
}

/// Mean over each window; `count_include_pad` says whether padding counts as zeros.
///
/// # Errors
/// If `x` holds no maps or the window does not fit.
pub fn avg(x: &Tensor, window: &Window, count_include_pad: bool) -> Result<Tensor> {
    let maps = Maps::of(x.dims(), window)?;
    if !cpu::fits(&[x]) {
        return portable_avg(x, window, count_include_pad);
    }
    pool(x, &maps, |x, input, y| {
        kernel::avg_pool(x, 1, input, window, count_include_pad, y);
    })
}

/// Gradient of [`avg`] for an input of these dimensions.
///
/// # Errors
/// If the shapes do not fit together.
pub fn avg_backward(
    dims: &[usize],
    dy: &Tensor,
    window: &Window,
    count_include_pad: bool,
) -> Result<Tensor> {
    let maps = Maps::of(dims, window)?;
    shape::expect_dims("gradient of average pooling", dy, &maps.output_dims())?;
    if !cpu::fits(&[dy]) {
        let x = Tensor::zeros(dims, dy.dtype(), dy.device())?;
        let [dx] = portable::gradients([&x], dy, |[x]| portable_avg(x, window, count_include_pad))?;
        return Ok(dx);
    }
    let dy = dy.contiguous()?;
    let dy = Values::of(&dy)?;
    let dy: &[f32] = &dy;
    let mut dx = vec![0.0; dims.iter().product()];
    dx.par_chunks_mut(maps.input.elements().max(1))
        .zip(dy.par_chunks(maps.output.elements().max(1)))
        .for_each(|(dx, dy)| kernel::avg_pool_grad(dy, maps.input, window, count_include_pad, dx));
    cpu::tensor(dx, dims)
}

fn portable_max_backward(x: &Tensor, dy: &Tensor, window: &Window, maps: &Maps) -> Result<Tensor> {
    let padded = padded_below(&x.contiguous()?, window)?;
    let y = portable_max(x, window)?;
    let mut open = y.ones_like()?;
    let mut dx = padded.zeros_like()?;
    let Padding { top, left, .. } = window.padding;
    for_each_tap(&padded, window, maps, |x, [rows, columns]| {
        let first = (x.eq(&y)?.to_dtype(x.dtype())? * &open)?;
        open = (&open - &first)?;
        let (batch, height, _, channels) = first.dims4()?;
        let width = padded.dim(2)?;
        let wide = Tensor::zeros((batch, height, width, channels), x.dtype(), x.device())?;
        let wide = wide.index_add(columns, &(first * dy)?, 2)?;
        dx = dx.index_add(rows, &wide, 1)?;
        Ok(())
    })?;
    let MapDims { height, width, .. } = maps.input;
    dx.narrow(1, top, height)?
        .narrow(2, left, width)?
        .contiguous()
}

/// The map with minus infinity around it.
fn padded_below(x: &Tensor, window: &Window) -> Result<Tensor> {
    let inside = portable::pad(&x.ones_like()?, window.padding)?.to_dtype(DType::U8)?;
    let padded = portable::pad(x, window.padding)?;
    let below = (padded.zeros_like()? + f64::NEG_INFINITY)?;
    inside.where_cond(&padded, &below)
}

/// Calls `f` for each tap of the window, row by row, with the values under it and the rows and
/// columns of the padded map that they come from.
fn for_each_tap(
    padded: &Tensor,
    window: &Window,
    maps: &Maps,
    mut f: impl FnMut(&Tensor, [&Tensor; 2]) -> Result<()>,
) -> Result<()> {
    let positions = |tap: usize, axis: usize, count: usize| {
        let at = |i: usize| (tap + i * window.stride[axis]) as u32;
        Tensor::from_iter((0..count).map(at), padded.device())
    };
    for row in 0..window.kernel[0] {
        let rows = positions(row, 0, maps.output.height)?;
        let band = padded.index_select(&rows, 1)?;
        for column in 0..window.kernel[1] {
            let columns = positions(column, 1, maps.output.width)?;
            f(&band.index_select(&columns, 2)?, [&rows, &columns])?;
        }
    }
    Ok(())
}

fn some(tensor: Option<Tensor>) -> Result<Tensor> {
    match tensor {
        Some(tensor) => Ok(tensor),
        None => bail!("the window has no taps"),
    }
}

#[cfg(test)]
mod tests;
