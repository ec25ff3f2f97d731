//! Dropout (Srivastava et al., 2014), from a seeded stream.

use candle_core::{Result, Tensor, bail};

use super::elementwise;

/// A tensor of 0 and 1 / (1 - rate), in the shape of `x`, drawn from `stream`.
///
/// # Errors
/// If `rate` does not lie in `0..1`.
pub fn mask(x: &Tensor, rate: f64, stream: &mut impl rand::Rng) -> Result<Tensor> {
    let values = mask_values(x.elem_count(), rate, stream)?;
    Tensor::from_vec(values, x.shape(), x.device())
}

/// As [`mask`], so many values.
pub(crate) fn mask_values(
    count: usize,
    rate: f64,
    stream: &mut impl rand::Rng,
) -> Result<Vec<f32>> {
    if !(0.0..1.0).contains(&rate) {
        bail!("a dropout rate of {rate} does not lie between 0 and 1")
    }
    let kept = (1.0 / (1.0 - rate)) as f32;
    let draw = |_| {
        if stream.random::<f64>() < rate {
            0.0
        } else {
            kept
        }
    };
    Ok((0..count).map(draw).collect())
}

/// `x * mask`; its gradient is `dy * mask`.
///
/// # Errors
/// If the shapes differ.
pub fn apply(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    elementwise::multiply(x, mask)
}
