//! Depthwise convolution, vectorised over channels: row by row, a few output columns at a time
//! whose sums stay in registers. Only the columns at the borders look where the window ends.

use std::ops::Range;

use super::curve::{clamp, curve};
use super::simd::{Isa, Job, PerChannels, Vector, dispatch, over_channels};
use super::{Epilogue, MapDims};
use crate::geometry::Window;

/// A depthwise kernel packed for [`depthwise`], from `[channels, 1, kernel_height, kernel_width]`.
#[derive(Debug, Clone)]
pub struct PackedDepthwise {
    /// `[kernel_height * kernel_width, channels]`.
    taps: Vec<f32>,
    channels: usize,
}

impl PackedDepthwise {
    /// Packs a kernel. `scale` multiplies each channel (a folded batch norm).
    pub fn new(kernel: &[f32], dims: [usize; 4], scale: Option<&[f32]>) -> Self {
        let [channels, _, height, width] = dims;
        let area = height * width;
        let taps = (0..area * channels)
            .map(|i| {
                let (tap, channel) = (i / channels, i % channels);
                kernel[channel * area + tap] * scale.map_or(1.0, |scale| scale[channel])
            })
            .collect();
        Self { taps, channels }
    }

    /// The kernel turned by 180 degrees.
    pub(crate) fn flipped(mut self) -> Self {
        let (channels, taps) = (self.channels, &mut self.taps);
        let area = taps.len() / channels.max(1);
        for tap in 0..area / 2 {
            let (head, tail) = taps.split_at_mut((area - 1 - tap) * channels);
            head[tap * channels..][..channels].swap_with_slice(&mut tail[..channels]);
        }
        self
    }

    /// `[kernel_height * kernel_width, channels]`.
    pub(super) fn taps(&self) -> &[f32] {
        &self.taps
    }
}

/// Depthwise convolution of `batch` maps.
///
/// # Panics
/// If a slice is shorter than its dimensions or the window does not fit.
pub fn depthwise(
    x: &[f32],
    batch: usize,
    input: MapDims,
    kernel: &PackedDepthwise,
    window: &Window,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let Some([height, width]) = window.output(input.height, input.width) else {
        panic!("the window does not fit");
    };
    let area = window.kernel[0] * window.kernel[1];
    let values = height * width * input.channels;
    assert_eq!(
        kernel.channels, input.channels,
        "channels of kernel and map"
    );
    assert!(kernel.taps.len() >= area * input.channels, "taps");
    assert!(
        x.len() >= batch * input.elements() && y.len() >= batch * values,
        "lengths"
    );
    assert!(
        epilogue
            .bias
            .is_none_or(|bias| bias.len() >= input.channels),
        "bias"
    );
    assert!(
        epilogue.residual.is_none_or(|r| r.len() >= batch * values),
        "residual"
    );
    assert!(
        epilogue.residual.is_none() || !epilogue.accumulate,
        "one addition a pass"
    );
    dispatch(Maps {
        x,
        batch,
        input,
        output: [height, width],
        taps: &kernel.taps,
        window,
        epilogue,
        y,
    });
}

struct Maps<'a> {
    x: &'a [f32],
    batch: usize,
    input: MapDims,
    output: [usize; 2],
    taps: &'a [f32],
    window: &'a Window,
    epilogue: Epilogue<'a>,
    y: &'a mut [f32],
}

/// Floats of input rows that stay in the L2 cache while one block of channels after another is
/// read from them.
const BAND_FLOATS: usize = 48 * 1024;

impl Job for Maps<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) {
        let channels = self.input.channels;
        let row = self.input.width * channels * self.window.stride[0];
        let rows = (BAND_FLOATS / row.max(1)).max(4);
        let out_row = self.output[1] * channels;
        for image in 0..self.batch {
            for first in (0..self.output[0]).step_by(rows) {
                let rows = first..(first + rows).min(self.output[0]);
                let mut band = Band {
                    image,
                    rows: rows.clone(),
                    maps: &mut self,
                };
                // SAFETY: handed on to the caller.
                unsafe { over_channels::<I>(channels, &mut band) };
                let at = (image * self.output[0] + rows.start) * out_row;
                let done = &mut self.y[at..][..rows.len() * out_row];
                curve(self.epilogue.activation, done);
            }
        }
    }
}

