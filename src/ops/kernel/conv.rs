//! Convolution as a matrix product: of the map itself where the kernel is 1x1, else of patches
//! gathered a few rows of outputs at a time.

use super::gemm::{PackedMatrix, product};
use super::winograd::{self, PackedTiles};
use super::{Epilogue, MapDims, grouped};
use crate::geometry::{Padding, Window};

/// Floats of gathered patches to stay under, so that they remain in the L2 cache.
const PATCH_FLOATS: usize = 32 * 1024;

/// A convolution kernel packed for [`conv`], from `[out, in, kernel_height, kernel_width]`.
#[derive(Debug, Clone)]
pub struct PackedConv {
    algorithm: Algorithm,
}

/// The ways to convolve.
#[derive(Debug, Clone)]
enum Algorithm {
    /// One product with patches, or with the map itself.
    Patches(PackedMatrix),
    /// Products of transformed tiles.
    Tiles(PackedTiles),
    /// One convolution a group of channels.
    Groups(Vec<PackedConv>),
}

impl PackedConv {
    /// Packs a kernel. `scale` multiplies each output channel (a folded batch norm).
    pub fn new(kernel: &[f32], dims: [usize; 4], scale: Option<&[f32]>) -> Self {
        let [filters, channels, height, width] = dims;
        let area = height * width;
        if area == 1 {
            let matrix = PackedMatrix::of_columns(kernel, channels, scale);
            return Self::of_matrix(matrix);
        }
        let matrix = PackedMatrix::new(area * channels, filters, |k, filter| {
            let (tap, channel) = (k / channels, k % channels);
            let value = kernel[(filter * channels + channel) * area + tap];
            value * scale.map_or(1.0, |scale| scale[filter])
        });
        Self::of_matrix(matrix)
    }

    /// Packs a kernel `[out, in / groups, kernel_height, kernel_width]` whose filters and input
    /// channels are shared out to so many groups.
    pub fn grouped(kernel: &[f32], dims: [usize; 4], scale: Option<&[f32]>, groups: usize) -> Self {
        if groups <= 1 {
            return Self::new(kernel, dims, scale);
        }
        let parts = grouped::parts(kernel, dims, scale, groups);
        let pack = |(kernel, dims, scale): grouped::Part<'_>| Self::new(kernel, dims, scale);
        Self {
            algorithm: Algorithm::Groups(parts.map(pack).collect()),
        }
    }

    /// Packs a kernel for the fastest way through this window over maps of this size. Packing takes
    /// longer than for [`Self::new`]: it is for kernels that stay.
    pub fn for_window(
        kernel: &[f32],
        dims: [usize; 4],
        scale: Option<&[f32]>,
        input: MapDims,
        window: &Window,
    ) -> Self {
        let [filters, channels, ..] = dims;
        if channels < input.channels {
            return Self::grouped(kernel, dims, scale, input.channels / channels.max(1));
        }
        if !winograd::fits(window, input, filters) {
            return Self::new(kernel, dims, scale);
        }
        let tiles = PackedTiles::new(kernel, [filters, channels], scale);
        Self {
            algorithm: Algorithm::Tiles(tiles),
        }
    }

    /// A kernel packed already, `[kernel_height * kernel_width * in, out]`.
    pub(super) fn of_matrix(matrix: PackedMatrix) -> Self {
        Self {
            algorithm: Algorithm::Patches(matrix),
        }
    }

    /// Input channels, for the window that goes with the kernel.
    pub(super) fn channels(&self, window: &Window) -> usize {
        match &self.algorithm {
            Algorithm::Patches(matrix) => matrix.depth() / (window.kernel[0] * window.kernel[1]),
            Algorithm::Tiles(tiles) => tiles.channels(),
            Algorithm::Groups(groups) => groups.iter().map(|it| it.channels(window)).sum(),
        }
    }

    /// Number of values.
    pub(crate) fn values(&self) -> usize {
        match &self.algorithm {
            Algorithm::Patches(matrix) => matrix.values(),
            Algorithm::Tiles(tiles) => tiles.values(),
            Algorithm::Groups(groups) => groups.iter().map(Self::values).sum(),
        }
    }

