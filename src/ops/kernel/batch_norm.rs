//! Batch norm: passes over maps with a few values of each channel, forward and back.

use super::curve::{clamp, curve};
use super::simd::{Isa, Job, PerChannels, Vector, dispatch, over_channels, prefetch};
use crate::activation::Activation;

/// Rows that are worked on together, one block of channels after the other: what belongs to the
/// channels is loaded once for all of them, and memory is still read nearly in order.
const ROWS: usize = 8;

/// Values ahead of those that are read that are asked for: blocks of rows are no order that the
/// processor foresees.
const AHEAD: usize = 1024;

/// Reads values, and asks for others further on.
///
/// # Safety
/// As for [`Vector::load`].
#[inline(always)]
unsafe fn stream<V: Vector>(values: &[f32], at: usize) -> V {
    let from = values.as_ptr().wrapping_add(at);
    prefetch(from.wrapping_add(AHEAD));
    // SAFETY: handed on to the caller.
    unsafe { V::load(from) }
}

/// Work on the values of some rows in one block of channels.
trait PerRows {
    /// # Safety
    /// The processor has the vector's instruction set; `R` rows from `row` on and the channels from
    /// `channel` on exist.
    unsafe fn rows<V: Vector, const R: usize>(&mut self, row: usize, channel: usize);
}

/// All rows of all channels.
struct Sweep<W> {
    rows: usize,
    channels: usize,
    work: W,
}

/// `R` rows from `row` on.
struct Few<'a, W, const R: usize> {
    row: usize,
    work: &'a mut W,
}

impl<W: PerRows, const R: usize> PerChannels for Few<'_, W, R> {
    #[inline(always)]
    unsafe fn block<V: Vector>(&mut self, channel: usize) {
        // SAFETY: handed on to the caller.
        unsafe { self.work.rows::<V, R>(self.row, channel) }
    }
}

impl<W: PerRows> Job for Sweep<W> {
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) {
        let mut row = 0;
        // SAFETY: the rows exist; the rest is handed on to the caller.
        unsafe {
            while row + ROWS <= self.rows {
                let work = &mut self.work;
                over_channels::<I>(self.channels, &mut Few::<_, ROWS> { row, work });
                row += ROWS;
            }
            while row < self.rows {
                let work = &mut self.work;
                over_channels::<I>(self.channels, &mut Few::<_, 1> { row, work });
                row += 1;
            }
        }
    }
}

