//! Where the crop lies and which way a picture is turned: drawn from a stream a picture and epoch.

use rand::Rng;

use super::preprocess::{Preprocess, Scale};
use crate::config::AugmentConfig;
use crate::rng;

/// Random changes of one epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augment {
    /// Which changes.
    pub config: AugmentConfig,
    /// The experiment's seed.
    pub seed: u64,
    /// Epoch over all phases; every epoch draws anew.
    pub epoch: u64,
}

/// A crop and mirrorings of a resized picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// First row of the crop.
    pub top: usize,
    /// First column of the crop.
    pub left: usize,
    /// Left and right change places.
    pub flip_horizontal: bool,
    /// Top and bottom change places.
    pub flip_vertical: bool,
}

impl View {
    /// The centre, unturned: what evaluation sees.
    pub fn centre(preprocess: &Preprocess) -> Self {
        let [rows, columns] = room(preprocess);
        Self {
            top: rows / 2,
            left: columns / 2,
            flip_horizontal: false,
            flip_vertical: false,
        }
    }

    /// What `augment` makes of item `item` in its epoch. Every number is drawn whether it is used
    /// or not, so that switching one change on leaves the others as they were.
    pub fn random(preprocess: &Preprocess, augment: &Augment, item: usize) -> Self {
        let mut stream = rng::stream(augment.seed, "augment", &[augment.epoch, item as u64]);
        let [rows, columns] = room(preprocess);
        let centre = Self::centre(preprocess);
        let mut draw = |most: usize| stream.random_range(0..=most as u64) as usize;
        let (top, left) = (draw(rows), draw(columns));
        let (horizontal, vertical) = (draw(1) == 1, draw(1) == 1);
        let AugmentConfig {
            flip_horizontal,
            flip_vertical,
            crop,
        } = augment.config;
        Self {
            top: if crop { top } else { centre.top },
            left: if crop { left } else { centre.left },
            flip_horizontal: flip_horizontal && horizontal,
            flip_vertical: flip_vertical && vertical,
        }
    }

    /// Takes the view out of a resized picture: bytes `[height, width, 3]` of `image_size`.
    pub fn take(&self, preprocess: &Preprocess, resized: &[u8]) -> Vec<u8> {
        let mut output = Vec::with_capacity(preprocess.values());
        for line in self.lines(preprocess, resized) {
            if self.flip_horizontal {
                output.extend(line.chunks_exact(3).rev().flatten());
            } else {
                output.extend_from_slice(line);
            }
        }
        output
    }

    /// Takes and scales the view in one pass; `output` is `[height, width, 3]` of `image_size`.
    pub fn scale(
        &self,
        preprocess: &Preprocess,
        scale: &Scale,
        resized: &[u8],
        output: &mut [f32],
    ) {
        let width = preprocess.image_size[1] as usize * 3;
        let lines = self.lines(preprocess, resized);
        for (line, output) in lines.zip(output.chunks_exact_mut(width)) {
            if self.flip_horizontal {
                scale.apply_mirrored(line, output);
            } else {
                scale.apply(line, output);
            }
        }
    }

    /// The cropped lines from the view's top to its bottom, not yet mirrored left and right.
    fn lines<'a>(
        &self,
        preprocess: &Preprocess,
        resized: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let [height, width] = preprocess.image_size.map(|side| side as usize);
        let stride = preprocess.resized()[1] as usize * 3;
        let Self {
            top,
            left,
            flip_vertical,
            ..
        } = *self;
        (0..height).map(move |row| {
            let row = if flip_vertical { height - 1 - row } else { row };
            let start = (top + row) * stride + left * 3;
            &resized[start..start + width * 3]
        })
    }
}

/// Rows and columns that the crop leaves over.
fn room(preprocess: &Preprocess) -> [usize; 2] {
    let [height, width] = preprocess.resized();
    [
        (height - preprocess.image_size[0]) as usize,
        (width - preprocess.image_size[1]) as usize,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Interpolation;
    use crate::data::preprocess::ChannelOrder;

    fn preprocess() -> Preprocess {
        Preprocess {
            image_size: [2, 2],
            resize: Some([4, 5]),
            interpolation: Interpolation::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
            order: ChannelOrder::Rgb,
        }
    }

    /// A 4 x 5 picture whose every channel holds 10 * row + column.
    fn picture() -> Vec<u8> {
        (0..4u8)
            .flat_map(|row| (0..5u8).flat_map(move |column| [10 * row + column; 3]))
            .collect()
    }

    #[test]
    fn views_crop_and_mirror() {
        let red = |view: View| -> Vec<u8> {
            let (preprocess, picture) = (preprocess(), picture());
            let bytes = view.take(&preprocess, &picture);
            let (mut at_once, mut after) = ([0.0; 12], [0.0; 12]);
            let scale = Scale::new(&preprocess);
            view.scale(&preprocess, &scale, &picture, &mut at_once);
            scale.apply(&bytes, &mut after);
            assert_eq!(at_once, after);
            bytes.chunks(3).map(|rgb| rgb[0]).collect()
        };
        let centre = View::centre(&preprocess());
        assert_eq!(red(centre), [11, 12, 21, 22]);
        assert_eq!(
            red(View {
                flip_horizontal: true,
                ..centre
            }),
            [12, 11, 22, 21]
        );
        assert_eq!(
            red(View {
                flip_vertical: true,
                ..centre
            }),
            [21, 22, 11, 12]
        );
        assert_eq!(
            red(View {
                top: 2,
                left: 3,
                ..centre
            }),
            [23, 24, 33, 34]
        );
    }

    #[test]
    fn every_place_and_turn_comes_up_and_epochs_differ() {
        let config = AugmentConfig {
            flip_horizontal: true,
            flip_vertical: false,
            crop: true,
        };
        let views = |epoch| -> Vec<View> {
            let augment = Augment {
                config,
                seed: 1,
                epoch,
            };
            (0..400)
                .map(|item| View::random(&preprocess(), &augment, item))
                .collect()
        };
        let first = views(1);
        assert_eq!(first, views(1));
        assert_ne!(first, views(2));
        let mut kinds: Vec<_> = first
            .iter()
            .map(|v| (v.top, v.left, v.flip_horizontal))
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), 3 * 4 * 2);
        assert!(first.iter().all(|view| !view.flip_vertical));
    }
}