    /// Output channels.
    pub fn filters(&self) -> usize {
        match &self.algorithm {
            Algorithm::Patches(matrix) => matrix.columns(),
            Algorithm::Tiles(tiles) => tiles.filters(),
            Algorithm::Groups(groups) => groups.iter().map(Self::filters).sum(),
        }
    }
}

/// The same for a kernel of more than [`LARGE_FLOATS`], which is read again for each of them.
const LARGE_PATCH_FLOATS: usize = 256 * 1024;
const LARGE_FLOATS: usize = 512 * 1024;

/// Output pixels gathered at a time for a product with this matrix.
fn pixels_at_a_time(pixels: usize, matrix: &PackedMatrix) -> usize {
    let depth = matrix.depth();
    match depth * matrix.columns() > LARGE_FLOATS {
        true => (LARGE_PATCH_FLOATS / depth).max(14).min(pixels),
        false => patch_pixels(pixels, depth),
    }
}

/// Output pixels gathered at a time.
pub(super) fn patch_pixels(pixels: usize, depth: usize) -> usize {
    let fit = (PATCH_FLOATS / depth).max(1);
    fit.next_multiple_of(14).min(pixels)
}

/// Floats of scratch that [`conv`] wants for this geometry.
pub fn conv_scratch(input: MapDims, kernel: &PackedConv, window: &Window) -> usize {
    let matrix = match &kernel.algorithm {
        Algorithm::Patches(matrix) => matrix,
        Algorithm::Tiles(tiles) => return tiles.scratch(),
        Algorithm::Groups(groups) => return grouped::conv_scratch(input, groups, window),
    };
    match window.output(input.height, input.width) {
        Some([height, width]) if !window.is_point() => {
            pixels_at_a_time(height * width, matrix) * matrix.depth()
        }
        _ => 0,
    }
}

/// Convolution of `batch` maps (1x1 with stride 1: one matrix product).
///
/// # Panics
/// If a slice is shorter than its dimensions or the window does not fit.
#[allow(clippy::too_many_arguments)]
pub fn conv(
    x: &[f32],
    batch: usize,
    input: MapDims,
    kernel: &PackedConv,
    window: &Window,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let Some([height, width]) = window.output(input.height, input.width) else {
        panic!("the window does not fit");
    };
    let matrix = match &kernel.algorithm {
        Algorithm::Patches(matrix) => matrix,
        Algorithm::Tiles(tiles) => {
            let output = [height, width];
            return winograd::conv(x, batch, input, tiles, window, output, epilogue, y, scratch);
        }
        Algorithm::Groups(groups) => {
            return grouped::conv(x, batch, input, groups, window, epilogue, y, scratch);
        }
    };
    let filters = matrix.columns();
    if window.is_point() {
        let outputs = batch * input.height * input.width * filters;
        return product(x, matrix, epilogue, &mut y[..outputs]);
    }
    let pixels = height * width;
    let step = pixels_at_a_time(pixels, matrix);
    for image in 0..batch {
        let x = &x[image * input.elements()..][..input.elements()];
        for first in (0..pixels).step_by(step) {
            let count = step.min(pixels - first);
            let gathered = &mut scratch[..count * matrix.depth()];
            patches(x, input, window, first, gathered);
            let at = (image * pixels + first) * filters;
            let part = Epilogue {
                residual: epilogue.residual.map(|r| &r[at..]),
                ..epilogue
            };
            product(gathered, matrix, part, &mut y[at..][..count * filters]);
        }
    }
}

/// Gathers the patches of the output pixels from `first` on, each `[kernel_height, kernel_width,
/// channels]` with zeros where the window hangs over, until `gathered` is full.
pub(super) fn patches(
    x: &[f32],
    input: MapDims,
    window: &Window,
    first: usize,
    gathered: &mut [f32],
) {
    let depth = window.kernel[0] * window.kernel[1] * input.channels;
    let mut walk = Walk::new(input, window, first);
    let mut rest = gathered;
    while rest.len() >= depth {
        let pixels = walk.pixels_inside().clamp(1, rest.len() / depth);
        let (patches, later) = rest.split_at_mut(pixels * depth);
        if walk.inside() {
            walk.gather(x, pixels, depth, patches);
        } else {
            patches.fill(0.0);
            walk.runs(|at, from, length| {
                copy(&x[from..from + length], &mut patches[at..at + length]);
            });
        }
        walk.advance(pixels);
        rest = later;
    }
}

