//! Convolution and batch norm with stored statistics as one convolution, forward and reverse.
//!
//! With scale `s = gamma / sqrt(variance + epsilon)` the pair is a convolution of kernel `W s`. If
//! `G` is the gradient to that kernel and `S` the sum of the gradient to the output, then
//! `dW = G s`, `dbeta = S` and `dgamma = (sum of W G + (bias - mean) S) / sqrt(variance + epsilon)`:
//! the convolution's own output is never needed, so it is neither kept nor read again.

use candle_core::{Result, Tensor};

use crate::graph::Op;
use crate::ops::norm::BatchNorm;
use crate::ops::{KernelGrads, Needs, conv, depthwise};

/// A convolution that took in the batch norm behind it.
#[derive(Debug)]
pub(super) struct Folded {
    /// The scaled kernel.
    kernel: Tensor,
    /// `[channels]`.
    offset: Tensor,
    scale: Tensor,
    /// One over the standard deviation.
    inverse: Tensor,
    /// Bias less running mean.
    shift: Tensor,
}

/// Gradients to the pair.
pub(super) struct FoldedGrads {
    pub(super) input: Option<Tensor>,
    pub(super) kernel: Option<Tensor>,
    pub(super) bias: Option<Tensor>,
    pub(super) gamma: Option<Tensor>,
    pub(super) beta: Option<Tensor>,
}

impl Folded {
    pub(super) fn new(kernel: &Tensor, bias: Option<&Tensor>, norm: BatchNorm<'_>) -> Result<Self> {
        let inverse = (norm.variance + norm.epsilon)?.sqrt()?.recip()?;
        let scale = (norm.gamma * &inverse)?;
        let shift = match bias {
            Some(bias) => (bias - norm.mean)?,
            None => norm.mean.neg()?,
        };
        let offset = (norm.beta + (&shift * &scale)?)?;
        Ok(Self {
            kernel: per_filter(kernel, &scale)?,
            offset,
            scale,
            inverse,
            shift,
        })
    }

    pub(super) fn forward(&self, op: &Op, x: &Tensor) -> Result<Tensor> {
        let offset = Some(&self.offset);
        match op {
            Op::DepthwiseConv2d { window, .. } => {
                depthwise::forward(x, &self.kernel, offset, window)
            }
            Op::Conv2d { window, .. } => conv::forward(x, &self.kernel, offset, window),
            _ => unfoldable(op),
        }
    }

    /// `kernel` is the convolution's own; `conv_trains` and `norm_trains` say which gradients are
    /// needed beside that to the input.
    pub(super) fn backward(
        &self,
        op: &Op,
        x: &Tensor,
        kernel: &Tensor,
        dy: &Tensor,
        [input, conv_trains, norm_trains]: [bool; 3],
    ) -> Result<FoldedGrads> {
        let needs = Needs {
            input,
            kernel: conv_trains,
            bias: conv_trains || norm_trains,
        };
        let KernelGrads {
            input,
            kernel: to_scaled,
            bias: sum,
        } = match op {
            Op::DepthwiseConv2d { window, .. } => {
                depthwise::backward(x, &self.kernel, dy, window, needs)?
            }
            Op::Conv2d { window, .. } => conv::backward(x, &self.kernel, dy, window, needs)?,
            _ => unfoldable(op)?,
        };
        let mut grads = FoldedGrads {
            input,
            kernel: None,
            bias: None,
            gamma: None,
            beta: None,
        };
        if let (Some(to_scaled), Some(sum)) = (to_scaled, sum) {
            if norm_trains {
                let through_kernel = (kernel * &to_scaled)?.flatten_from(1)?.sum(1)?;
                let through_shift = (&self.shift * &sum)?;
                grads.gamma = Some(((through_kernel + through_shift)? * &self.inverse)?);
                grads.beta = Some(sum.clone());
            }
            grads.kernel = Some(per_filter(&to_scaled, &self.scale)?);
            grads.bias = Some((sum * &self.scale)?);
        }
        Ok(grads)
    }
}

fn per_filter(kernel: &Tensor, scale: &Tensor) -> Result<Tensor> {
    kernel.broadcast_mul(&scale.reshape((kernel.dim(0)?, 1, 1, 1))?)
}

fn unfoldable<T>(op: &Op) -> Result<T> {
    candle_core::bail!("{} takes in no batch norm", op.kind())
}
