//! Scaled dot-product self-attention of several heads (Vaswani et al., 2017) and its gradient, one
//! picture at a time, a few queries at a time.

use super::curve::exp;
use super::gemm::{pack_columns, pack_rows, strided_product, transposed_product};
use super::reduce::{max, sum, sum_of_pairs};
use super::simd::{Isa, Job, PerChannels, Vector, dispatch, over_channels};

/// Queries at a time: their weights stay in the second-level cache.
const QUERIES: usize = 56;

/// Sizes of a self-attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionDims {
    /// Tokens of a picture.
    pub tokens: usize,
    /// Values of a token, of all heads together.
    pub channels: usize,
    /// Heads; they share the channels out.
    pub heads: usize,
}

impl AttentionDims {
    /// Channels of a head.
    fn size(self) -> usize {
        self.channels / self.heads.max(1)
    }

    /// Columns of a matrix of weights: as many as whole vectors take.
    fn columns(self) -> usize {
        self.tokens.next_multiple_of(8)
    }

    fn queries(self) -> usize {
        QUERIES.min(self.tokens)
    }

    /// Lengths of what the forward pass keeps of a head: keys, values, weights.
    fn rooms(self) -> [usize; 3] {
        let size = self.size();
        [
            size * self.columns(),
            self.tokens * size,
            self.queries() * self.columns(),
        ]
    }

    /// Factor of the products of queries and keys.
    fn scale(self) -> f32 {
        (1.0 / (self.size() as f64).sqrt()) as f32
    }

    /// Values of queries, keys and values of a picture.
    pub(crate) fn input_elements(self) -> usize {
        3 * self.tokens * self.channels
    }

    /// Values of the output of a picture.
    pub(crate) fn output_elements(self) -> usize {
        self.tokens * self.channels
    }
}

/// Floats of scratch that [`attention`] wants.
pub(crate) fn attention_scratch(dims: AttentionDims) -> usize {
    dims.rooms().iter().sum()
}

/// `y [tokens, channels] = softmax(q k^T / sqrt(size)) v` per head, from queries, keys and values
/// `x [tokens, 3 * channels]` of one picture, heads one after the other within each third.
///
/// # Panics
/// If a slice is shorter than the dimensions.
pub(crate) fn attention(x: &[f32], dims: AttentionDims, y: &mut [f32], scratch: &mut [f32]) {
    let AttentionDims {
        tokens, channels, ..
    } = dims;
    let (size, columns, line) = (dims.size(), dims.columns(), 3 * channels);
    let [keys, values, weights] = parts(scratch, dims.rooms());
    for head in 0..dims.heads {
        let at = head * size;
        pack_columns(&x[channels + at..], line, tokens, size, columns, keys);
        pack_rows(&x[2 * channels + at..], line, tokens, size, values);
        for first in (0..tokens).step_by(QUERIES) {
            let rows = QUERIES.min(tokens - first);
            let weights = &mut weights[..rows * columns];
            let queries = &x[first * line + at..];
            strided_product(queries, line, rows, size, keys, columns, weights, columns);
            softmax(weights, dims);
            let y = &mut y[first * channels + at..];
            strided_product(weights, columns, rows, tokens, values, size, y, channels);
        }
    }
}

/// Gradient `dx [tokens, 3 * channels]` of [`attention`] from `dy [tokens, channels]`; the weights
/// are computed again. `scratch` grows as needed.
///
/// # Panics
/// If a slice is shorter than the dimensions.
pub(crate) fn attention_grad(
    x: &[f32],
    dims: AttentionDims,
    dy: &[f32],
    dx: &mut [f32],
    scratch: &mut [Vec<f32>; 2],
) {
    let AttentionDims {
        tokens, channels, ..
    } = dims;
    let (size, columns, line) = (dims.size(), dims.columns(), 3 * channels);
    let [room, panels] = scratch;
    let (packed, block, rows) = (
        size * columns,
        dims.queries() * columns,
        dims.queries() * size,
    );
    let whole = tokens * size;
    let rooms = [
        packed, packed, whole, block, block, rows, rows, whole, whole,
    ];
    let needed = rooms.iter().sum();
    if room.len() < needed {
        room.resize(needed, 0.0);
    }
    let [
        keys,
        values,
        key_rows,
        weights,
        slopes,
        queries,
        dys,
        dkeys,
        dvalues,
    ] = parts(room, rooms);
    for head in 0..dims.heads {
        let at = head * size;
        let (key, value) = (channels + at, 2 * channels + at);
        pack_columns(&x[key..], line, tokens, size, columns, keys);
        pack_columns(&x[value..], line, tokens, size, columns, values);
        pack_rows(&x[key..], line, tokens, size, key_rows);
        for first in (0..tokens).step_by(QUERIES) {
            let rows = QUERIES.min(tokens - first);
            let add = first > 0;
            let weights = &mut weights[..rows * columns];
            let slopes = &mut slopes[..rows * columns];
            let (queries, dys) = (&mut queries[..rows * size], &mut dys[..rows * size]);
            let from = &x[first * line + at..];
            strided_product(from, line, rows, size, keys, columns, weights, columns);
            softmax(weights, dims);
            copy_rows(from, line, queries, size, size);
            let from = &dy[first * channels + at..];
            copy_rows(from, channels, dys, size, size);
            transposed_product(weights, columns, 0, dys, size, add, dvalues, panels);
            strided_product(dys, size, rows, size, values, columns, slopes, columns);
            softmax_grad(weights, dims, slopes);
            transposed_product(slopes, columns, 0, queries, size, add, dkeys, panels);
            let dx = &mut dx[first * line + at..];
            strided_product(slopes, columns, rows, tokens, key_rows, size, dx, line);
        }
        copy_rows(dkeys, size, &mut dx[key..], line, size);
        copy_rows(dvalues, size, &mut dx[value..], line, size);
    }
}

