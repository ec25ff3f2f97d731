//! Sums and maxima along a row in lanes, whose order does not depend on the instruction set. To be
//! called from a [`super::simd::Job`], whose instructions they then have.

/// Partial results that a row is reduced to first.
const LANES: usize = 16;

/// Sum of `f` of every value.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let blocks = x.chunks_exact(LANES);
    let rest = blocks.remainder();
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += f(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    lanes.iter().sum()
}

/// Sum of `f` of every pair of values of two rows of one length.
#[inline(always)]
pub(super) fn sum_of_pairs(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (left, right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = (left.remainder(), right.remainder());
    for (a, b) in left.zip(right) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += f(*a, *b);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest.0.iter().zip(rest.1)) {
        *lane += f(*a, *b);
    }
    lanes.iter().sum()
}

/// The largest value; NaN counts for nothing.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let blocks = x.chunks_exact(LANES);
    let rest = blocks.remainder();
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let most = |most: f32, x: &f32| if *x > most { *x } else { most };
    let most_of_rest = rest.iter().fold(f32::NEG_INFINITY, most);
    lanes.iter().fold(most_of_rest, most)
}
