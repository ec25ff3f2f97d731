//! Convolutions and dense layers of the suffix: their values packed anew every step, a batch norm
//! with stored statistics folded in, and their gradients taken apart again.
//!
//! With scale `s = gamma / sqrt(variance + epsilon)` a convolution and the norm behind it are a
//! convolution of kernel `W s`. If `G` is the gradient to that kernel and `S` the sum of the
//! gradient to the output, then `dW = G s`, `dbeta = S` and
//! `dgamma = (sum of W G + (bias - mean) S) / sqrt(variance + epsilon)`: the convolution's own
//! output is never needed, so it is neither kept nor read again.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::fuse::Layer;
use super::lower::map;
use super::sums::{Spot, Sums, total};
use crate::engine::forward;
use crate::engine::memory::{Slice, values};
use crate::engine::params::Params;
use crate::geometry::Window;
use crate::graph::{Graph, NodeId, Op, ParamKind};
use crate::ops::Needs;
use crate::ops::conv::by_channel;
use crate::ops::kernel::{
    self, Epilogue, MapDims, PackedConv, PackedConvGrad, PackedDepthwise, PackedDepthwiseGrad,
};
use crate::ops::norm::{inverse_deviation, sum_of_rows};

/// What of a layer with a kernel stays the same from step to step.
#[derive(Debug)]
pub(super) struct KernelSpec {
    pub(super) node: NodeId,
    pub(super) norm: Option<(NodeId, f64)>,
    pub(super) depthwise: bool,
    pub(super) groups: usize,
    pub(super) window: Window,
    pub(super) input: MapDims,
    pub(super) filters: usize,
    pub(super) needs: Needs,
    /// Whether kernel and bias train, and gamma and beta.
    pub(super) trains: [bool; 2],
    /// Where a chunk's gradients to the scaled kernel, by tap, and to the output's sum lie.
    pub(super) kernel_sum: Spot,
    pub(super) bias_sum: Spot,
}

impl KernelSpec {
    pub(super) fn new(graph: &Graph, layer: &Layer, needs: Needs) -> Self {
        let nodes = graph.nodes();
        let epsilon = |id: NodeId| match nodes[id].op {
            Op::BatchNorm { epsilon, .. } => epsilon,
            _ => 0.0,
        };
        Self {
            node: layer.root,
            norm: layer.norm.map(|id| (id, epsilon(id))),
            depthwise: matches!(nodes[layer.root].op, Op::DepthwiseConv2d { .. }),
            groups: match nodes[layer.root].op {
                Op::Conv2d { groups, .. } => groups.max(1),
                _ => 1,
            },
            window: layer.window.unwrap_or(Window::POINT),
            input: map(nodes[layer.input].shape),
            filters: nodes[layer.root].shape.channels(),
            needs,
            trains: [false; 2],
            kernel_sum: Spot::default(),
            bias_sum: Spot::default(),
        }
        .flattened(layer.window.is_none())
    }

    /// A dense layer reads a map as one long vector.
    fn flattened(mut self, dense: bool) -> Self {
        if dense {
            self.input = MapDims {
                height: 1,
                width: 1,
                channels: self.input.elements(),
            };
        }
        self
    }

    /// Whether it looks at each pixel by itself.
    pub(super) fn is_by_pixel(&self) -> bool {
        self.window.is_point() && !self.depthwise && self.groups == 1
    }

    /// Whether sums for the gradient to the kernel lie `[area * channels, filters]`: the wider matrix
    /// of the product on the right, where it is copied in longer pieces or not at all.
    fn is_turned(&self) -> bool {
        !self.depthwise && self.groups == 1 && self.area() * self.channels() < self.filters
    }

