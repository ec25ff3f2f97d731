//! Position embeddings for pictures of another size: resampled as timm's `resample_abs_pos_embed`
//! does, bicubic with antialiasing (the filter of Keys, 1981, with a = -1/2, stretched where the grid
//! shrinks).

use candle_core::{Device, Result, Tensor};

/// Longest side of a grid. Pictures have fewer patches; a file may claim any number.
const MOST_SIDE: usize = 1024;

/// Whether positions `found` can become `dims`: `[1, 1 + side * side, channels]` (the class token's
/// first) or `[height, width, channels]` to `[height, width, channels]`; or the class token's
/// alone, `[1, 1, channels]`.
pub(super) fn fits(found: &[usize], dims: &[usize]) -> bool {
    let (&[_, _, channels], &[_, _, wanted]) = (found, dims) else {
        return false;
    };
    // Only where the grid does not begin at once is there a class token.
    channels == wanted && grid(found).is_some_and(|(first, _)| first == 1 || !is_class_token(dims))
}

fn is_class_token(dims: &[usize]) -> bool {
    dims[..2] == [1, 1]
}

/// Where the grid begins, and its height and width.
fn grid(dims: &[usize]) -> Option<(usize, [usize; 2])> {
    match *dims {
        [1, tokens, _] => {
            let side = tokens.saturating_sub(1).isqrt();
            let bounded = (1..=MOST_SIDE).contains(&side);
            (bounded && side * side + 1 == tokens).then_some((1, [side; 2]))
        }
        [height, width, _] => {
            let sides = [height, width];
            let bounded = sides.iter().all(|side| (1..=MOST_SIDE).contains(side));
            bounded.then_some((0, sides))
        }
        _ => None,
    }
}

/// Brings positions to `dims`; see [`fits`].
///
/// # Errors
/// If they do not fit.
pub(super) fn fit(found: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if is_class_token(dims) {
        return found.narrow(1, 0, 1)?.contiguous();
    }
    let (Some((first, from)), &[height, width, channels]) = (grid(found.dims()), dims) else {
        candle_core::bail!("position embeddings {:?} do not fit {dims:?}", found.dims())
    };
    let values: Vec<f32> = found.flatten_all()?.to_vec1()?;
    let values = &values[first * channels..];
    let values = resample(values, from, [height, width], channels);
    Tensor::from_vec(values, dims, &Device::Cpu)
}

/// A grid `[from, channels]` resampled to `[to, channels]`.
fn resample(grid: &[f32], from: [usize; 2], to: [usize; 2], channels: usize) -> Vec<f32> {
    if from == to {
        return grid.to_vec();
    }
    let [rows, columns] = [0, 1].map(|axis| taps(from[axis], to[axis]));
    let at = |row: usize, column: usize| &grid[(row * from[1] + column) * channels..][..channels];
    let mut resampled = Vec::with_capacity(to[0] * to[1] * channels);
    for (top, row_weights) in &rows {
        for (left, column_weights) in &columns {
            let mut sums = vec![0f64; channels];
            for (row, by_row) in (*top..).zip(row_weights) {
                for (column, by_column) in (*left..).zip(column_weights) {
                    for (sum, value) in sums.iter_mut().zip(at(row, column)) {
                        *sum += by_row * by_column * f64::from(*value);
                    }
                }
            }
            resampled.extend(sums.into_iter().map(|sum| sum as f32));
        }
    }
    resampled
}

/// For each new place along an axis, the first old one it draws from, and the weights from there on.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
    let step = from as f64 / to as f64;
    let stretch = step.max(1.0);
    let reach = 2.0 * stretch;
    (0..to)
        .map(|place| {
            let centre = step * (place as f64 + 0.5);
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(from);
            let weight = |old: usize| cubic((old as f64 - centre + 0.5) / stretch);
            let weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.iter().map(|weight| weight / sum).collect())
        })
        .collect()
}

/// The cubic filter.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Case {
        from: usize,
        to: [usize; 2],
        values: Vec<f32>,
    }

    #[test]
    fn grids_are_resampled_as_by_timm() {
        let text = include_str!("../../tests/fixtures/positions.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert!(cases.len() > 3);
        for case in cases {
            let (tokens, channels) = (1 + case.from * case.from, 2);
            let wave = (0..tokens * channels).map(|i| (0.1 + 0.7 * i as f64).sin() as f32);
            let found = Tensor::from_vec(
                wave.collect::<Vec<_>>(),
                (1, tokens, channels),
                &Device::Cpu,
            );
            let found = found.unwrap();
            let dims = [case.to[0], case.to[1], channels];
            assert!(fits(found.dims(), &dims));
            let values: Vec<f32> = fit(&found, &dims)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            assert_eq!(values.len(), case.values.len());
            for (ours, theirs) in values.iter().zip(&case.values) {
                assert!((ours - theirs).abs() < 1e-5, "{:?}", case.to);
            }
            let first = fit(&found, &[1, 1, channels]).unwrap();
            assert_eq!(first.dims(), [1, 1, channels]);
        }
        assert!(!fits(&[1, 6, 2], &[2, 2, 2]));
        assert!(!fits(&[1, 5, 3], &[2, 2, 2]));
    }

    #[test]
    fn grids_of_any_size_do_not_fit() {
        let side = 1usize << 31;
        for found in [
            [1, 1025 * 1025 + 1, 2],
            [1, side * side + 1, 2],
            [1, usize::MAX, 2],
            [1025, 2, 2],
            [usize::MAX, usize::MAX, 2],
            [0, 2, 2],
        ] {
            assert!(!fits(&found, &[2, 2, 2]), "{found:?}");
            assert!(!fits(&found, &[1, 1, 2]), "{found:?}");
        }
        assert!(fits(&[1, 1024 * 1024 + 1, 2], &[2, 2, 2]));
        assert!(fits(&[1024, 2, 2], &[2, 2, 2]));
        assert!(fits(&[1, 5, 2], &[1, 1, 2]));
        assert!(!fits(&[2, 5, 2], &[1, 1, 2]));
    }
}
