//! Mixup (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899) of a batch with
//! itself in reverse order: timm's `Mixup` in batch mode.

use rand::Rng;

use crate::rng;

/// How batches are mixed; all of them with one share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mixing {
    /// Of mixup's beta distribution; 0 switches it off.
    pub mixup: f64,
    /// Of CutMix's. Where both are on, half of the batches get either.
    pub cutmix: f64,
}

impl Mixing {
    /// Whether batches are mixed at all.
    pub fn is_on(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }
}

/// Mixes the batches of an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixer {
    /// How.
    pub mixing: Mixing,
    /// The experiment's seed.
    pub seed: u64,
    /// Epoch over all phases.
    pub epoch: u64,
}

impl Mixer {
    /// What happens to the batch that begins with this copy of an item. Batches of an epoch are told
    /// apart by that, so that it does not matter how an epoch is cut into passes.
    pub(super) fn draw(&self, first: usize, copy: u64, size: [usize; 2]) -> Mix {
        let Mixing { mixup, cutmix } = self.mixing;
        let indices = [self.epoch, first as u64, copy];
        // The first copy's stream is named after the item alone.
        let indices = if copy == 0 { &indices[..2] } else { &indices };
        let stream = |name| rng::stream(self.seed, name, indices);
        let cuts = stream("mix").random::<f64>() < 0.5;
        if cutmix > 0.0 && (cuts || mixup == 0.0) {
            let mut stream = stream("cutmix");
            let centre = size.map(|side| stream.random_range(0..side.max(1) as u64) as usize);
            return Mix::cut(rng::beta(&mut stream, cutmix), centre, size);
        }
        Mix {
            own: rng::beta(&mut stream("mixup"), mixup),
            cut: None,
        }
    }
}

/// What happens to one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mix {
    /// What is left of each picture: share of its pixels, or of each pixel.
    pub(super) own: f64,
    cut: Option<Cut>,
}

/// Rows and columns from the first up to the one behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    rows: [usize; 2],
    columns: [usize; 2],
}

impl Mix {
    /// A box about `centre` of what `own` leaves of the area. The picture's edge may clip it, and
    /// the share follows from what is left of it.
    fn cut(own: f64, centre: [usize; 2], size: [usize; 2]) -> Self {
        let side = (1.0 - own).sqrt();
        let [rows, columns] = [0, 1].map(|axis| {
            let length = (size[axis] as f64 * side) as usize;
            let first = centre[axis].saturating_sub(length / 2);
            [first, (centre[axis] + length.div_ceil(2)).min(size[axis])]
        });
        let area = (rows[1] - rows[0]) * (columns[1] - columns[0]);
        Self {
            own: 1.0 - area as f64 / (size[0] * size[1]).max(1) as f64,
            cut: Some(Cut { rows, columns }),
        }
    }

    /// Mixes a batch `[n, height, width, 3]` of pictures of `size`.
    pub(super) fn apply(&self, pixels: &mut [f32], size: [usize; 2]) {
        let values = (size[0] * size[1] * 3).max(1);
        let half = pixels.len() / values / 2;
        let (first, second) = pixels.split_at_mut(pixels.len() / 2 / values * values);
        let first = first.chunks_exact_mut(values).take(half);
        for (one, other) in first.zip(second.chunks_exact_mut(values).rev()) {
            match self.cut {
                Some(cut) => {
                    for row in cut.rows[0]..cut.rows[1] {
                        let at = |column: usize| (row * size[1] + column) * 3;
                        let part = at(cut.columns[0])..at(cut.columns[1]);
                        one[part.clone()].swap_with_slice(&mut other[part]);
                    }
                }
                None => {
                    let (own, rest) = (self.own as f32, (1.0 - self.own) as f32);
                    for (one, other) in one.iter_mut().zip(other) {
                        (*one, *other) = (*one * own + *other * rest, *other * own + *one * rest);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Fixture {
        mixes: Vec<Case>,
    }

    #[derive(Debug, Deserialize)]
    struct Case {
        cut: bool,
        share: f64,
        centre: [usize; 2],
        pixels: Vec<f32>,
        own: f64,
    }

    /// `tests/fixtures/make_augment_fixtures.py` dictates timm's draws.
    #[test]
    fn batches_are_mixed_as_timm_mixes_them() {
        let text = include_str!("../../tests/fixtures/augment.json");
        let fixture: Fixture = serde_json::from_str(text).unwrap();
        // The fixture's source counts channels before rows and columns.
        let source: Vec<f32> = (0..4 * 6 * 8 * 3)
            .map(|at| {
                let (channel, column, row) = (at % 3, at / 3 % 8, at / 24 % 6);
                let index = ((at / 144 * 3 + channel) * 6 + row) * 8 + column;
                (index as f32).sin()
            })
            .collect();
        for case in fixture.mixes {
            let mix = match case.cut {
                true => Mix::cut(case.share, case.centre, [6, 8]),
                false => Mix {
                    own: case.share,
                    cut: None,
                },
            };
            assert!((mix.own - case.own).abs() < 1e-6, "{case:?} {mix:?}");
            let mut pixels = source.clone();
            mix.apply(&mut pixels, [6, 8]);
            for (found, expected) in pixels.iter().zip(&case.pixels) {
                assert!((found - expected).abs() < 2e-6, "{found} for {expected}");
            }
        }
    }

    #[test]
    fn the_middle_of_an_odd_batch_stays() {
        let mut pixels: Vec<f32> = (0..9).map(|at| at as f32).collect();
        let mix = Mix {
            own: 0.25,
            cut: None,
        };
        mix.apply(&mut pixels, [1, 1]);
        assert_eq!(pixels[3..6], [3.0, 4.0, 5.0]);
        assert_eq!([pixels[0], pixels[6]], [4.5, 1.5]);
        let whole = Mix::cut(0.0, [0, 0], [1, 1]);
        let mut alone = [1.0, 2.0, 3.0];
        whole.apply(&mut alone, [1, 1]);
        assert_eq!(alone, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn either_half_of_the_time_and_alone_always() {
        let kinds = |mixing: Mixing| {
            let mixer = Mixer {
                mixing,
                seed: 3,
                epoch: 1,
            };
            let draw = |first| mixer.draw(first, 0, [20, 30]);
            let mixes: Vec<Mix> = (0..4000).map(draw).collect();
            let cut = mixes.iter().filter(|mix| mix.cut.is_some()).count();
            let own = mixes.iter().map(|mix| mix.own).sum::<f64>() / 4000.0;
            (cut, own)
        };
        let (cut, _) = kinds(Mixing {
            mixup: 0.2,
            cutmix: 1.0,
        });
        assert!((1880..2120).contains(&cut), "{cut}");
        let (cut, own) = kinds(Mixing {
            mixup: 0.2,
            cutmix: 0.0,
        });
        assert!(cut == 0 && (own - 0.5).abs() < 0.02, "{own}");
        let (cut, own) = kinds(Mixing {
            mixup: 0.0,
            cutmix: 1.0,
        });
        // Clipped boxes leave more than half.
        assert!(cut == 4000 && (0.55..0.75).contains(&own), "{own}");
    }
}