    pub(super) fn area(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Input channels that a filter reads.
    pub(super) fn channels(&self) -> usize {
        if self.depthwise {
            1
        } else {
            self.input.channels / self.groups
        }
    }

    pub(super) fn kernel_elements(&self) -> usize {
        self.filters * self.channels() * self.area()
    }
}

/// Values of a band of rows, with those that the window reaches beyond it.
const BAND_FLOATS: usize = 96 << 10;

/// The values of a layer with a kernel in one step.
#[derive(Debug)]
pub(super) struct KernelValues {
    packed: Packed,
    bias: Option<Vec<f32>>,
    fold: Option<Fold>,
}

#[derive(Debug)]
enum Packed {
    Conv(PackedConv, Option<PackedConvGrad>),
    Depthwise(PackedDepthwise, Option<PackedDepthwiseGrad>),
}

/// A batch norm as a scale and an offset of each filter.
#[derive(Debug)]
struct Fold {
    scale: Vec<f32>,
    /// One over the standard deviation.
    inverse: Vec<f64>,
    /// Bias less running mean.
    shift: Vec<f64>,
}

impl KernelValues {
    pub(super) fn new(graph: &Graph, params: &Params, spec: &KernelSpec) -> Result<Self> {
        let bias = params.of(graph, spec.node, ParamKind::Bias);
        let mut bias = bias.map(values).transpose()?;
        let mut fold = None;
        if let Some((id, epsilon)) = spec.norm {
            let norm = forward::batch_norm(graph, params, id, epsilon)?;
            let inverse = inverse_deviation(&values(norm.variance)?, epsilon);
            let (gamma, beta) = (values(norm.gamma)?, values(norm.beta)?);
            let mean = values(norm.mean)?;
            let at =
                |bias: &Option<Vec<f32>>, c: usize| bias.as_ref().map_or(0.0, |b| f64::from(b[c]));
            let shift: Vec<f64> = (0..mean.len())
                .map(|c| at(&bias, c) - f64::from(mean[c]))
                .collect();
            let scale = |c: usize| f64::from(gamma[c]) * inverse[c];
            let offset = |c: usize| (f64::from(beta[c]) + shift[c] * scale(c)) as f32;
            bias = Some((0..mean.len()).map(offset).collect());
            fold = Some(Fold {
                scale: (0..mean.len()).map(|c| scale(c) as f32).collect(),
                inverse,
                shift,
            });
        }
        let kernel = Slice::of(params.expect(graph, spec.node, ParamKind::Kernel)?)?;
        let scale = fold.as_ref().map(|fold| fold.scale.as_slice());
        let (input, window, needed) = (spec.input, &spec.window, spec.needs.input);
        let [height, width] = window.kernel;
        let packed = if spec.depthwise {
            Packed::Depthwise(
                PackedDepthwise::new(&kernel, [spec.filters, 1, height, width], scale),
                needed.then(|| PackedDepthwiseGrad::new(&kernel, scale, input, window)),
            )
        } else {
            let dims = [spec.filters, spec.channels(), height, width];
            let back = || PackedConvGrad::new(&kernel, dims, scale, input, window);
            Packed::Conv(
                PackedConv::grouped(&kernel, dims, scale, spec.groups),
                needed.then(back),
            )
        };
        Ok(Self { packed, bias, fold })
    }

    /// Number of values that are packed.
    pub(super) fn values(&self, spec: &KernelSpec) -> usize {
        match &self.packed {
            Packed::Conv(forward, backward) => {
                forward.values() + backward.as_ref().map_or(0, PackedConvGrad::values)
            }
            Packed::Depthwise(_, backward) => {
                spec.kernel_elements() * (1 + usize::from(backward.is_some()))
            }
        }
    }

    /// Floats of scratch that a pass wants.
    pub(super) fn scratch(&self, spec: &KernelSpec) -> usize {
        match &self.packed {
            Packed::Conv(forward, backward) => {
                let backward = backward.as_ref();
                let backward = backward.map_or(0, |b| b.scratch(spec.input, &spec.window));
                kernel::conv_scratch(spec.input, forward, &spec.window).max(backward)
            }
            Packed::Depthwise(..) => 0,
        }
    }

    /// For so many maps of these dimensions; a kernel that looks at each pixel by itself takes any.
    pub(super) fn forward(
        &self,
        spec: &KernelSpec,
        x: &[f32],
        (pictures, input): (usize, MapDims),
        epilogue: Epilogue<'_>,
        y: &mut [f32],
        scratch: &mut [f32],
    ) {
        let epilogue = Epilogue {
            bias: self.bias.as_deref(),
            ..epilogue
        };
        match &self.packed {
            Packed::Conv(packed, _) => {
                let window = &spec.window;
                kernel::conv(x, pictures, input, packed, window, epilogue, y, scratch);
            }
            Packed::Depthwise(packed, _) => {
                kernel::depthwise(x, pictures, input, packed, &spec.window, epilogue, y);
            }
        }
    }

