//! Fully connected layers.

use candle_core::{Result, Tensor, bail};
use candle_nn::Module;

use super::cpu::{self, Values};
use super::kernel::{Epilogue, PackedMatrix};
use super::{KernelGrads, Needs, conv, shape};

/// The meaning, in stock Candle operations.
fn portable(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    candle_nn::Linear::new(kernel.clone(), bias.cloned()).forward(x)
}

/// Batch, features and units.
fn sizes(x: &Tensor, kernel: &Tensor) -> Result<[usize; 3]> {
    match (x.dims(), kernel.dims()) {
        (&[batch, features], &[units, wanted]) if features == wanted && features * units > 0 => {
            Ok([batch, features, units])
        }
        (x, kernel) => bail!("dense: input {x:?} and kernel {kernel:?} do not fit together"),
    }
}

/// `x [batch, features]`, `kernel [units, features]`, `bias [units]`.
///
/// # Errors
/// If the shapes do not fit together.
pub fn forward(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [batch, features, units] = sizes(x, kernel)?;
    if let Some(bias) = bias {
        shape::expect_dims("bias", bias, &[units])?;
    }
    if !cpu::fits(&[x, kernel]) {
        return portable(x, kernel, bias);
    }
    let (x, kernel) = (x.contiguous()?, kernel.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(Values::of).transpose()?;
    let (x, kernel) = (Values::of(&x)?, Values::of(&kernel)?);
    let values: &[f32] = &kernel;
    let matrix = PackedMatrix::of_columns(values, features, None);
    let epilogue = Epilogue {
        bias: bias.as_deref(),
        ..Epilogue::default()
    };
    let mut y = vec![0.0; batch * units];
    conv::pointwise(&x, &matrix, epilogue, &mut y);
    cpu::tensor(y, &[batch, units])
}

/// Gradients from `dy [batch, units]`.
///
/// # Errors
/// If the shapes do not fit together.
pub fn backward(x: &Tensor, kernel: &Tensor, dy: &Tensor, needs: Needs) -> Result<KernelGrads> {
    let [batch, features, units] = sizes(x, kernel)?;
    shape::expect_dims("gradient of the dense layer", dy, &[batch, units])?;
    if !cpu::fits(&[x, kernel, dy]) {
        return conv::portable_backward(x, kernel, dy, needs, |[x, kernel]| {
            portable(x, kernel, None)
        });
    }
    let (x, kernel, dy) = (x.contiguous()?, kernel.contiguous()?, dy.contiguous()?);
    let (x, kernel, dy) = (Values::of(&x)?, Values::of(&kernel)?, Values::of(&dy)?);
    let mut gradients = KernelGrads::default();
    if needs.input {
        let values: &[f32] = &kernel;
        let matrix = PackedMatrix::new(units, features, |unit, k| values[unit * features + k]);
        let mut dx = vec![0.0; batch * features];
        conv::pointwise(&dy, &matrix, Epilogue::default(), &mut dx);
        gradients.input = Some(cpu::tensor(dx, &[batch, features])?);
    }
    if needs.kernel {
        let dw = conv::transposed_product(&dy, units, &x, features);
        gradients.kernel = Some(cpu::tensor(dw, &[units, features])?);
    }
    if needs.bias {
        gradients.bias = Some(cpu::tensor(cpu::sum_of_rows(&dy, units), &[units])?);
    }
    Ok(gradients)
}
