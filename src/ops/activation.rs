//! ReLU and ReLU6.

use candle_core::{Result, Tensor};
use candle_nn::Module;

use super::{cpu, shape};

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

impl Activation {
    /// The range of outputs.
    pub(super) fn bounds(self) -> [f32; 2] {
        match self {
            Self::Linear => [f32::NEG_INFINITY, f32::INFINITY],
            Self::Relu => [0.0, f32::INFINITY],
            Self::Relu6 => [0.0, 6.0],
        }
    }
}

/// The meaning, in stock Candle operations.
pub(super) fn portable(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Linear => Ok(x.clone()),
        Activation::Relu => candle_nn::Activation::Relu.forward(x),
        Activation::Relu6 => candle_nn::Activation::Relu6.forward(x),
    }
}

/// Applies the activation.
pub fn forward(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::Linear || !cpu::fits(&[x]) {
        return portable(x, activation);
    }
    let [low, high] = activation.bounds();
    cpu::map(x, |x| x.clamp(low, high))
}

/// Gradient to the input from the output `y` (PyTorch's convention: 0 at both kinks).
///
/// # Errors
/// If `y` and `dy` differ in shape.
pub fn backward(y: &Tensor, dy: &Tensor, activation: Activation) -> Result<Tensor> {
    shape::same_shape("gradient of the activation", y, dy)?;
    if activation == Activation::Linear {
        return Ok(dy.clone());
    }
    let [low, high] = activation.bounds();
    if !cpu::fits(&[y, dy]) {
        let open = (y.gt(low)? * y.lt(high)?)?;
        return open.to_dtype(dy.dtype())? * dy;
    }
    cpu::zip(y, dy, |y, dy| if y > low && y < high { dy } else { 0.0 })
}
