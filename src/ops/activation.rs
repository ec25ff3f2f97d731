//! Activations: clamps such as ReLU, and curves such as SiLU.

use candle_core::{Result, Tensor};
use candle_nn::Module;
use rayon::prelude::*;

pub use crate::activation::Activation;

use super::cpu::{self, Values};
use super::{kernel, shape};

/// The meaning, in stock Candle operations.
pub(super) fn portable(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Linear => Ok(x.clone()),
        Activation::Relu => candle_nn::Activation::Relu.forward(x),
        Activation::Relu6 => candle_nn::Activation::Relu6.forward(x),
        Activation::Sigmoid => candle_nn::ops::sigmoid(x),
        Activation::HardSigmoid => (x + 3.0)?.clamp(0.0, 6.0)? / 6.0,
        Activation::Silu => x.silu(),
        Activation::HardSwish => x * portable(x, Activation::HardSigmoid)?,
        Activation::Gelu => x.gelu_erf(),
    }
}

/// Applies the activation.
pub fn forward(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::Linear || !cpu::fits(&[x]) {
        return portable(x, activation);
    }
    match activation.bounds() {
        Some([low, high]) => cpu::map(x, |x| x.clamp(low, high)),
        None => {
            let mut y = x.flatten_all()?.to_vec1()?;
            y.par_chunks_mut(cpu::CHUNK)
                .for_each(|y| kernel::curve(activation, y));
            cpu::tensor(y, x.dims())
        }
    }
}

/// Gradient to the input, from the output where the activation is a clamp, which has slope 0 at
/// its bounds (PyTorch's convention); from the input where it is a curve.
///
/// # Errors
/// If `of` and `dy` differ in shape.
pub fn backward(of: &Tensor, dy: &Tensor, activation: Activation) -> Result<Tensor> {
    shape::same_shape("gradient of the activation", of, dy)?;
    if activation == Activation::Linear {
        return Ok(dy.clone());
    }
    let fits = cpu::fits(&[of, dy]);
    match activation.bounds() {
        Some([low, high]) if fits => {
            cpu::zip(of, dy, |y, dy| if y > low && y < high { dy } else { 0.0 })
        }
        Some(bounds) => inside(of, bounds.map(f64::from))?.to_dtype(dy.dtype())? * dy,
        None if fits => {
            let x = of.contiguous()?;
            let x = Values::of(&x)?;
            let x: &[f32] = &x;
            let mut dx: Vec<f32> = dy.flatten_all()?.to_vec1()?;
            dx.par_chunks_mut(cpu::CHUNK)
                .zip(x.par_chunks(cpu::CHUNK))
                .for_each(|(dx, x)| kernel::activate_grad(x, activation, dx));
            cpu::tensor(dx, dy.dims())
        }
        None => portable_slope(of, activation)? * dy,
    }
}

/// 1 strictly within the bounds, else 0.
fn inside(x: &Tensor, [low, high]: [f64; 2]) -> Result<Tensor> {
    let open = (x.gt(low)? * x.lt(high)?)?;
    open.to_dtype(x.dtype())
}

/// Slope of a curve in stock Candle operations.
pub(super) fn portable_slope(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let sigmoid = || candle_nn::ops::sigmoid(x);
    match activation {
        Activation::Sigmoid => {
            let y = sigmoid()?;
            &y * (1.0 - &y)?
        }
        Activation::HardSigmoid => inside(x, [-3.0, 3.0])? / 6.0,
        Activation::Silu => {
            let y = sigmoid()?;
            let bend = ((1.0 - &y)? * x)?;
            y * (bend + 1.0)?
        }
        Activation::HardSwish => {
            let above = x.ge(3.0)?.to_dtype(x.dtype())?;
            let rise = ((x / 3.0)? + 0.5)?;
            (inside(x, [-3.0, 3.0])? * rise)? + above
        }
        Activation::Gelu => {
            let below = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5;
            let height = (2.0 * std::f64::consts::PI).sqrt();
            let bell = ((x.sqr()? * -0.5)?.exp()? / height)?;
            below? + (x * bell)?
        }
        Activation::Linear | Activation::Relu | Activation::Relu6 => x.ones_like(),
    }
}