/// Sweeps over the rows of `len` values.
fn sweep(len: usize, channels: usize, work: impl PerRows) {
    dispatch(Sweep {
        rows: len.checked_div(channels).unwrap_or(0),
        channels,
        work,
    });
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
    impl PerRows for Affine<'_> {
        #[inline(always)]
        unsafe fn rows<V: Vector, const R: usize>(&mut self, row: usize, channel: usize) {
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
                for row in row..row + R {
                    let at = row * channels + channel;
                    let x = stream::<V>(self.x, at).sub(mean);
                    let mut value = x.mul_add(scale, offset);
                    if let Some(residual) = self.residual {
                        value = value.add(stream::<V>(residual, at));
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
    let work = Affine {
        x,
        mean,
        scale,
        offset,
        residual,
        bounds: clamp(activation),
        y: &mut *y,
    };
    sweep(x.len(), channels, work);
    curve(activation, y);
}

/// Rows that the squares of [`moments`] are deviations from, before their mean is known.
const PILOT_ROWS: usize = 8;

/// Mean and sum of squared deviations of each channel over the rows of `x`, in one pass: deviations
/// from the mean of the first few rows, corrected for its own. As those are among `n` rows, the
/// correction is at most `n / 8` times the result: `x` should be short.
pub(crate) fn moments(x: &[f32], mean: &mut [f32], squares: &mut [f32]) {
    struct Deviations<'a> {
        x: &'a [f32],
        pilot: &'a [f32],
        sum: &'a mut [f32],
        squares: &'a mut [f32],
    }
    impl PerRows for Deviations<'_> {
        #[inline(always)]
        unsafe fn rows<V: Vector, const R: usize>(&mut self, row: usize, channel: usize) {
            let channels = self.pilot.len();
            // SAFETY: the lengths were compared.
            unsafe {
                let pilot = V::load(self.pilot.as_ptr().add(channel));
                let (to_sum, to_squares) = (
                    self.sum.as_mut_ptr().add(channel),
                    self.squares.as_mut_ptr().add(channel),
                );
                let (mut sum, mut squares) = (V::load(to_sum), V::load(to_squares));
                for row in row..row + R {
                    let value = stream::<V>(self.x, row * channels + channel).sub(pilot);
                    sum = sum.add(value);
                    squares = value.mul_add(value, squares);
                }
                sum.store(to_sum);
                squares.store(to_squares);
            }
        }
    }
    let channels = mean.len();
    assert_eq!(channels, squares.len());
    let rows = x.len().checked_div(channels).unwrap_or(0);
    let few = rows.clamp(1, PILOT_ROWS);
    let mut pilot = vec![0.0; channels];
    for row in x.chunks_exact(channels.max(1)).take(few) {
        for (pilot, value) in pilot.iter_mut().zip(row) {
            *pilot += value / few as f32;
        }
    }
    mean.fill(0.0);
    squares.fill(0.0);
    let work = Deviations {
        x,
        pilot: &pilot,
        sum: &mut *mean,
        squares: &mut *squares,
    };
    sweep(x.len(), channels, work);
    let rows = rows.max(1) as f32;
    for ((mean, squares), pilot) in mean.iter_mut().zip(squares).zip(pilot) {
        let shift = *mean / rows;
        *squares = (*squares - shift * *mean).max(0.0);
        *mean = pilot + shift;
    }
}

/// A clamp behind a batch norm, from whose input its gradient is found again: nothing passes where
/// `(x - mean) * scale + offset` is at or beyond a bound (PyTorch's convention at both kinks).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clamped<'a> {
    /// One value a channel.
    pub(crate) scale: &'a [f32],
    /// One value a channel.
    pub(crate) offset: &'a [f32],
    /// Lower and upper bound.
    pub(crate) bounds: [f32; 2],
}

/// [`Clamped`] for one block of channels.
#[derive(Clone, Copy)]
struct Gate<V> {
    scale: V,
    offset: V,
    bounds: [V; 2],
}

impl<V: Vector> Gate<V> {
    /// # Safety
    /// The channels exist, and the processor has the vector's instruction set.
    #[inline(always)]
    unsafe fn load(clamped: Option<Clamped<'_>>, channel: usize) -> Option<Self> {
        let clamped = clamped?;
        // SAFETY: handed on to the caller.
        unsafe {
            Some(Self {
                scale: V::load(clamped.scale.as_ptr().add(channel)),
                offset: V::load(clamped.offset.as_ptr().add(channel)),
                bounds: [V::splat(clamped.bounds[0]), V::splat(clamped.bounds[1])],
            })
        }
    }

    /// `dy` where the clamp lets it pass, for the deviation `x` of its input's input.
    ///
    /// # Safety
    /// The processor has the vector's instruction set.
    #[inline(always)]
    unsafe fn pass(gate: Option<Self>, x: V, dy: V) -> V {
        // SAFETY: handed on to the caller.
        unsafe {
            match gate {
                Some(gate) => {
                    let y = x.mul_add(gate.scale, gate.offset);
                    dy.where_inside(y, gate.bounds[0], gate.bounds[1])
                }
                None => dy,
            }
        }
    }
}

/// Sums over rows that the gradients of a batch norm need, one value a channel.
pub(crate) struct NormGradSums<'a> {
    /// Of `dy`.
    pub(crate) dy: &'a mut [f32],
    /// Of `dy * (x - mean)`.
    pub(crate) dy_x: &'a mut [f32],
}

