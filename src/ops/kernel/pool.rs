//! Maximum and mean over windows, vectorised over channels, and channels of several maps side by
//! side. Windows have no dilation, and every one of them holds at least one value.

use std::ops::Range;

use super::MapDims;
use super::simd::{Isa, Job, PerChannels, Vector, dispatch, over_channels};
use crate::geometry::Window;

/// Maximum over each window of `batch` maps; padding never wins.
///
/// # Panics
/// If a slice is shorter than its dimensions or the window does not fit.
pub fn max_pool(x: &[f32], batch: usize, input: MapDims, window: &Window, y: &mut [f32]) {
    forward(x, batch, input, window, Mean::None, y);
}

/// Mean over each window of `batch` maps; `count_include_pad` says whether padding counts as
/// zeros.
///
/// # Panics
/// If a slice is shorter than its dimensions or the window does not fit.
pub fn avg_pool(
    x: &[f32],
    batch: usize,
    input: MapDims,
    window: &Window,
    count_include_pad: bool,
    y: &mut [f32],
) {
    let mean = Mean::of(count_include_pad);
    forward(x, batch, input, window, mean, y);
}

/// What a sum is divided by; with `None` the maximum is taken.
#[derive(Clone, Copy, PartialEq)]
enum Mean {
    None,
    OfWindow,
    OfValues,
}

impl Mean {
    fn of(count_include_pad: bool) -> Self {
        match count_include_pad {
            true => Self::OfWindow,
            false => Self::OfValues,
        }
    }

    fn share(self, window: &Window, values: usize) -> f32 {
        match self {
            Self::OfWindow => 1.0 / (window.kernel[0] * window.kernel[1]) as f32,
            _ => 1.0 / values as f32,
        }
    }
}

/// Rows or columns of the map under the window at `index` along an axis.
#[inline(always)]
fn under(window: &Window, axis: usize, index: usize, size: usize) -> Range<usize> {
    let before = [window.padding.top, window.padding.left][axis];
    let corner = index * window.stride[axis];
    let end = (corner + window.kernel[axis])
        .saturating_sub(before)
        .min(size);
    corner.saturating_sub(before).min(end)..end
}

fn output(window: &Window, input: MapDims) -> [usize; 2] {
    match window.output(input.height, input.width) {
        Some(output) => output,
        None => panic!("the window does not fit"),
    }
}

fn forward(x: &[f32], batch: usize, input: MapDims, window: &Window, mean: Mean, y: &mut [f32]) {
    let output = output(window, input);
    let values = output[0] * output[1] * input.channels;
    assert!(
        x.len() >= batch * input.elements() && y.len() >= batch * values,
        "lengths"
    );
    dispatch(Pool {
        x,
        batch,
        input,
        output,
        window,
        mean,
        y,
    });
}

struct Pool<'a> {
    x: &'a [f32],
    batch: usize,
    input: MapDims,
    output: [usize; 2],
    window: &'a Window,
    mean: Mean,
    y: &'a mut [f32],
}

impl Job for Pool<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let MapDims {
            height,
            width,
            channels,
        } = self.input;
        let [out_height, out_width] = self.output;
        let maps = self.x.chunks_exact(self.input.elements().max(1));
        let values = (out_height * out_width * channels).max(1);
        for (x, y) in maps.zip(self.y.chunks_exact_mut(values)).take(self.batch) {
            for (out_row, y) in y.chunks_exact_mut(out_width * channels).enumerate() {
                let rows = under(self.window, 0, out_row, height);
                for (column, y) in y.chunks_exact_mut(channels).enumerate() {
                    let columns = under(self.window, 1, column, width);
                    let share = self.mean.share(self.window, rows.len() * columns.len());
                    let mut taps = Taps {
                        x,
                        channels,
                        width,
                        rows: rows.clone(),
                        columns,
                        share,
                        y,
                    };
                    // SAFETY: handed on to the caller.
                    unsafe {
                        match self.mean {
                            Mean::None => over_channels::<I>(channels, &mut Most(&mut taps)),
                            _ => over_channels::<I>(channels, &mut Sum(&mut taps)),
                        }
                    }
                }
            }
        }
    }
}

/// A window on a map, and the pixel of the output that it gives.
struct Taps<'a> {
    x: &'a [f32],
    channels: usize,
    width: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    share: f32,
    y: &'a mut [f32],
}

