//! CPU kernels on slices: single-threaded, hardly an allocation, SIMD path chosen at run time. The tensor
//! ops beside this folder run them over chunks in parallel; the frozen prefix runs them
//! depth-first.

mod attention;
mod batch_norm;
mod conv;
mod conv_grad;
mod curve;
mod depthwise;
mod depthwise_grad;
mod gate;
mod gemm;
mod grouped;
mod layer_norm;
mod map;
mod pool;
mod reduce;
mod simd;
mod winograd;

pub use attention::AttentionDims;
pub(crate) use attention::{attention, attention_grad, attention_scratch};
pub use batch_norm::affine;
pub(crate) use batch_norm::{Clamped, norm_input_grad, normalise};
pub(super) use batch_norm::{NormGradSums, moments, norm_grad_sums};
pub use conv::{PackedConv, conv, conv_scratch};
pub(crate) use conv_grad::{PackedConvGrad, conv_input_grad, conv_kernel_grad};
pub(crate) use curve::curve;
pub use depthwise::{PackedDepthwise, depthwise};
pub(crate) use depthwise_grad::{PackedDepthwiseGrad, depthwise_input_grad, depthwise_kernel_grad};
pub(crate) use gate::{gate, gate_grad};
pub(crate) use gemm::transposed_product;
pub(super) use gemm::{PackedMatrix, product};
pub(crate) use layer_norm::{layer_norm, layer_norm_input_grad, layer_norm_sums};
pub(super) use map::add_rows;
pub(crate) use map::{
    activate, activate_grad, add_into, global_avg_grad, global_max_grad, pad, pad_grad,
};
pub use map::{global_avg, global_max};
pub use pool::{avg_pool, max_pool, place};
pub(crate) use pool::{avg_pool_grad, max_pool_grad, take};

use crate::activation::Activation;

/// The instruction set that kernels run with: `avx512`, `avx2` or `portable`. Bits of results
/// depend on it.
pub fn instructions() -> &'static str {
    let best = simd::Level::available().next();
    best.map_or("portable", simd::Level::name)
}

/// Height, width and channels of one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapDims {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl MapDims {
    /// Number of values.
    pub fn elements(self) -> usize {
        self.height * self.width * self.channels
    }
}

/// What is done to an output while it is still in registers or cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added per output channel.
    pub bias: Option<&'a [f32]>,
    /// Added per output value, before the activation.
    pub residual: Option<&'a [f32]>,
    /// Whether the output is added to what is there already.
    pub accumulate: bool,
    /// Applied last.
    pub activation: Activation,
}
