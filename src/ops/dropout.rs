//! Dropout (Srivastava et al., 2014), from a seeded stream.

use candle_core::{Result, Tensor};

/// A tensor of 0 and 1 / (1 - rate), in the shape of `x`, drawn from `stream`.
pub fn mask(_x: &Tensor, _rate: f64, _stream: &mut impl rand::Rng) -> Result<Tensor> {
    todo!()
}

/// `x * mask`; its gradient is `dy * mask`.
pub fn apply(_x: &Tensor, _mask: &Tensor) -> Result<Tensor> {
    todo!()
}