impl Taps<'_> {
    /// Folds the values of the window at a block of channels.
    ///
    /// # Safety
    /// As for [`PerChannels::block`].
    #[inline(always)]
    unsafe fn fold<V: Vector>(&self, channel: usize, start: V, f: impl Fn(V, V) -> V) -> V {
        let mut folded = start;
        for row in self.rows.clone() {
            for column in self.columns.clone() {
                let at = (row * self.width + column) * self.channels + channel;
                // SAFETY: rows and columns are those of the map; the caller vouches for channels.
                folded = f(folded, unsafe { V::load(self.x.as_ptr().add(at)) });
            }
        }
        folded
    }
}

struct Most<'a, 'b>(&'a mut Taps<'b>);

impl PerChannels for Most<'_, '_> {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, channel: usize) {
        // SAFETY: handed on to the caller; the output pixel has as many channels.
        unsafe {
            let start = V::splat(f32::NEG_INFINITY);
            let most = self.0.fold(channel, start, |most, x: V| x.max(most));
            most.store(self.0.y.as_mut_ptr().add(channel));
        }
    }
}

struct Sum<'a, 'b>(&'a mut Taps<'b>);

impl PerChannels for Sum<'_, '_> {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, channel: usize) {
        // SAFETY: handed on to the caller; the output pixel has as many channels.
        unsafe {
            let zero = V::splat(0.0);
            let sum = self.0.fold(channel, zero, |sum, x: V| sum.add(x));
            let mean = sum.mul_add(V::splat(self.0.share), zero);
            mean.store(self.0.y.as_mut_ptr().add(channel));
        }
    }
}

/// Adds the gradient of [`avg_pool`] of one map to `dx`.
///
/// # Panics
/// If a slice is shorter than its dimensions or the window does not fit.
pub(crate) fn avg_pool_grad(
    dy: &[f32],
    input: MapDims,
    window: &Window,
    count_include_pad: bool,
    dx: &mut [f32],
) {
    struct Grad<'a> {
        dy: &'a [f32],
        input: MapDims,
        output: [usize; 2],
        window: &'a Window,
        mean: Mean,
        dx: &'a mut [f32],
    }
    impl Job for Grad<'_> {
        #[inline(always)]
        unsafe fn run<I: Isa>(self) {
            let channels = self.input.channels;
            for (pixel, dy) in self.dy.chunks_exact(channels.max(1)).enumerate() {
                let (row, column) = (pixel / self.output[1], pixel % self.output[1]);
                let rows = under(self.window, 0, row, self.input.height);
                let columns = under(self.window, 1, column, self.input.width);
                let share = self.mean.share(self.window, rows.len() * columns.len());
                for row in rows {
                    for column in columns.clone() {
                        let at = (row * self.input.width + column) * channels;
                        for (dx, dy) in self.dx[at..at + channels].iter_mut().zip(dy) {
                            *dx += share * dy;
                        }
                    }
                }
            }
        }
    }
    let output = output(window, input);
    let values = output[0] * output[1] * input.channels;
    dispatch(Grad {
        dy: &dy[..values],
        input,
        output,
        window,
        mean: Mean::of(count_include_pad),
        dx,
    });
}

/// Channels whose maxima are found together, in registers.
const BLOCK: usize = 64;