/// Cuts the first so many values each off a slice.
fn parts<const N: usize>(mut slice: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|length| {
        let (part, rest) = std::mem::take(&mut slice).split_at_mut(length);
        slice = rest;
        part
    })
}

/// Copies the first `count` values of rows of one length to rows of another.
fn copy_rows(from: &[f32], from_row: usize, to: &mut [f32], to_row: usize, count: usize) {
    for (from, to) in from.chunks(from_row).zip(to.chunks_mut(to_row)) {
        to[..count].copy_from_slice(&from[..count]);
    }
}

/// Products of queries and keys to weights that sum to 1 a row; columns beyond the tokens to 0.
fn softmax(weights: &mut [f32], dims: AttentionDims) {
    struct Softmax<'a> {
        weights: &'a mut [f32],
        dims: AttentionDims,
    }
    struct Exp<'a> {
        row: &'a mut [f32],
        scale: f32,
        shift: f32,
    }
    impl PerChannels for Exp<'_> {
        #[inline(always)]
        unsafe fn block<V: Vector>(&mut self, at: usize) {
            // SAFETY: the values lie in the row.
            unsafe {
                let place = self.row.as_mut_ptr().add(at);
                let x = V::load(place).mul_add(V::splat(self.scale), V::splat(self.shift));
                exp(x).store(place);
            }
        }
    }
    impl Job for Softmax<'_> {
        #[inline(always)]
        unsafe fn run<I: Isa>(self) {
            let tokens = self.dims.tokens;
            let scale = self.dims.scale();
            for row in self.weights.chunks_exact_mut(self.dims.columns()) {
                let shift = -scale * max(&row[..tokens]);
                let length = row.len();
                let mut work = Exp {
                    row: &mut *row,
                    scale,
                    shift,
                };
                // SAFETY: handed on to the caller.
                unsafe { over_channels::<I>(length, &mut work) };
                row[tokens..].fill(0.0);
                let share = 1.0 / sum(row, |x| x);
                for value in row {
                    *value *= share;
                }
            }
        }
    }
    dispatch(Softmax { weights, dims });
}

/// Gradient to the products of queries and keys, in place of that to the weights.
fn softmax_grad(weights: &[f32], dims: AttentionDims, slopes: &mut [f32]) {
    let (columns, scale) = (dims.columns(), dims.scale());
    dispatch(super::map::Flat(
        #[inline(always)]
        || {
            let rows = weights.chunks_exact(columns);
            for (weights, slopes) in rows.zip(slopes.chunks_exact_mut(columns)) {
                let mean = sum_of_pairs(weights, slopes, |w, s| w * s);
                for (slope, weight) in slopes.iter_mut().zip(weights) {
                    *slope = scale * (weight * (*slope - mean));
                }
            }
        },
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kernel::simd::tests::at_every_level;

    fn wave(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    /// By the formula, in double precision.
    fn plain(x: &[f32], dims: AttentionDims) -> Vec<f64> {
        let AttentionDims {
            tokens, channels, ..
        } = dims;
        let size = dims.size();
        let at = |token: usize, third: usize, c: usize| {
            f64::from(x[token * 3 * channels + third * channels + c])
        };
        let mut y = vec![0.0; tokens * channels];
        for head in 0..dims.heads {
            for query in 0..tokens {
                let weight = |key: usize| {
                    let products = (0..size).map(|c| head * size + c);
                    let product: f64 = products.map(|c| at(query, 0, c) * at(key, 1, c)).sum();
                    (product / (size as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = (0..tokens).map(weight).collect();
                let all: f64 = weights.iter().sum();
                for c in head * size..(head + 1) * size {
                    let sum: f64 = (0..tokens).map(|key| weights[key] * at(key, 2, c)).sum();
                    y[query * channels + c] = sum / all;
                }
            }
        }
        y
    }

    #[test]
    fn attends_by_the_formula_at_every_level() {
        for (tokens, channels, heads) in [(1, 4, 2), (5, 6, 3), (61, 24, 2), (130, 32, 1)] {
            let dims = AttentionDims {
                tokens,
                channels,
                heads,
            };
            let x = wave(dims.input_elements(), 0.7);
            let wanted = plain(&x, dims);
            at_every_level(|level| {
                let mut y = vec![f32::NAN; dims.output_elements()];
                let mut scratch = vec![f32::NAN; attention_scratch(dims)];
                attention(&x, dims, &mut y, &mut scratch);
                for (y, wanted) in y.iter().zip(&wanted) {
                    assert!((f64::from(*y) - wanted).abs() < 1e-5, "{level:?} {dims:?}");
                }
            });
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let dims = AttentionDims {
            tokens: 61,
            channels: 6,
            heads: 2,
        };
        let x = wave(dims.input_elements(), 0.7);
        let dy = wave(dims.output_elements(), 1.9);
        let mut dx = vec![f32::NAN; x.len()];
        attention_grad(&x, dims, &dy, &mut dx, &mut Default::default());
        let loss = |x: &[f32]| -> f64 {
            let y = plain(x, dims);
            y.iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum()
        };
        for at in (0..x.len()).step_by(37) {
            let moved = |by: f32| {
                let mut moved = x.clone();
                moved[at] += by;
                (loss(&moved), f64::from(moved[at]))
            };
            let ((up, high), (down, low)) = (moved(1e-2), moved(-1e-2));
            let slope = (up - down) / (high - low);
            assert!((f64::from(dx[at]) - slope).abs() < 1e-4, "{at}");
        }
    }
}
