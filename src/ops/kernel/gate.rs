//! Maps times one value a picture and channel, as squeeze and excitation has it.

use super::MapDims;
use super::simd::{Isa, Job, PerChannels, Vector, dispatch, over_channels};

/// `y = x * factors`, with `factors [batch, channels]`.
///
/// # Panics
/// If the lengths do not fit together.
pub(crate) fn gate(x: &[f32], factors: &[f32], dims: MapDims, y: &mut [f32]) {
    struct Product<'a> {
        x: &'a [f32],
        factors: &'a [f32],
        y: &'a mut [f32],
    }
    impl PerChannels for Product<'_> {
        #[inline(always)]
        unsafe fn block<V: Vector>(&mut self, channel: usize) {
            let channels = self.factors.len();
            // SAFETY: `x` and `y` are as long as each other, and only whole rows are touched.
            unsafe {
                let factor = V::load(self.factors.as_ptr().add(channel));
                for row in 0..self.x.len() / channels {
                    let at = row * channels + channel;
                    let x = V::load(self.x.as_ptr().add(at));
                    x.mul(factor).store(self.y.as_mut_ptr().add(at));
                }
            }
        }
    }
    impl Job for Product<'_> {
        #[inline(always)]
        unsafe fn run<I: Isa>(mut self) {
            // SAFETY: handed on to the caller.
            unsafe { over_channels::<I>(self.factors.len(), &mut self) }
        }
    }
    let channels = dims.channels.max(1);
    let elements = dims.elements().max(1);
    assert!(x.len() == y.len() && factors.len() / channels * elements == x.len());
    // A few rows at a time, so that they are still in cache for the next block of channels.
    let step = (2048 / channels).max(1) * channels;
    let maps = x.chunks_exact(elements).zip(y.chunks_exact_mut(elements));
    for ((x, y), factors) in maps.zip(factors.chunks_exact(channels)) {
        for (x, y) in x.chunks(step).zip(y.chunks_mut(step)) {
            dispatch(Product { x, factors, y });
        }
    }
}

/// Gradient of [`gate`] to its factors: sums of `x * dy` over each map, `[batch, channels]`.
///
/// # Panics
/// If the lengths do not fit together.
pub(crate) fn gate_grad(x: &[f32], dy: &[f32], dims: MapDims, to: &mut [f32]) {
    /// Rows that a sum in f32 goes over: a long one would lose digits.
    const SHORT_SUM: usize = 256;
    struct Sums<'a> {
        x: &'a [f32],
        dy: &'a [f32],
        sums: &'a mut [f32],
    }
    impl PerChannels for Sums<'_> {
        #[inline(always)]
        unsafe fn block<V: Vector>(&mut self, channel: usize) {
            let channels = self.sums.len();
            // SAFETY: `x` and `dy` are as long as each other, and only whole rows are read.
            unsafe {
                let mut sum = V::splat(0.0);
                for row in 0..self.x.len() / channels {
                    let at = row * channels + channel;
                    let x = V::load(self.x.as_ptr().add(at));
                    sum = x.mul_add(V::load(self.dy.as_ptr().add(at)), sum);
                }
                let to = self.sums.as_mut_ptr().add(channel);
                V::load(to).add(sum).store(to);
            }
        }
    }
    impl Job for Sums<'_> {
        #[inline(always)]
        unsafe fn run<I: Isa>(mut self) {
            // SAFETY: handed on to the caller.
            unsafe { over_channels::<I>(self.sums.len(), &mut self) }
        }
    }
    let channels = dims.channels.max(1);
    let elements = dims.elements().max(1);
    assert!(x.len() == dy.len() && to.len() / channels * elements == x.len());
    let maps = x.chunks_exact(elements).zip(dy.chunks_exact(elements));
    for ((x, dy), sums) in maps.zip(to.chunks_exact_mut(channels)) {
        sums.fill(0.0);
        let block = SHORT_SUM * channels;
        for (x, dy) in x.chunks(block).zip(dy.chunks(block)) {
            let sums = &mut *sums;
            dispatch(Sums { x, dy, sums });
        }
    }
}