/// Neighbouring output rows of an image.
struct Band<'a, 'b> {
    maps: &'b mut Maps<'a>,
    image: usize,
    rows: Range<usize>,
}

impl PerChannels for Band<'_, '_> {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, channel: usize) {
        let maps = &mut *self.maps;
        let window = maps.window;
        let [height, width] = maps.output;
        let null = std::ptr::null::<f32>();
        let interior = interior(window, maps.input.width, width);
        for out_row in self.rows.clone() {
            let corner = out_row * window.stride[0];
            let at = (self.image * height + out_row) * width * maps.input.channels + channel;
            let y = maps.y[at..].as_mut_ptr();
            let residual = match (maps.epilogue.residual, maps.epilogue.accumulate) {
                (Some(residual), _) => residual[at..].as_ptr(),
                (None, true) => y.cast_const(),
                (None, false) => null,
            };
            let row = Row {
                x: maps.x[self.image * maps.input.elements() + channel..].as_ptr(),
                taps: maps.taps[channel..].as_ptr(),
                corner: corner as isize - window.padding.top as isize,
                kernel_rows: valid_taps(window, 0, corner, maps.input.height),
                input: maps.input,
                window,
                width,
                interior,
                bias: maps.epilogue.bias.map_or(null, |b| b[channel..].as_ptr()),
                residual,
                bounds: clamp(maps.epilogue.activation),
                y,
            };
            // SAFETY: `depthwise` compared the lengths; the caller vouches for the channels.
            unsafe { row.run::<V>() };
        }
    }
}

/// Output columns whose windows lie wholly on the map.
pub(super) fn interior(window: &Window, in_width: usize, out_width: usize) -> [usize; 2] {
    let (left, stride) = (window.padding.left, window.stride[1]);
    let reach = (window.kernel[1] - 1) * window.dilation[1];
    let end = match (in_width + left).checked_sub(reach + 1) {
        Some(room) => (room / stride + 1).min(out_width),
        None => 0,
    };
    [left.div_ceil(stride).min(end), end]
}

/// Taps along an axis that fall on the map, for a window whose corner is at `corner` counted from
/// the padding's edge.
pub(super) fn valid_taps(window: &Window, axis: usize, corner: usize, size: usize) -> [usize; 2] {
    let before = [window.padding.top, window.padding.left][axis];
    let dilation = window.dilation[axis];
    let first = before.saturating_sub(corner).div_ceil(dilation);
    let end = (size + before).saturating_sub(corner).div_ceil(dilation);
    let end = end.min(window.kernel[axis]);
    [first.min(end), end]
}

/// One output row, at a block of channels that all pointers start with.
struct Row<'a> {
    x: *const f32,
    taps: *const f32,
    /// Input row under the window's first tap; negative in the padding.
    corner: isize,
    kernel_rows: [usize; 2],
    input: MapDims,
    window: &'a Window,
    width: usize,
    interior: [usize; 2],
    bias: *const f32,
    residual: *const f32,
    bounds: [f32; 2],
    y: *mut f32,
}

