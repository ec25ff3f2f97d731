//! Sums of maps and zero padding.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::kernel::{self, MapDims};
use super::{portable, shape};
use crate::geometry::Padding;

/// Sum of two tensors of one shape.
///
/// # Errors
/// If the shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    shape::same_shape("sum", a, b)?;
    if cpu::fits(&[a, b]) {
        return cpu::zip(a, b, |a, b| a + b);
    }
    a + b
}

/// Product of two tensors of one shape.
pub(super) fn multiply(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    shape::same_shape("product", a, b)?;
    if cpu::fits(&[a, b]) {
        return cpu::zip(a, b, |a, b| a * b);
    }
    a * b
}

/// Zeros around a map.
///
/// # Errors
/// If `x` does not have four dimensions.
pub fn pad(x: &Tensor, padding: Padding) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    if !cpu::fits(&[x]) {
        return portable::pad(x, padding);
    }
    let out_height = height + padding.top + padding.bottom;
    let out_width = width + padding.left + padding.right;
    let contiguous = x.contiguous()?;
    let values = Values::of(&contiguous)?;
    let values: &[f32] = &values;
    let dims = MapDims {
        height,
        width,
        channels,
    };
    let elements = out_height * out_width * channels;
    let mut y = vec![0.0; batch * elements];
    y.par_chunks_mut(elements.max(1))
        .zip(values.par_chunks(dims.elements().max(1)))
        .for_each(|(y, x)| kernel::pad(x, dims, padding, y));
    cpu::tensor(y, &[batch, out_height, out_width, channels])
}

/// Gradient of [`pad`]: the inner part.
///
/// # Errors
/// If `dy` is smaller than the padding.
pub fn pad_backward(dy: &Tensor, padding: Padding) -> Result<Tensor> {
    let (_, height, width, _) = dy.dims4()?;
    let inner = |size: usize, padding: usize| size.checked_sub(padding);
    let (Some(height), Some(width)) = (
        inner(height, padding.top + padding.bottom),
        inner(width, padding.left + padding.right),
    ) else {
        bail!(
            "a gradient of shape {:?} is smaller than {padding:?}",
            dy.dims()
        )
    };
    dy.narrow(1, padding.top, height)?
        .narrow(2, padding.left, width)?
        .contiguous()
}
