//! CPU kernels on slices: single-threaded, no allocation, SIMD path chosen at run time. The tensor
//! ops beside this file run them over chunks in parallel; the frozen prefix runs them depth-first.

use super::activation::Activation;
use crate::geometry::Window;

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
    /// Applied last.
    pub activation: Activation,
}

/// A convolution kernel packed for [`conv`], from `[out, in, kernel_height, kernel_width]`.
#[derive(Debug, Clone)]
pub struct PackedConv {}

impl PackedConv {
    /// Packs a kernel. `scale` multiplies each output channel (a folded batch norm).
    pub fn new(_kernel: &[f32], _dims: [usize; 4], _scale: Option<&[f32]>) -> Self {
        todo!()
    }
}

/// Floats of scratch that [`conv`] wants for this geometry.
pub fn conv_scratch(_input: MapDims, _kernel: &PackedConv, _window: &Window) -> usize {
    todo!()
}

/// Convolution of `batch` maps (1x1 with stride 1: one matrix product).
pub fn conv(
    _x: &[f32],
    _batch: usize,
    _input: MapDims,
    _kernel: &PackedConv,
    _window: &Window,
    _epilogue: Epilogue<'_>,
    _y: &mut [f32],
    _scratch: &mut [f32],
) {
    todo!()
}

/// A depthwise kernel packed for [`depthwise`], from `[channels, 1, kernel_height, kernel_width]`.
#[derive(Debug, Clone)]
pub struct PackedDepthwise {}

impl PackedDepthwise {
    /// Packs a kernel. `scale` multiplies each channel (a folded batch norm).
    pub fn new(_kernel: &[f32], _dims: [usize; 4], _scale: Option<&[f32]>) -> Self {
        todo!()
    }
}

/// Depthwise convolution of `batch` maps.
pub fn depthwise(
    _x: &[f32],
    _batch: usize,
    _input: MapDims,
    _kernel: &PackedDepthwise,
    _window: &Window,
    _epilogue: Epilogue<'_>,
    _y: &mut [f32],
) {
    todo!()
}

/// `y = activation(x * scale + offset (+ residual))` per channel: a batch norm that no convolution
/// could take in. `scale` and `offset` have one value a channel.
pub fn affine(
    _x: &[f32],
    _scale: &[f32],
    _offset: &[f32],
    _residual: Option<&[f32]>,
    _activation: Activation,
    _y: &mut [f32],
) {
    todo!()
}

/// Mean over height and width of each map: `y [batch, channels]`.
pub fn global_avg(_x: &[f32], _batch: usize, _input: MapDims, _y: &mut [f32]) {
    todo!()
}

/// Maximum over height and width of each map: `y [batch, channels]`.
pub fn global_max(_x: &[f32], _batch: usize, _input: MapDims, _y: &mut [f32]) {
    todo!()
}
