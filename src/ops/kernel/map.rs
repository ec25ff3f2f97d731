//! Passes over maps channel by channel: affine, global pools and the sums of batch norm.

use super::MapDims;
use super::curve::{clamp, curve, curve_grad};
use super::simd::{Isa, Job, PerChannels, Vector, dispatch, over_channels};
use crate::activation::Activation;
use crate::geometry::Padding;

/// A [`PerChannels`] to run over all channels of all instruction sets.
struct Whole<W> {
    channels: usize,
    work: W,
}

impl<W: PerChannels> Job for Whole<W> {
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) {
        // SAFETY: handed on to the caller.
        unsafe { over_channels::<I>(self.channels, &mut self.work) }
    }
}

fn run(channels: usize, work: impl PerChannels) {
    dispatch(Whole { channels, work });
}

/// Rows of `channels` values in `len`.
fn rows(len: usize, channels: usize) -> usize {
    len.checked_div(channels).unwrap_or(0)
}

/// `y = activation(x * scale + offset (+ residual))` per channel: a batch norm that no convolution
/// could take in. `scale` and `offset` have one value a channel.
///
/// # Panics
/// If `x`, `y` and `residual` differ in length, or `scale` and `offset`.
pub fn affine(
    x: &[f32],
    scale: &[f32],
    offset: &[f32],
    residual: Option<&[f32]>,
    activation: Activation,
    y: &mut [f32],
) {
    normalise(x, None, scale, offset, residual, activation, y);
}

/// As [`affine`], of `x - mean`: exact deviations first, where folding a large mean into the offset
/// would lose digits.
pub(crate) fn normalise(
    x: &[f32],
    mean: Option<&[f32]>,
    scale: &[f32],
    offset: &[f32],
    residual: Option<&[f32]>,
    activation: Activation,
    y: &mut [f32],
) {
    struct Affine<'a> {
        x: &'a [f32],
        mean: Option<&'a [f32]>,
        scale: &'a [f32],
        offset: &'a [f32],
        residual: Option<&'a [f32]>,
        bounds: [f32; 2],
        y: &'a mut [f32],
    }
    impl PerChannels for Affine<'_> {
        #[inline(always)]
        unsafe fn block<V: Vector>(&mut self, channel: usize) {
            let channels = self.scale.len();
            // SAFETY: the lengths were compared.
            unsafe {
                let mean = match self.mean {
                    Some(mean) => V::load(mean.as_ptr().add(channel)),
                    None => V::splat(0.0),
                };
                let scale = V::load(self.scale.as_ptr().add(channel));
                let offset = V::load(self.offset.as_ptr().add(channel));
                let [low, high] = self.bounds;
                let (low, high) = (V::splat(low), V::splat(high));
                for row in 0..rows(self.x.len(), channels) {
                    let at = row * channels + channel;
                    let x = V::load(self.x.as_ptr().add(at)).sub(mean);
                    let mut value = x.mul_add(scale, offset);
                    if let Some(residual) = self.residual {
                        value = value.add(V::load(residual.as_ptr().add(at)));
                    }
                    value.clamp(low, high).store(self.y.as_mut_ptr().add(at));
                }
            }
        }
    }
    let channels = scale.len();
    assert!(offset.len() == channels && y.len() == x.len());
    assert!(mean.is_none_or(|mean| mean.len() == channels));
    assert!(residual.is_none_or(|r| r.len() == x.len()));
    // A few rows at a time, so that they are still in cache for the next block of channels.
    let step = block_values(channels);
    for (i, (x, y)) in x.chunks(step).zip(y.chunks_mut(step)).enumerate() {
        let work = Affine {
            x,
            mean,
            scale,
            offset,
            residual: residual.map(|r| &r[i * step..][..x.len()]),
            bounds: clamp(activation),
            y: &mut *y,
        };
        run(channels, work);
        curve(activation, y);
    }
}

/// A pass over values that lie side by side, compiled for every instruction set.
pub(super) struct Flat<F>(pub(super) F);

impl<F: FnOnce()> Job for Flat<F> {
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        (self.0)();
    }
}

