//! ReLU and ReLU6.

use candle_core::{Result, Tensor};

/// Activations that kernels can fuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// None.
    #[default]
    Linear,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
}

/// Applies the activation.
pub fn forward(_x: &Tensor, _activation: Activation) -> Result<Tensor> {
    todo!()
}

/// Gradient to the input from the output `y` (PyTorch's convention: 0 at both kinks).
pub fn backward(_y: &Tensor, _dy: &Tensor, _activation: Activation) -> Result<Tensor> {
    todo!()
}
