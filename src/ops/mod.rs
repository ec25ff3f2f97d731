//! The operations of the graph. One file an op: its meaning in stock Candle ops (`portable`), its
//! fast CPU path and its gradients side by side. Maps are channels-last in memory,
//! `[batch, height, width, channels]`, contiguous f32; kernels have PyTorch's dimensions.
//!
//! Reductions run in a fixed order that does not depend on the number of threads: work is cut into
//! chunks whose size depends on the shape alone.

pub mod activation;
pub mod attention;
pub mod concat;
pub mod conv;
mod cpu;
pub mod dense;
pub mod depthwise;
pub mod dropout;
pub mod elementwise;
pub mod gate;
pub mod kernel;
pub mod layer_norm;
pub mod loss;
pub mod norm;
pub mod pool;
mod portable;
mod shape;
pub mod tokens;
pub mod window_pool;

pub(crate) use cpu::Values;

/// Gradients of an op with a kernel and an optional bias; `None` where not asked for.
#[derive(Debug, Default)]
pub struct KernelGrads {
    /// To the input.
    pub input: Option<candle_core::Tensor>,
    /// To the kernel.
    pub kernel: Option<candle_core::Tensor>,
    /// To the bias.
    pub bias: Option<candle_core::Tensor>,
}

/// Which gradients of an op with a kernel are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// To the input.
    pub input: bool,
    /// To the kernel.
    pub kernel: bool,
    /// To the bias.
    pub bias: bool,
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