/// Turns gradients `dy` to the output of an activation into those to its input. `of` is the output
/// of a clamp, whose gradient is 0 at and beyond its bounds (PyTorch's convention at both kinks);
/// the input of a curve.
pub(crate) fn activate_grad(of: &[f32], activation: Activation, dy: &mut [f32]) {
    let Some([low, high]) = activation.bounds() else {
        return curve_grad(of, activation, dy);
    };
    dispatch(Flat(
        #[inline(always)]
        || {
            for (dy, y) in dy.iter_mut().zip(of) {
                *dy = if *y > low && *y < high { *dy } else { 0.0 };
            }
        },
    ));
}

/// `to += from`.
pub(crate) fn add_into(from: &[f32], to: &mut [f32]) {
    dispatch(Flat(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to += from;
            }
        },
    ));
}

/// Values of whole rows that stay in the L1 cache beside a few others like them.
fn block_values(channels: usize) -> usize {
    (2048 / channels.max(1)).max(1) * channels.max(1)
}

/// Zeros around every map of `x`.
pub(crate) fn pad(x: &[f32], dims: MapDims, padding: Padding, y: &mut [f32]) {
    let row = dims.width * dims.channels;
    let left = padding.left * dims.channels;
    let padded_row = row + left + padding.right * dims.channels;
    let padded = padded_row * (dims.height + padding.top + padding.bottom);
    y.fill(0.0);
    let maps = y.chunks_exact_mut(padded.max(1));
    for (map, padded) in x.chunks_exact(dims.elements().max(1)).zip(maps) {
        let rows = padded.chunks_exact_mut(padded_row).skip(padding.top);
        for (from, to) in map.chunks_exact(row.max(1)).zip(rows) {
            to[left..left + row].copy_from_slice(from);
        }
    }
}

/// Gradient of [`pad`]: the inner part, or that added to `dx`.
pub(crate) fn pad_grad(
    dy: &[f32],
    dims: MapDims,
    padding: Padding,
    accumulate: bool,
    dx: &mut [f32],
) {
    let row = dims.width * dims.channels;
    let left = padding.left * dims.channels;
    let padded_row = row + left + padding.right * dims.channels;
    let padded = padded_row * (dims.height + padding.top + padding.bottom);
    let maps = dy.chunks_exact(padded.max(1));
    for (map, padded) in dx.chunks_exact_mut(dims.elements().max(1)).zip(maps) {
        let rows = padded.chunks_exact(padded_row).skip(padding.top);
        for (to, from) in map.chunks_exact_mut(row.max(1)).zip(rows) {
            let from = &from[left..left + row];
            match accumulate {
                true => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
                false => to.copy_from_slice(from),
            }
        }
    }
}

/// `y = activation(x (+ residual))`.
pub(crate) fn activate(x: &[f32], residual: Option<&[f32]>, activation: Activation, y: &mut [f32]) {
    let [low, high] = clamp(activation);
    // Written out, as `clamp` would turn NaN into a bound on some instruction sets.
    let clamped = |x: f32| {
        let x = if x < low { low } else { x };
        if x > high { high } else { x }
    };
    dispatch(Flat(
        #[inline(always)]
        || match residual {
            Some(residual) => {
                for ((y, x), residual) in y.iter_mut().zip(x).zip(residual) {
                    *y = clamped(x + residual);
                }
            }
            None => {
                for (y, x) in y.iter_mut().zip(x) {
                    *y = clamped(*x);
                }
            }
        },
    ));
    curve(activation, y);
}

/// Gradient of [`global_avg`]: each pixel's share.
pub(crate) fn global_avg_grad(dy: &[f32], input: MapDims, dx: &mut [f32]) {
    let share = 1.0 / (input.height * input.width) as f32;
    let maps = dx.chunks_exact_mut(input.elements().max(1));
    for (map, dy) in maps.zip(dy.chunks_exact(input.channels.max(1))) {
        for pixel in map.chunks_exact_mut(input.channels) {
            for (dx, dy) in pixel.iter_mut().zip(dy) {
                *dx = dy * share;
            }
        }
    }
}

