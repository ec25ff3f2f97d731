//! What the `portable` paths share: strided taps of maps, and gradients by Candle's autograd.

use candle_core::{Result, Tensor, Var};

use crate::geometry::{Padding, Window};

/// Zeros around a map.
pub(super) fn pad(x: &Tensor, padding: Padding) -> Result<Tensor> {
    x.pad_with_zeros(1, padding.top, padding.bottom)?
        .pad_with_zeros(2, padding.left, padding.right)
}

/// Sum over all taps of the window of `f(values under the tap, [tap row, tap column])`, where the
/// values are `[batch, out_height, out_width, channels]`.
pub(super) fn sum_over_taps(
    x: &Tensor,
    window: &Window,
    output: [usize; 2],
    f: impl Fn(&Tensor, [usize; 2]) -> Result<Tensor>,
) -> Result<Tensor> {
    let padded = pad(x, window.padding)?;
    let along = |x: &Tensor, axis: usize, tap: usize| {
        let index = |i| (tap * window.dilation[axis] + i * window.stride[axis]) as u32;
        let indices: Vec<u32> = (0..output[axis]).map(index).collect();
        let count = indices.len();
        x.index_select(&Tensor::from_vec(indices, count, x.device())?, axis + 1)
    };
    let mut sum: Option<Tensor> = None;
    for row in 0..window.kernel[0] {
        let rows = along(&padded, 0, row)?;
        for column in 0..window.kernel[1] {
            let part = f(&along(&rows, 1, column)?, [row, column])?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
    }
    match sum {
        Some(sum) => Ok(sum),
        None => candle_core::bail!("{window:?} has no taps"),
    }
}

/// Gradients to `inputs` of the sum of `f(inputs) * dy`.
pub(super) fn gradients<const N: usize>(
    inputs: [&Tensor; N],
    dy: &Tensor,
    f: impl Fn([&Tensor; N]) -> Result<Tensor>,
) -> Result<[Tensor; N]> {
    let mut variables = Vec::with_capacity(N);
    for input in inputs {
        variables.push(Var::from_tensor(&input.detach())?);
    }
    let arguments: [&Tensor; N] = std::array::from_fn(|i| variables[i].as_tensor());
    // Neither what comes in nor what goes out drags its history into the next of these.
    let gradients = (f(arguments)? * dy.detach())?.sum_all()?.backward()?;
    let mut found = Vec::with_capacity(N);
    for (variable, input) in variables.iter().zip(inputs) {
        found.push(match gradients.get(variable) {
            Some(gradient) => gradient.detach(),
            None => input.zeros_like()?,
        });
    }
    match found.try_into() {
        Ok(found) => Ok(found),
        Err(_) => candle_core::bail!("a gradient for each of {N} inputs"),
    }
}
