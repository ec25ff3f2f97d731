//! Channels of several maps one after the other.

use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::kernel;

/// The meaning, in stock Candle operations.
pub(super) fn portable(inputs: &[&Tensor]) -> Result<Tensor> {
    Tensor::cat(inputs, D::Minus1)
}

/// Maps `[batch, height, width, channels]` that differ in channels alone, or vectors
/// `[batch, features]`.
///
/// # Errors
/// If they differ otherwise or there are none.
pub fn forward(inputs: &[&Tensor]) -> Result<Tensor> {
    let Some(&first) = inputs.first() else {
        bail!("nothing to concatenate")
    };
    if first.rank() == 2 {
        return portable(inputs);
    }
    let (batch, height, width, _) = first.dims4()?;
    let mut channels = 0;
    for input in inputs {
        let dims = input.dims4()?;
        if (dims.0, dims.1, dims.2) != (batch, height, width) {
            let (a, b) = (first.dims(), input.dims());
            bail!("maps {a:?} and {b:?} cannot be concatenated by channels")
        }
        channels += dims.3;
    }
    if !cpu::fits(inputs) {
        return portable(inputs);
    }
    let contiguous: Vec<Tensor> = inputs
        .iter()
        .map(|input| input.contiguous())
        .collect::<Result<_>>()?;
    let values: Vec<Values<'_>> = contiguous.iter().map(Values::of).collect::<Result<_>>()?;
    let slices: Vec<&[f32]> = values.iter().map(|values| &**values).collect();
    let pixels = height * width;
    let mut y = vec![0.0; batch * pixels * channels];
    y.par_chunks_mut((pixels * channels).max(1))
        .enumerate()
        .for_each(|(picture, y)| {
            let mut first = 0;
            for x in &slices {
                let part = x.len() / batch;
                let x = &x[picture * part..][..part];
                kernel::place(x, part / pixels, y, first, channels);
                first += part / pixels;
            }
        });
    cpu::tensor(y, &[batch, height, width, channels])
}

/// Gradient to the input whose `channels` begin at `first` in the output.
///
/// # Errors
/// If the gradient has fewer channels.
pub fn backward(dy: &Tensor, first: usize, channels: usize) -> Result<Tensor> {
    let part = dy.narrow(D::Minus1, first, channels)?;
    if !cpu::fits(&[dy]) || !dy.is_contiguous() {
        return part.contiguous();
    }
    let all = dy.dim(D::Minus1)?;
    let dims = part.dims();
    let values = Values::of(dy)?;
    let values: &[f32] = &values;
    let mut dx = vec![0.0; part.elem_count()];
    let rows = cpu::chunk_of_rows(all) / all.max(1);
    dx.par_chunks_mut((rows * channels).max(1))
        .zip(values.par_chunks((rows * all).max(1)))
        .for_each(|(dx, dy)| kernel::take(dy, all, first, dx, channels));
    cpu::tensor(dx, dims)
}
