//! Layer normalisation of rows of channels (Ba et al., 2016), and its gradients.

use super::map::Flat;
use super::reduce::{sum, sum_of_pairs};
use super::simd::dispatch;

/// Mean and one over the standard deviation of a row.
#[inline(always)]
fn moments(row: &[f32], epsilon: f32) -> [f32; 2] {
    let count = row.len() as f32;
    let mean = sum(row, |x| x) / count;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / count;
    [mean, 1.0 / (variance + epsilon).sqrt()]
}

/// `(x - mean) / deviation * gamma + beta` for each row of `gamma.len()` values.
pub(crate) fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, y: &mut [f32]) {
    let channels = gamma.len().max(1);
    dispatch(Flat(
        #[inline(always)]
        || {
            for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
                let [mean, inverse] = moments(x, epsilon);
                let affine = gamma.iter().zip(beta);
                for ((y, x), (gamma, beta)) in y.iter_mut().zip(x).zip(affine) {
                    *y = (x - mean) * inverse * gamma + beta;
                }
            }
        },
    ));
}

/// Gradient to the input. With `g = dy gamma` and the normalised input `n`, it is
/// `(g - mean(g) - n mean(g n)) / deviation`.
pub(crate) fn layer_norm_input_grad(
    x: &[f32],
    dy: &[f32],
    gamma: &[f32],
    epsilon: f32,
    dx: &mut [f32],
) {
    let channels = gamma.len().max(1);
    let share = 1.0 / channels as f32;
    dispatch(Flat(
        #[inline(always)]
        || {
            let rows = x.chunks_exact(channels).zip(dy.chunks_exact(channels));
            for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(channels)) {
                let [mean, inverse] = moments(x, epsilon);
                for (dx, (dy, gamma)) in dx.iter_mut().zip(dy.iter().zip(gamma)) {
                    *dx = dy * gamma;
                }
                let offset = share * sum(dx, |g| g);
                let slope = sum_of_pairs(dx, x, |g, x| g * ((x - mean) * inverse));
                let slope = share * slope * inverse;
                for (dx, x) in dx.iter_mut().zip(x) {
                    *dx = inverse * (*dx - offset - slope * (x - mean));
                }
            }
        },
    ));
}

/// Gradients to gamma and beta, one after the other in `sums`, set or added to what is there.
pub(crate) fn layer_norm_sums(x: &[f32], dy: &[f32], epsilon: f32, add: bool, sums: &mut [f32]) {
    if !add {
        sums.fill(0.0);
    }
    let channels = (sums.len() / 2).max(1);
    let (gamma, beta) = sums.split_at_mut(sums.len() / 2);
    dispatch(Flat(
        #[inline(always)]
        || {
            for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
                let [mean, inverse] = moments(x, epsilon);
                let sums = gamma.iter_mut().zip(beta.iter_mut());
                for ((gamma, beta), (x, dy)) in sums.zip(x.iter().zip(dy)) {
                    *gamma += dy * ((x - mean) * inverse);
                    *beta += dy;
                }
            }
        },
    ));
}
