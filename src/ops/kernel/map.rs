//! Passes over maps value by value or channel by channel: clamps, pads and global pools.

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