impl Row<'_> {
    /// All output columns.
    #[inline(always)]
    unsafe fn run<V: Vector>(&self) {
        let [start, end] = self.interior;
        // SAFETY: borders are clipped to the map; the caller vouches for the channels.
        unsafe {
            for column in 0..start {
                self.border::<V>(column);
            }
            match (
                self.window.kernel[1],
                self.window.dilation[1],
                self.window.stride[1],
            ) {
                (3, 1, 1) => {
                    let rest = self.three::<V, 4, 1, 6>(start, end);
                    let rest = self.three::<V, 2, 1, 4>(rest, end);
                    self.three::<V, 1, 1, 3>(rest, end);
                }
                (3, 1, 2) => {
                    let rest = self.three::<V, 4, 2, 9>(start, end);
                    let rest = self.three::<V, 2, 2, 5>(rest, end);
                    self.three::<V, 1, 2, 3>(rest, end);
                }
                _ => {
                    let taps = [0, self.window.kernel[1]];
                    let rest = end - (end - start) % 4;
                    for column in (start..rest).step_by(4) {
                        self.any::<V, 4>(column, taps);
                    }
                    for column in rest..end {
                        self.any::<V, 1>(column, taps);
                    }
                }
            }
            for column in end..self.width {
                self.border::<V>(column);
            }
        }
    }

    /// The input at the given tap row, under tap column 0 of output column `column`.
    #[inline(always)]
    fn source(&self, kernel_row: usize, column: usize) -> *const f32 {
        let row = self.corner + (kernel_row * self.window.dilation[0]) as isize;
        let column = (column * self.window.stride[1]) as isize - self.window.padding.left as isize;
        let pixel = row * self.input.width as isize + column;
        self.x.wrapping_offset(pixel * self.input.channels as isize)
    }

    /// `COLUMNS` output columns of a kernel three wide; `SPAN` input columns lie under them.
    /// Returns the first column it left.
    #[inline(always)]
    unsafe fn three<V: Vector, const COLUMNS: usize, const STRIDE: usize, const SPAN: usize>(
        &self,
        start: usize,
        end: usize,
    ) -> usize {
        let channels = self.input.channels;
        let mut column = start;
        while column + COLUMNS <= end {
            // SAFETY: all windows of interior columns lie on the map.
            unsafe {
                let mut sums = [V::splat(0.0); COLUMNS];
                for kernel_row in self.kernel_rows[0]..self.kernel_rows[1] {
                    let source = self.source(kernel_row, column);
                    let taps = self.taps.add(kernel_row * 3 * channels);
                    let mut values = [V::splat(0.0); SPAN];
                    for (i, value) in values.iter_mut().enumerate() {
                        *value = V::load(source.add(i * channels));
                    }
                    for tap in 0..3 {
                        let weight = V::load(taps.add(tap * channels));
                        for (i, sum) in sums.iter_mut().enumerate() {
                            *sum = values[i * STRIDE + tap].mul_add(weight, *sum);
                        }
                    }
                }
                self.finish(column, sums);
            }
            column += COLUMNS;
        }
        column
    }

    /// A column whose window hangs over the left or right edge.
    #[inline(always)]
    unsafe fn border<V: Vector>(&self, column: usize) {
        let corner = column * self.window.stride[1];
        let taps = valid_taps(self.window, 1, corner, self.input.width);
        // SAFETY: `taps` are those on the map.
        unsafe { self.any::<V, 1>(column, taps) }
    }

    /// Neighbouring output columns with the given tap columns.
    #[inline(always)]
    unsafe fn any<V: Vector, const COLUMNS: usize>(&self, column: usize, taps: [usize; 2]) {
        let channels = self.input.channels;
        let step = self.window.stride[1] * channels;
        // SAFETY: the caller gives taps that lie on the map.
        unsafe {
            let mut sums = [V::splat(0.0); COLUMNS];
            for kernel_row in self.kernel_rows[0]..self.kernel_rows[1] {
                let source = self.source(kernel_row, column);
                for tap in taps[0]..taps[1] {
                    let at = (kernel_row * self.window.kernel[1] + tap) * channels;
                    let weight = V::load(self.taps.add(at));
                    let source = source.wrapping_add(tap * self.window.dilation[1] * channels);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(source.wrapping_add(i * step)).mul_add(weight, *sum);
                    }
                }
            }
            self.finish(column, sums);
        }
    }

    #[inline(always)]
    unsafe fn finish<V: Vector, const COLUMNS: usize>(&self, column: usize, sums: [V; COLUMNS]) {
        // SAFETY: the columns lie in the output row.
        unsafe {
            let [low, high] = self.bounds;
            let (low, high) = (V::splat(low), V::splat(high));
            for (i, sum) in sums.into_iter().enumerate() {
                let at = (column + i) * self.input.channels;
                let mut value = sum;
                if !self.bias.is_null() {
                    value = value.add(V::load(self.bias));
                }
                if !self.residual.is_null() {
                    value = value.add(V::load(self.residual.add(at)));
                }
                value.clamp(low, high).store(self.y.add(at));
            }
        }
    }
}