/// Copies a run; that of a 3x3 window on a colour picture without the call for any length.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    match (
        <&[f32; 9]>::try_from(from),
        <&mut [f32; 9]>::try_from(&mut *to),
    ) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// Goes over output pixels in order.
pub(super) struct Walk<'a> {
    input: MapDims,
    window: &'a Window,
    out_width: usize,
    row: usize,
    column: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(input: MapDims, window: &'a Window, first: usize) -> Self {
        let out_width = window
            .output(input.height, input.width)
            .map_or(1, |[_, width]| width);
        Self {
            input,
            window,
            out_width,
            row: first / out_width,
            column: first % out_width,
        }
    }

    /// On by so many pixels, at most to the end of the row.
    pub(super) fn advance(&mut self, pixels: usize) {
        self.column += pixels;
        if self.column == self.out_width {
            self.column = 0;
            self.row += 1;
        }
    }

    /// How many pixels of this row, from this one on, have the whole window on the map.
    fn pixels_inside(&self) -> usize {
        if !self.inside() {
            return 0;
        }
        let reach = (self.window.kernel[1] - 1) * self.window.dilation[1];
        let room = self.input.width + self.window.padding.left - reach - self.corner()[1];
        room.div_ceil(self.window.stride[1])
            .min(self.out_width - self.column)
    }

    /// Gathers the patches of so many pixels inside, run by run of the window.
    fn gather(&self, x: &[f32], pixels: usize, depth: usize, patches: &mut [f32]) {
        let step = self.window.stride[1] * self.input.channels;
        self.runs(|at, from, length| {
            for pixel in 0..pixels {
                let from = from + pixel * step;
                let at = pixel * depth + at;
                copy(&x[from..from + length], &mut patches[at..at + length]);
            }
        });
    }

    /// First input row and column of the window, counted from the padded corner.
    #[inline(always)]
    fn corner(&self) -> [usize; 2] {
        let [sy, sx] = self.window.stride;
        [self.row * sy, self.column * sx]
    }

    /// Whether the whole window lies on the map.
    #[inline(always)]
    fn inside(&self) -> bool {
        let Padding { top, left, .. } = self.window.padding;
        let [y, x] = self.corner();
        let reach = |axis: usize| (self.window.kernel[axis] - 1) * self.window.dilation[axis];
        y >= top
            && x >= left
            && y + reach(0) < self.input.height + top
            && x + reach(1) < self.input.width + left
    }

    /// Calls `f(offset in the patch, offset in the map, length)` for every run of neighbouring
    /// values of the window that lies on the map.
    #[inline(always)]
    pub(super) fn runs(&self, mut f: impl FnMut(usize, usize, usize)) {
        let MapDims {
            height,
            width,
            channels,
        } = self.input;
        let Padding { top, left, .. } = self.window.padding;
        let [kernel_height, kernel_width] = self.window.kernel;
        let [dy, dx] = self.window.dilation;
        let [corner_y, corner_x] = self.corner();
        for ky in 0..kernel_height {
            let Some(y) = (corner_y + ky * dy)
                .checked_sub(top)
                .filter(|y| *y < height)
            else {
                continue;
            };
            if dx == 1 {
                let start = left.saturating_sub(corner_x);
                let end = (width + left).saturating_sub(corner_x).min(kernel_width);
                if start < end {
                    f(
                        (ky * kernel_width + start) * channels,
                        (y * width + corner_x + start - left) * channels,
                        (end - start) * channels,
                    );
                }
                continue;
            }
            for kx in 0..kernel_width {
                if let Some(x) = (corner_x + kx * dx)
                    .checked_sub(left)
                    .filter(|x| *x < width)
                {
                    let at = (ky * kernel_width + kx) * channels;
                    f(at, (y * width + x) * channels, channels);
                }
            }
        }
    }
}