/// Gradient of [`global_max`]: to the first maximum of each channel, as in PyTorch.
pub(crate) fn global_max_grad(x: &[f32], dy: &[f32], input: MapDims, dx: &mut [f32]) {
    let channels = input.channels.max(1);
    dx.fill(0.0);
    let mut first = vec![0; channels];
    let maps = dx
        .chunks_exact_mut(input.elements().max(1))
        .zip(x.chunks_exact(input.elements().max(1)));
    for ((dx, x), dy) in maps.zip(dy.chunks_exact(channels)) {
        first.fill(0);
        for (at, value) in x.iter().enumerate() {
            let best = &mut first[at % channels];
            let most = x[*best * channels + at % channels];
            if *value > most || (value.is_nan() && !most.is_nan()) {
                *best = at / channels;
            }
        }
        for (channel, (pixel, dy)) in first.iter().zip(dy).enumerate() {
            dx[pixel * channels + channel] = *dy;
        }
    }
}

/// Mean over height and width of each map: `y [batch, channels]`.
pub fn global_avg(x: &[f32], batch: usize, input: MapDims, y: &mut [f32]) {
    let pixels = input.height * input.width;
    for image in 0..batch {
        let y = &mut y[image * input.channels..][..input.channels];
        y.fill(0.0);
        add_rows(&x[image * input.elements()..][..input.elements()], y);
        for value in y {
            *value /= pixels as f32;
        }
    }
}

/// Adds the rows of `x`, each as long as `sums`, to `sums`.
pub(crate) fn add_rows(x: &[f32], sums: &mut [f32]) {
    struct AddRows<'a> {
        x: &'a [f32],
        sums: &'a mut [f32],
    }
    impl PerChannels for AddRows<'_> {
        #[inline(always)]
        unsafe fn block<V: Vector>(&mut self, channel: usize) {
            let channels = self.sums.len();
            // SAFETY: only whole rows of `x` are read.
            unsafe {
                let to = self.sums.as_mut_ptr().add(channel);
                let mut sum = V::load(to);
                for row in 0..rows(self.x.len(), channels) {
                    sum = sum.add(V::load(self.x.as_ptr().add(row * channels + channel)));
                }
                sum.store(to);
            }
        }
    }
    run(sums.len(), AddRows { x, sums });
}

/// Maximum over height and width of each map: `y [batch, channels]`.
pub fn global_max(x: &[f32], batch: usize, input: MapDims, y: &mut [f32]) {
    struct Max<'a> {
        x: &'a [f32],
        y: &'a mut [f32],
    }
    impl PerChannels for Max<'_> {
        #[inline(always)]
        unsafe fn block<V: Vector>(&mut self, channel: usize) {
            let channels = self.y.len();
            // SAFETY: only whole rows of `x` are read.
            unsafe {
                let mut most = V::splat(f32::NEG_INFINITY);
                for row in 0..rows(self.x.len(), channels) {
                    let value = V::load(self.x.as_ptr().add(row * channels + channel));
                    most = value.max(most);
                }
                most.store(self.y.as_mut_ptr().add(channel));
            }
        }
    }
    for image in 0..batch {
        let x = &x[image * input.elements()..][..input.elements()];
        let y = &mut y[image * input.channels..][..input.channels];
        run(input.channels, Max { x, y });
    }
}

/// Mean and sum of squared deviations of each channel over the rows of `x`.
pub(crate) fn moments(x: &[f32], mean: &mut [f32], squares: &mut [f32]) {
    struct Squares<'a> {
        x: &'a [f32],
        mean: &'a [f32],
        squares: &'a mut [f32],
    }
    impl PerChannels for Squares<'_> {
        #[inline(always)]
        unsafe fn block<V: Vector>(&mut self, channel: usize) {
            let channels = self.mean.len();
            // SAFETY: only whole rows of `x` are read; the lengths were compared.
            unsafe {
                let mean = V::load(self.mean.as_ptr().add(channel));
                let mut sum = V::splat(0.0);
                for row in 0..rows(self.x.len(), channels) {
                    let value = V::load(self.x.as_ptr().add(row * channels + channel)).sub(mean);
                    sum = value.mul_add(value, sum);
                }
                sum.store(self.squares.as_mut_ptr().add(channel));
            }
        }
    }
    let channels = mean.len();
    assert_eq!(channels, squares.len());
    mean.fill(0.0);
    add_rows(x, mean);
    for value in mean.iter_mut() {
        *value /= rows(x.len(), channels) as f32;
    }
    run(channels, Squares { x, mean, squares });
}