    /// As [`Self::forward`] of `norm` of `x`, for depthwise kernels.
    pub(super) fn forward_of(
        &self,
        spec: &KernelSpec,
        x: Banded<'_, impl Fn(&[f32], &mut [f32])>,
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        let Packed::Depthwise(packed, _) = &self.packed else {
            return;
        };
        x.each(spec, |normal, input, window, outputs| {
            let part = Epilogue {
                residual: epilogue.residual.map(|it| &it[outputs.clone()]),
                bias: self.bias.as_deref(),
                ..epilogue
            };
            kernel::depthwise(normal, 1, input, packed, window, part, &mut y[outputs]);
        });
    }

    pub(super) fn input_grad(
        &self,
        spec: &KernelSpec,
        dy: &[f32],
        (pictures, input): (usize, MapDims),
        add: bool,
        dx: &mut [f32],
        scratch: &mut [f32],
    ) {
        let window = &spec.window;
        match &self.packed {
            Packed::Conv(_, Some(packed)) => {
                kernel::conv_input_grad(dy, pictures, input, packed, window, add, dx, scratch);
            }
            Packed::Depthwise(_, Some(packed)) => {
                kernel::depthwise_input_grad(dy, pictures, input, packed, window, add, dx);
            }
            Packed::Conv(_, None) | Packed::Depthwise(_, None) => {}
        }
    }

