//! Depthwise convolution: one kernel a channel.

use candle_core::{Result, Tensor};

use super::{KernelGrads, Needs};
use crate::geometry::Window;

/// `x [batch, height, width, in]`, `kernel [in, 1, kernel_height, kernel_width]`, `bias [in]`.
pub fn forward(
    _x: &Tensor,
    _kernel: &Tensor,
    _bias: Option<&Tensor>,
    _window: &Window,
) -> Result<Tensor> {
    todo!()
}

/// Gradients from `dy [batch, out_height, out_width, in]`.
pub fn backward(
    _x: &Tensor,
    _kernel: &Tensor,
    _dy: &Tensor,
    _window: &Window,
    _needs: Needs,
) -> Result<KernelGrads> {
    todo!()
}
