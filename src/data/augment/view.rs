//! Where the crop lies and which way a picture is turned.

use image::RgbImage;
use rand::Rng;

use crate::config::AugmentConfig;
use crate::data::preprocess::Scale;
use crate::rng::Stream;

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
    /// The centre of a picture of `source` rows and columns, unturned: what evaluation sees.
    pub fn centre(source: [u32; 2], size: [u32; 2]) -> Self {
        let [rows, columns] = room(source, size);
        Self {
            top: rows / 2,
            left: columns / 2,
            flip_horizontal: false,
            flip_vertical: false,
        }
    }

    /// A random crop and random mirrorings, as far as they are wanted. Every number is drawn
    /// whether it is used or not.
    pub(super) fn random(
        config: &AugmentConfig,
        source: [u32; 2],
        size: [u32; 2],
        stream: &mut Stream,
    ) -> Self {
        let [rows, columns] = room(source, size);
        let centre = Self::centre(source, size);
        let mut draw = |most: usize| stream.random_range(0..=most as u64) as usize;
        let (top, left) = (draw(rows), draw(columns));
        let (horizontal, vertical) = (draw(1) == 1, draw(1) == 1);
        Self {
            top: if config.crop { top } else { centre.top },
            left: if config.crop { left } else { centre.left },
            flip_horizontal: config.flip_horizontal && horizontal,
            flip_vertical: config.flip_vertical && vertical,
        }
    }

    /// Takes the view, of `size` rows and columns, out of a picture.
    pub fn take(&self, size: [u32; 2], picture: &RgbImage) -> RgbImage {
        let [height, width] = size;
        let mut output = RgbImage::new(width, height);
        let rows = output.chunks_exact_mut((width as usize * 3).max(1));
        for (line, row) in self.lines(size, picture).zip(rows) {
            if self.flip_horizontal {
                let pixels: &[[u8; 3]] = line.as_chunks().0;
                for (pixel, to) in pixels.iter().rev().zip(row.as_chunks_mut().0) {
                    *to = *pixel;
                }
            } else {
                row.copy_from_slice(line);
            }
        }
        output
    }

    /// Takes and scales the view in one pass; `output` is `[height, width, 3]` of `size`.
    pub fn scale(&self, size: [u32; 2], scale: &Scale, picture: &RgbImage, output: &mut [f32]) {
        let width = size[1] as usize * 3;
        let lines = self.lines(size, picture);
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
        size: [u32; 2],
        picture: &'a RgbImage,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let [height, width] = size.map(|side| side as usize);
        let stride = picture.width() as usize * 3;
        let Self {
            top,
            left,
            flip_vertical,
            ..
        } = *self;
        (0..height).map(move |row| {
            let row = if flip_vertical { height - 1 - row } else { row };
            let start = (top + row) * stride + left * 3;
            &picture.as_raw()[start..start + width * 3]
        })
    }
}

/// Rows and columns that the crop leaves over.
fn room(source: [u32; 2], size: [u32; 2]) -> [usize; 2] {
    [0, 1].map(|axis| source[axis].saturating_sub(size[axis]) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Interpolation;
    use crate::data::preprocess::{ChannelOrder, Preprocess};
    use crate::rng;

    #[test]
    fn views_crop_and_mirror() {
        // Every channel holds 10 * row + column.
        let picture = RgbImage::from_fn(5, 4, |x, y| image::Rgb([(10 * y + x) as u8; 3]));
        let preprocess = Preprocess {
            image_size: [2, 2],
            resize: Some([4, 5]),
            interpolation: Interpolation::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
            order: ChannelOrder::Rgb,
        };
        let red = |view: View| -> Vec<u8> {
            let bytes = view.take([2, 2], &picture);
            let (mut at_once, mut after) = ([0.0; 12], [0.0; 12]);
            let scale = Scale::new(&preprocess);
            view.scale([2, 2], &scale, &picture, &mut at_once);
            scale.apply(&bytes, &mut after);
            assert_eq!(at_once, after);
            bytes.chunks(3).map(|rgb| rgb[0]).collect()
        };
        let centre = View::centre([4, 5], [2, 2]);
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
    fn every_place_and_turn_comes_up() {
        let config = AugmentConfig {
            flip_horizontal: true,
            crop: true,
            ..AugmentConfig::default()
        };
        let views: Vec<View> = (0..400)
            .map(|item| {
                let mut stream = rng::stream(1, "augment", &[1, item]);
                View::random(&config, [4, 5], [2, 2], &mut stream)
            })
            .collect();
        let mut kinds: Vec<_> = views
            .iter()
            .map(|v| (v.top, v.left, v.flip_horizontal))
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), 3 * 4 * 2);
        assert!(views.iter().all(|view| !view.flip_vertical));
    }
}
