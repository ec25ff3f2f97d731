//! Gradients of the convolution, as matrix products again.

use super::conv::{PackedConv, Walk, conv, conv_scratch, patch_pixels, patches};
use super::gemm::{PackedMatrix, product, transposed_product};
use super::{Epilogue, MapDims, grouped};
use crate::geometry::Window;

/// A convolution kernel packed for [`conv_input_grad`].
#[derive(Debug)]
pub(crate) enum PackedConvGrad {
    /// With stride 1 the gradient is a convolution with the kernel turned round and transposed.
    Turned(PackedConv, Window),
    /// Gradients to patches `[filters, area * channels]`, added to where the patches came from.
    Scattered(PackedMatrix),
    /// One convolution a group of channels.
    Groups(Vec<PackedConvGrad>),
}

impl PackedConvGrad {
    /// Packs a kernel `[filters, in_channels / groups, kernel_height, kernel_width]` for maps of
    /// this size. `scale` multiplies each filter.
    pub(crate) fn new(
        kernel: &[f32],
        dims: [usize; 4],
        scale: Option<&[f32]>,
        input: MapDims,
        window: &Window,
    ) -> Self {
        let [filters, channels, ..] = dims;
        if channels < input.channels {
            let groups = input.channels / channels.max(1);
            let parts = grouped::parts(kernel, dims, scale, groups);
            let input = MapDims { channels, ..input };
            let pack = |(kernel, dims, scale): grouped::Part<'_>| {
                Self::new(kernel, dims, scale, input, window)
            };
            return Self::Groups(parts.map(pack).collect());
        }
        let area = window.kernel[0] * window.kernel[1];
        let value = |filter: usize, channel: usize, tap: usize| {
            let value = kernel[(filter * channels + channel) * area + tap];
            scale.map_or(value, |scale| value * scale[filter])
        };
        match window.transposed([input.height, input.width]) {
            Some(back) if area == 1 => {
                let matrix = PackedMatrix::of_rows(kernel, channels, scale);
                Self::Turned(PackedConv::of_matrix(matrix), back)
            }
            Some(back) => {
                let matrix = PackedMatrix::new(area * filters, channels, |k, channel| {
                    value(k % filters, channel, area - 1 - k / filters)
                });
                Self::Turned(PackedConv::of_matrix(matrix), back)
            }
            None => Self::Scattered(PackedMatrix::new(filters, area * channels, |filter, at| {
                value(filter, at % channels, at / channels)
            })),
        }
    }

    /// Number of values.
    pub(crate) fn values(&self) -> usize {
        match self {
            Self::Turned(packed, _) => packed.values(),
            Self::Scattered(matrix) => matrix.values(),
            Self::Groups(groups) => groups.iter().map(Self::values).sum(),
        }
    }

    /// Filters.
    pub(super) fn filters(&self) -> usize {
        match self {
            Self::Turned(packed, back) => packed.channels(back),
            Self::Scattered(matrix) => matrix.depth(),
            Self::Groups(groups) => groups.iter().map(Self::filters).sum(),
        }
    }

    /// Floats of scratch that [`conv_input_grad`] wants.
    pub(crate) fn scratch(&self, input: MapDims, window: &Window) -> usize {
        match self {
            Self::Turned(packed, back) => {
                conv_scratch(output(input, packed.channels(back), window), packed, back)
            }
            Self::Scattered(matrix) => {
                patch_pixels(usize::MAX, matrix.columns()) * matrix.columns()
            }
            Self::Groups(groups) => grouped::input_grad_scratch(input, groups, window),
        }
    }
}

fn output(input: MapDims, channels: usize, window: &Window) -> MapDims {
    let [height, width] = window.output(input.height, input.width).unwrap_or_default();
    MapDims {
        height,
        width,
        channels,
    }
}

