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
    // A number of 53 bits below this is one in [0, 1) below the rate, exactly.
    let least = (rate * 2f64.powi(53)).ceil() as u64;
    let mut drawn = [0u64; 256];
    let mut values = vec![0.0; count];
    for values in values.chunks_mut(drawn.len()) {
        let drawn = &mut drawn[..values.len()];
        stream.fill(drawn);
        for (value, drawn) in values.iter_mut().zip(drawn) {
            *value = if *drawn >> 11 < least { 0.0 } else { kept };
        }
    }
    Ok(values)
}

/// `x * mask`; its gradient is `dy * mask`.
///
/// # Errors
/// If the shapes differ.
pub fn apply(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    elementwise::multiply(x, mask)
}