/// Sets the sums over the rows of `x` and `dy`, the gradient behind the clamp if there is one.
pub(crate) fn norm_grad_sums(
    x: &[f32],
    dy: &[f32],
    mean: &[f32],
    clamped: Option<Clamped<'_>>,
    sums: NormGradSums<'_>,
) {
    struct Sums<'a> {
        x: &'a [f32],
        dy: &'a [f32],
        mean: &'a [f32],
        clamped: Option<Clamped<'a>>,
        sums: NormGradSums<'a>,
    }
    impl PerRows for Sums<'_> {
        #[inline(always)]
        unsafe fn rows<V: Vector, const R: usize>(&mut self, row: usize, channel: usize) {
            let channels = self.mean.len();
            // SAFETY: only whole rows are read; the lengths were compared.
            unsafe {
                let mean = V::load(self.mean.as_ptr().add(channel));
                let gate = Gate::<V>::load(self.clamped, channel);
                let to_sum = self.sums.dy.as_mut_ptr().add(channel);
                let to_product = self.sums.dy_x.as_mut_ptr().add(channel);
                let (mut sum, mut product) = (V::load(to_sum), V::load(to_product));
                for row in row..row + R {
                    let at = row * channels + channel;
                    let x = stream::<V>(self.x, at).sub(mean);
                    let dy = Gate::pass(gate, x, stream(self.dy, at));
                    sum = sum.add(dy);
                    product = x.mul_add(dy, product);
                }
                sum.store(to_sum);
                product.store(to_product);
            }
        }
    }
    let channels = mean.len();
    assert!(x.len() == dy.len() && sums.dy.len() == channels && sums.dy_x.len() == channels);
    check(clamped, channels);
    sums.dy.fill(0.0);
    sums.dy_x.fill(0.0);
    let work = Sums {
        x,
        dy,
        mean,
        clamped,
        sums,
    };
    sweep(x.len(), channels, work);
}

fn check(clamped: Option<Clamped<'_>>, channels: usize) {
    assert!(clamped.is_none_or(|it| it.scale.len() == channels && it.offset.len() == channels));
}

/// `dx = a * dy + b * (x - mean) + c` with coefficients `[a, b, c]` of each channel; `dy` is the
/// gradient behind the clamp if there is one.
pub(crate) fn norm_input_grad(
    x: &[f32],
    dy: &[f32],
    mean: &[f32],
    coefficients: [&[f32]; 3],
    clamped: Option<Clamped<'_>>,
    dx: &mut [f32],
) {
    struct InputGrad<'a> {
        x: &'a [f32],
        dy: &'a [f32],
        mean: &'a [f32],
        coefficients: [&'a [f32]; 3],
        clamped: Option<Clamped<'a>>,
        dx: &'a mut [f32],
    }
    impl PerRows for InputGrad<'_> {
        #[inline(always)]
        unsafe fn rows<V: Vector, const R: usize>(&mut self, row: usize, channel: usize) {
            let channels = self.mean.len();
            // SAFETY: only whole rows are touched; the lengths were compared.
            unsafe {
                let mean = V::load(self.mean.as_ptr().add(channel));
                let gate = Gate::<V>::load(self.clamped, channel);
                let [a, b, c] = self.coefficients;
                let a = V::load(a.as_ptr().add(channel));
                let b = V::load(b.as_ptr().add(channel));
                let c = V::load(c.as_ptr().add(channel));
                for row in row..row + R {
                    let at = row * channels + channel;
                    let x = stream::<V>(self.x, at).sub(mean);
                    let dy = Gate::pass(gate, x, stream(self.dy, at));
                    let value = dy.mul_add(a, x.mul_add(b, c));
                    value.store(self.dx.as_mut_ptr().add(at));
                }
            }
        }
    }
    let channels = mean.len();
    assert!(coefficients.iter().all(|c| c.len() == channels));
    assert!(x.len() == dy.len() && x.len() == dx.len());
    check(clamped, channels);
    let work = InputGrad {
        x,
        dy,
        mean,
        coefficients,
        clamped,
        dx,
    };
    sweep(x.len(), channels, work);
}
