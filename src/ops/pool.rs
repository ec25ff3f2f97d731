//! Global pooling: `[batch, height, width, channels]` to `[batch, channels]`.

use candle_core::{Result, Tensor};

/// Mean over height and width.
pub fn global_avg(_x: &Tensor) -> Result<Tensor> {
    todo!()
}

/// Gradient of [`global_avg`] for an input of `height` x `width`.
pub fn global_avg_backward(_dy: &Tensor, _height: usize, _width: usize) -> Result<Tensor> {
    todo!()
}

/// Maximum over height and width.
pub fn global_max(_x: &Tensor) -> Result<Tensor> {
    todo!()
}

/// Gradient of [`global_max`]: to the first maximum of each channel.
pub fn global_max_backward(_x: &Tensor, _dy: &Tensor) -> Result<Tensor> {
    todo!()
}