    /// Gradients to a layer's parameters from the sums of all chunks.
    pub(super) fn gradients(
        &self,
        graph: &Graph,
        params: &Params,
        spec: &KernelSpec,
        chunks: &[Sums],
    ) -> Result<Vec<(String, Tensor)>> {
        let sum = match spec.needs.bias {
            true => total(chunks, spec.bias_sum, spec.filters),
            false => vec![0.0; spec.filters],
        };
        let mut by_tap = total(chunks, spec.kernel_sum, spec.kernel_elements());
        let area = spec.area();
        if spec.is_turned() {
            by_tap = transposed(&by_tap, spec.filters);
        }
        let mut scaled = match area {
            1 => by_tap,
            _ if spec.depthwise => by_channel(&by_tap, spec.filters, area),
            _ => by_channel(&by_tap, spec.channels(), area),
        };
        let size = spec.channels() * area;
        let mut found = Vec::new();
        let mut keep = |id: NodeId, kind: ParamKind, values: Vec<f32>| -> Result<()> {
            let specs = graph.params(id);
            if let Some(spec) = specs.into_iter().find(|spec| spec.kind == kind) {
                let value = Tensor::from_vec(values, spec.dims.as_slice(), &Device::Cpu)?;
                found.push((spec.name, value));
            }
            Ok(())
        };
        let mut to_bias = sum.clone();
        if let (Some(fold), Some((norm, _))) = (&self.fold, spec.norm) {
            if spec.trains[1] {
                let kernel = Slice::of(params.expect(graph, spec.node, ParamKind::Kernel)?)?;
                let gamma = scaled.chunks(size).zip(kernel.chunks(size)).enumerate();
                let gamma = gamma.map(|(c, (g, w))| {
                    let products = g.iter().zip(w).map(|(g, w)| f64::from(*g) * f64::from(*w));
                    let through = products.sum::<f64>() + fold.shift[c] * f64::from(sum[c]);
                    (through * fold.inverse[c]) as f32
                });
                keep(norm, ParamKind::Gamma, gamma.collect())?;
                keep(norm, ParamKind::Beta, sum)?;
            }
            for (row, scale) in scaled.chunks_mut(size).zip(&fold.scale) {
                row.iter_mut().for_each(|value| *value *= scale);
            }
            for (value, scale) in to_bias.iter_mut().zip(&fold.scale) {
                *value *= scale;
            }
        }
        if spec.trains[0] {
            keep(spec.node, ParamKind::Kernel, scaled)?;
            keep(spec.node, ParamKind::Bias, to_bias)?;
        }
        Ok(found)
    }
}

/// The transpose of rows of so many columns.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    /// Rows at a time: their lines stay in the cache from column to column.
    const BLOCK: usize = 16;
    let rows = values.len().checked_div(columns).unwrap_or(0);
    let mut turned = vec![0.0; values.len()];
    for (block, lines) in values.chunks(BLOCK * columns.max(1)).enumerate() {
        for column in 0..columns {
            let from = lines[column..].iter().step_by(columns);
            let to = &mut turned[column * rows + block * BLOCK..];
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
    }
    turned
}

/// Gradient to the kernel, by tap, set or added to a chunk's sums.
pub(super) fn kernel_grad(
    spec: &KernelSpec,
    x: &[f32],
    dy: &[f32],
    add: bool,
    sums: &mut Sums,
    scratch: &mut [Vec<f32>; 2],
) {
    let dw = sums.at_mut(spec.kernel_sum, spec.kernel_elements());
    let (input, window) = (spec.input, &spec.window);
    if spec.depthwise {
        if !add {
            dw.fill(0.0);
        }
        let outputs = dy.len() / (x.len() / input.elements().max(1)).max(1);
        let maps = x.chunks_exact(input.elements().max(1));
        for (x, dy) in maps.zip(dy.chunks_exact(outputs.max(1))) {
            kernel::depthwise_kernel_grad(x, dy, input, window, dw);
        }
    } else {
        let shares = [spec.filters, spec.groups];
        let turned = spec.is_turned();
        kernel::conv_kernel_grad(x, dy, input, window, shares, turned, add, dw, scratch);
    }
}

/// As [`kernel_grad`] for `norm` of `x`, for depthwise kernels.
pub(super) fn kernel_grad_of(
    spec: &KernelSpec,
    x: Banded<'_, impl Fn(&[f32], &mut [f32])>,
    dy: &[f32],
    add: bool,
    sums: &mut Sums,
) {
    let dw = sums.at_mut(spec.kernel_sum, spec.kernel_elements());
    if !add {
        dw.fill(0.0);
    }
    x.each(spec, |normal, input, window, outputs| {
        kernel::depthwise_kernel_grad(normal, &dy[outputs], input, window, dw);
    });
}

/// Maps whose norm is never whole in memory: taken a band of rows after the other.
pub(super) struct Banded<'a, N> {
    pub(super) norm: N,
    pub(super) x: &'a [f32],
    pub(super) normal: &'a mut Vec<f32>,
}

impl<N: Fn(&[f32], &mut [f32])> Banded<'_, N> {
    /// Calls `f` with the norm of every band, its dimensions, the window over it, and where its
    /// outputs lie.
    fn each(self, spec: &KernelSpec, mut f: impl FnMut(&[f32], MapDims, &Window, Range<usize>)) {
        let MapDims {
            height,
            width,
            channels,
        } = spec.input;
        let Some([out_height, out_width]) = spec.window.output(height, width) else {
            return;
        };
        let (row, out_row) = (width * channels, out_width * spec.filters);
        let maps = self.x.chunks_exact((height * row).max(1));
        for (picture, x) in maps.enumerate() {
            for band in spec.window.bands(height, width, BAND_FLOATS / row.max(1)) {
                let x = &x[band.rows.start * row..band.rows.end * row];
                if self.normal.len() < x.len() {
                    self.normal.resize(x.len(), 0.0);
                }
                let normal = &mut self.normal[..x.len()];
                (self.norm)(x, normal);
                let input = MapDims {
                    height: band.rows.len(),
                    ..spec.input
                };
                let first = picture * out_height;
                let outputs =
                    (first + band.outputs.start) * out_row..(first + band.outputs.end) * out_row;
                f(normal, input, &band.window, outputs);
            }
        }
    }
}

/// Sum of the gradient to the output of a kernel, set or added to a chunk's sums.
pub(super) fn bias_grad(spec: &KernelSpec, dy: &[f32], add: bool, sums: &mut Sums) {
    sum_of_rows(dy, add, sums.at_mut(spec.bias_sum, spec.filters));
}
