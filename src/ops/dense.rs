//! Fully connected layers.

use candle_core::{Result, Tensor};

use super::{KernelGrads, Needs};

/// `x [batch, features]`, `kernel [units, features]`, `bias [units]`.
pub fn forward(_x: &Tensor, _kernel: &Tensor, _bias: Option<&Tensor>) -> Result<Tensor> {
    todo!()
}

/// Gradients from `dy [batch, units]`.
pub fn backward(_x: &Tensor, _kernel: &Tensor, _dy: &Tensor, _needs: Needs) -> Result<KernelGrads> {
    todo!()
}
