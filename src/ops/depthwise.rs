//! Depthwise convolution: one kernel a channel.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::cpu::{self, Values};
use super::kernel::{self, Epilogue, PackedDepthwise, PackedDepthwiseGrad};
use super::shape::{self, Maps};
use super::{KernelGrads, Needs, conv, portable};
use crate::geometry::Window;

/// Shares of a kernel gradient, at most.
const GRADIENT_SHARES: usize = 16;

/// The meaning, in stock Candle operations.
pub(super) fn portable(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
) -> Result<Tensor> {
    let maps = Maps::of(x, kernel, window, true)?;
    let output = [maps.output.height, maps.output.width];
    let y = portable::sum_over_taps(x, window, output, |x, [row, column]| {
        let tap = kernel.narrow(2, row, 1)?.narrow(3, column, 1)?;
        x.broadcast_mul(&tap.flatten_all()?)
    })?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// `x [batch, height, width, in]`, `kernel [in, 1, kernel_height, kernel_width]`, `bias [in]`.
///
/// # Errors
/// If the shapes or the window do not fit together.
pub fn forward(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
) -> Result<Tensor> {
    let maps = Maps::of(x, kernel, window, true)?;
    if let Some(bias) = bias {
        shape::expect_dims("bias", bias, &[maps.output.channels])?;
    }
    if !cpu::fits(&[x, kernel]) {
        return portable(x, kernel, bias, window);
    }
    let (x, kernel) = (x.contiguous()?, kernel.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(Values::of).transpose()?;
    let (x, kernel) = (Values::of(&x)?, Values::of(&kernel)?);
    let x: &[f32] = &x;
    let packed = PackedDepthwise::new(&kernel, kernel_dims(&maps, window), None);
    let epilogue = Epilogue {
        bias: bias.as_deref(),
        ..Epilogue::default()
    };
    let mut y = vec![0.0; maps.output_dims().iter().product()];
    y.par_chunks_mut(maps.output.elements().max(1))
        .zip(x.par_chunks(maps.input.elements().max(1)))
        .for_each(|(y, x)| kernel::depthwise(x, 1, maps.input, &packed, window, epilogue, y));
    cpu::tensor(y, &maps.output_dims())
}

/// Gradients from `dy [batch, out_height, out_width, in]`.
///
/// # Errors
/// If the shapes or the window do not fit together.
pub fn backward(
    x: &Tensor,
    kernel: &Tensor,
    dy: &Tensor,
    window: &Window,
    needs: Needs,
) -> Result<KernelGrads> {
    let maps = Maps::of(x, kernel, window, true)?;
    let dims = maps.output_dims();
    shape::expect_dims("gradient of the depthwise convolution", dy, &dims)?;
    if !cpu::fits(&[x, kernel, dy]) {
        return conv::portable_backward(x, kernel, dy, needs, |[x, kernel]| {
            portable(x, kernel, None, window)
        });
    }
    let (x, kernel, dy) = (x.contiguous()?, kernel.contiguous()?, dy.contiguous()?);
    let (x, kernel, dy) = (Values::of(&x)?, Values::of(&kernel)?, Values::of(&dy)?);
    let mut gradients = KernelGrads::default();
    if needs.input {
        let dx = input_gradient(&dy, &kernel, &maps, window);
        gradients.input = Some(cpu::tensor(dx, &maps.input_dims())?);
    }
    if needs.kernel {
        let dw = kernel_gradient(&x, &dy, &maps, window);
        gradients.kernel = Some(cpu::tensor(dw, &kernel_dims(&maps, window))?);
    }
    if needs.bias {
        let channels = maps.input.channels;
        gradients.bias = Some(cpu::tensor(cpu::sum_of_rows(&dy, channels), &[channels])?);
    }
    Ok(gradients)
}

fn kernel_dims(maps: &Maps, window: &Window) -> [usize; 4] {
    [maps.input.channels, 1, window.kernel[0], window.kernel[1]]
}

fn input_gradient(dy: &[f32], kernel: &[f32], maps: &Maps, window: &Window) -> Vec<f32> {
    let packed = PackedDepthwiseGrad::new(kernel, None, maps.input, window);
    let mut dx = vec![0.0; maps.input_dims().iter().product()];
    dx.par_chunks_mut(maps.input.elements().max(1))
        .zip(dy.par_chunks(maps.output.elements().max(1)))
        .for_each(|(dx, dy)| {
            kernel::depthwise_input_grad(dy, 1, maps.input, &packed, window, false, dx);
        });
    dx
}

/// `[channels, 1, kernel_height, kernel_width]`.
fn kernel_gradient(x: &[f32], dy: &[f32], maps: &Maps, window: &Window) -> Vec<f32> {
    let channels = maps.input.channels;
    let area = window.kernel[0] * window.kernel[1];
    let images = cpu::chunk_length(maps.batch, 1, GRADIENT_SHARES);
    let mut shares = vec![0.0; maps.batch.div_ceil(images) * area * channels];
    shares
        .par_chunks_mut((area * channels).max(1))
        .zip(x.par_chunks((images * maps.input.elements()).max(1)))
        .zip(dy.par_chunks((images * maps.output.elements()).max(1)))
        .for_each(|((share, x), dy)| {
            let of_share = x
                .chunks(maps.input.elements())
                .zip(dy.chunks(maps.output.elements()));
            for (x, dy) in of_share {
                kernel::depthwise_kernel_grad(x, dy, maps.input, window, share);
            }
        });
    let by_tap = cpu::sum_in_order(&shares, area * channels);
    conv::by_channel(&by_tap, channels, area)
}