/// Gradient to the input `dx [batch, height, width, channels]` from `dy`, or added to `dx`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn conv_input_grad(
    dy: &[f32],
    batch: usize,
    input: MapDims,
    kernel: &PackedConvGrad,
    window: &Window,
    accumulate: bool,
    dx: &mut [f32],
    scratch: &mut [f32],
) {
    let matrix = match kernel {
        PackedConvGrad::Turned(packed, back) => {
            let epilogue = Epilogue {
                accumulate,
                ..Epilogue::default()
            };
            let output = output(input, packed.channels(back), window);
            return conv(dy, batch, output, packed, back, epilogue, dx, scratch);
        }
        PackedConvGrad::Scattered(matrix) => matrix,
        PackedConvGrad::Groups(groups) => {
            return grouped::input_grad(dy, batch, input, groups, window, accumulate, dx, scratch);
        }
    };
    let (filters, depth) = (matrix.depth(), matrix.columns());
    let output = output(input, filters, window);
    let pixels = patch_pixels(usize::MAX, depth);
    for image in 0..batch {
        let dx = &mut dx[image * input.elements()..][..input.elements()];
        if !accumulate {
            dx.fill(0.0);
        }
        let dy = &dy[image * output.elements()..][..output.elements()];
        for (i, dy) in dy.chunks(pixels * filters).enumerate() {
            let gathered = &mut scratch[..dy.len() / filters * depth];
            product(dy, matrix, Epilogue::default(), gathered);
            add_patches(gathered, input, window, i * pixels, dx);
        }
    }
}

/// Adds patches back to where they came from: the transpose of [`patches`].
fn add_patches(gathered: &[f32], input: MapDims, window: &Window, first: usize, x: &mut [f32]) {
    let depth = window.kernel[0] * window.kernel[1] * input.channels;
    let mut walk = Walk::new(input, window, first);
    for patch in gathered.chunks_exact(depth) {
        walk.runs(|at, from, length| {
            let (x, patch) = (&mut x[from..from + length], &patch[at..at + length]);
            for (x, p) in x.iter_mut().zip(patch) {
                *x += p;
            }
        });
        walk.advance(1);
    }
}

/// Gradient to the kernel, `dw [filters, kernel_height * kernel_width * in_channels / groups]`:
/// from `x` and `dy`, or added to `dw`; `turned`, for one group alone, is its transpose. `scratch`
/// grows as needed.
#[allow(clippy::too_many_arguments)]
pub(crate) fn conv_kernel_grad(
    x: &[f32],
    dy: &[f32],
    input: MapDims,
    window: &Window,
    [filters, groups]: [usize; 2],
    turned: bool,
    mut accumulate: bool,
    dw: &mut [f32],
    scratch: &mut [Vec<f32>; 2],
) {
    let multiply =
        |x: &[f32], depth: usize, dy: &[f32], add: bool, dw: &mut [f32], panels: &mut Vec<f32>| {
            match turned {
                true => transposed_product(x, depth, 0, dy, filters, add, dw, panels),
                false => transposed_product(dy, filters, 0, x, depth, add, dw, panels),
            }
        };
    if groups > 1 {
        return grouped::kernel_grad(
            x,
            dy,
            input,
            window,
            [filters, groups],
            accumulate,
            dw,
            scratch,
        );
    }
    let [panels, gathered] = scratch;
    if window.is_point() {
        return multiply(x, input.channels, dy, accumulate, dw, panels);
    }
    let depth = window.kernel[0] * window.kernel[1] * input.channels;
    let output = output(input, filters, window);
    let pixels = patch_pixels(usize::MAX, depth);
    if gathered.len() < pixels * depth {
        gathered.resize(pixels * depth, 0.0);
    }
    if dy.is_empty() && !accumulate {
        dw.fill(0.0);
    }
    let maps = x.chunks_exact(input.elements().max(1));
    for (x, dy) in maps.zip(dy.chunks_exact(output.elements().max(1))) {
        for (i, dy) in dy.chunks(pixels * filters).enumerate() {
            let gathered = &mut gathered[..dy.len() / filters * depth];
            patches(x, input, window, i * pixels, gathered);
            multiply(gathered, depth, dy, accumulate, dw, panels);
            accumulate = true;
        }
    }
}