/// Sums over rows that the gradients of a batch norm need, one value a channel.
pub(crate) struct NormGradSums<'a> {
    /// Of `dy`.
    pub(crate) dy: &'a mut [f32],
    /// Of `dy * (x - mean)`.
    pub(crate) dy_x: &'a mut [f32],
}

/// Sets the sums over the rows of `x` and `dy`.
pub(crate) fn norm_grad_sums(x: &[f32], dy: &[f32], mean: &[f32], sums: NormGradSums<'_>) {
    struct Sums<'a> {
        x: &'a [f32],
        dy: &'a [f32],
        mean: &'a [f32],
        sums: NormGradSums<'a>,
    }
    impl PerChannels for Sums<'_> {
        #[inline(always)]
        unsafe fn block<V: Vector>(&mut self, channel: usize) {
            let channels = self.mean.len();
            // SAFETY: only whole rows are read; the lengths were compared.
            unsafe {
                let mean = V::load(self.mean.as_ptr().add(channel));
                let (mut sum, mut product) = (V::splat(0.0), V::splat(0.0));
                for row in 0..rows(self.x.len(), channels) {
                    let at = row * channels + channel;
                    let dy = V::load(self.dy.as_ptr().add(at));
                    let x = V::load(self.x.as_ptr().add(at)).sub(mean);
                    sum = sum.add(dy);
                    product = x.mul_add(dy, product);
                }
                sum.store(self.sums.dy.as_mut_ptr().add(channel));
                product.store(self.sums.dy_x.as_mut_ptr().add(channel));
            }
        }
    }
    let channels = mean.len();
    assert!(x.len() == dy.len() && sums.dy.len() == channels && sums.dy_x.len() == channels);
    run(channels, Sums { x, dy, mean, sums });
}

/// `dx = a * dy + b * (x - mean) + c` with coefficients `[a, b, c]` of each channel.
pub(crate) fn norm_input_grad(
    x: &[f32],
    dy: &[f32],
    mean: &[f32],
    coefficients: [&[f32]; 3],
    dx: &mut [f32],
) {
    struct InputGrad<'a> {
        x: &'a [f32],
        dy: &'a [f32],
        mean: &'a [f32],
        coefficients: [&'a [f32]; 3],
        dx: &'a mut [f32],
    }
    impl PerChannels for InputGrad<'_> {
        #[inline(always)]
        unsafe fn block<V: Vector>(&mut self, channel: usize) {
            let channels = self.mean.len();
            // SAFETY: only whole rows are touched; the lengths were compared.
            unsafe {
                let mean = V::load(self.mean.as_ptr().add(channel));
                let [a, b, c] = self.coefficients;
                let a = V::load(a.as_ptr().add(channel));
                let b = V::load(b.as_ptr().add(channel));
                let c = V::load(c.as_ptr().add(channel));
                for row in 0..rows(self.x.len(), channels) {
                    let at = row * channels + channel;
                    let x = V::load(self.x.as_ptr().add(at)).sub(mean);
                    let dy = V::load(self.dy.as_ptr().add(at));
                    let value = dy.mul_add(a, x.mul_add(b, c));
                    value.store(self.dx.as_mut_ptr().add(at));
                }
            }
        }
    }
    let channels = mean.len();
    assert!(coefficients.iter().all(|c| c.len() == channels));
    assert!(x.len() == dy.len() && x.len() == dx.len());
    let step = block_values(channels);
    for ((x, dy), dx) in x.chunks(step).zip(dy.chunks(step)).zip(dx.chunks_mut(step)) {
        let work = InputGrad {
            x,
            dy,
            mean,
            coefficients,
            dx,
        };
        run(channels, work);
    }
}