/// Adds the gradient of [`max_pool`] of one map to `dx`: to the first maximum, row by row.
///
/// # Panics
/// If a slice is shorter than its dimensions or the window does not fit.
pub(crate) fn max_pool_grad(
    x: &[f32],
    dy: &[f32],
    input: MapDims,
    window: &Window,
    dx: &mut [f32],
) {
    struct Grad<'a> {
        x: &'a [f32],
        dy: &'a [f32],
        input: MapDims,
        output: [usize; 2],
        window: &'a Window,
        dx: &'a mut [f32],
    }
    impl Job for Grad<'_> {
        #[inline(always)]
        unsafe fn run<I: Isa>(self) {
            let MapDims {
                height,
                width,
                channels,
            } = self.input;
            for (pixel, dy) in self.dy.chunks_exact(channels.max(1)).enumerate() {
                let (row, column) = (pixel / self.output[1], pixel % self.output[1]);
                let rows = under(self.window, 0, row, height);
                let columns = under(self.window, 1, column, width);
                let taps = |channel: usize| {
                    let columns = columns.clone();
                    let row = move |row| {
                        columns
                            .clone()
                            .map(move |column| (row * width + column) * channels + channel)
                    };
                    rows.clone().flat_map(row)
                };
                for (block, dy) in dy.chunks(BLOCK).enumerate() {
                    let mut most = [f32::NEG_INFINITY; BLOCK];
                    let mut first = [0u32; BLOCK];
                    for (tap, at) in (0..).zip(taps(block * BLOCK)) {
                        let found = most.iter_mut().zip(&mut first);
                        for (x, (most, first)) in self.x[at..at + dy.len()].iter().zip(found) {
                            let more = *x > *most || x.is_nan();
                            *most = if more { *x } else { *most };
                            *first = if more { tap } else { *first };
                        }
                    }
                    for (tap, at) in (0u32..).zip(taps(block * BLOCK)) {
                        let wanted = dy.iter().zip(&first);
                        for (dx, (dy, first)) in self.dx[at..at + dy.len()].iter_mut().zip(wanted) {
                            *dx += if *first == tap { *dy } else { 0.0 };
                        }
                    }
                }
            }
        }
    }
    let output = output(window, input);
    let values = output[0] * output[1] * input.channels;
    dispatch(Grad {
        x,
        dy: &dy[..values],
        input,
        output,
        window,
        dx,
    });
}

/// Copies pixels of `channels` channels into those of a wider map, `all` channels wide, from
/// channel `first` on.
///
/// # Panics
/// If the channels do not fit into the wider map.
pub fn place(x: &[f32], channels: usize, y: &mut [f32], first: usize, all: usize) {
    let pixels = y.chunks_exact_mut(all.max(1));
    for (x, y) in x.chunks_exact(channels.max(1)).zip(pixels) {
        y[first..first + channels].copy_from_slice(x);
    }
}

/// Copies `channels` channels from `first` on out of pixels that are `all` channels wide.
///
/// # Panics
/// If the wider map has fewer channels.
pub(crate) fn take(x: &[f32], all: usize, first: usize, y: &mut [f32], channels: usize) {
    let pixels = y.chunks_exact_mut(channels.max(1));
    for (x, y) in x.chunks_exact(all.max(1)).zip(pixels) {
        y.copy_from_slice(&x[first..first + channels]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Padding;
    use crate::ops::kernel::simd::tests::at_every_level;

    #[test]
    fn every_instruction_set_pools_alike() {
        let input = MapDims {
            height: 7,
            width: 6,
            channels: 91,
        };
        let window = Window {
            kernel: [3, 3],
            stride: [2, 1],
            dilation: [1, 1],
            padding: Padding {
                top: 1,
                bottom: 2,
                left: 0,
                right: 1,
            },
        };
        let values = |count: usize| (0..count).map(|i| (i * 7919 % 8191) as f32 / 64.0);
        let x: Vec<f32> = values(2 * input.elements()).collect();
        let [height, width] = window.output(7, 6).unwrap();
        let dy: Vec<f32> = values(height * width * 91).collect();
        let mut results = Vec::new();
        at_every_level(|_| {
            let mut y = [(); 3].map(|()| vec![0.0; 2 * dy.len()]);
            max_pool(&x, 2, input, &window, &mut y[0]);
            avg_pool(&x, 2, input, &window, false, &mut y[1]);
            avg_pool(&x, 2, input, &window, true, &mut y[2]);
            let mut dx = [(); 2].map(|()| vec![0.0; input.elements()]);
            max_pool_grad(&x, &dy, input, &window, &mut dx[0]);
            avg_pool_grad(&dy, input, &window, false, &mut dx[1]);
            results.push((y, dx));
        });
        // The last level is the baseline; without fused multiply-adds its sums may round otherwise.
        let (wanted, wanted_dx) = results.pop().unwrap();
        let close = |a: &[f32], b: &[f32]| {
            let mut pairs = a.iter().zip(b);
            pairs.all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs())
        };
        for (y, dx) in results {
            assert_eq!(y[0], wanted[0]);
            assert!(close(&y[1], &wanted[1]) && close(&y[2], &wanted[2]));
            assert!(close(&dx[0], &wanted_dx[0]) && close(&dx[1], &wanted_dx[1]));
        }
    }
}
