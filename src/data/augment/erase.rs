//! Random erasing (Zhong et al., arXiv 1708.04896), as torchvision's `RandomErasing` does it.

use rand::Rng;

use super::resized_crop::sides;
use crate::config::{EraseFill, EraseSettings};
use crate::data::preprocess::Scale;
use crate::rng::{self, Stream};

/// Attempts at a rectangle that fits the picture.
const ATTEMPTS: usize = 10;

/// What is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rectangle {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    fill: EraseFill,
}

impl Rectangle {
    /// A rectangle of a random area and shape at a random place, smaller than a picture of `size`
    /// rows and columns either way; `None` where nothing is erased.
    pub(super) fn draw(
        settings: &EraseSettings,
        size: [u32; 2],
        stream: &mut Stream,
    ) -> Option<Self> {
        let [rows, columns] = size.map(f64::from);
        let wanted = stream.random::<f64>() < settings.probability;
        let fitting = (0..ATTEMPTS)
            .map(|_| sides(rows * columns, settings.scale, settings.ratio, stream))
            .find(|[height, width]| *height < rows && *width < columns);
        let [height, width] = fitting.filter(|_| wanted)?.map(|side| side as usize);
        let mut place = |room: usize| stream.random_range(0..=room as u64) as usize;
        Some(Self {
            top: place(size[0] as usize - height),
            left: place(size[1] as usize - width),
            height,
            width,
            fill: settings.fill,
        })
    }

    /// Erases it from a scaled picture `[height, width, 3]` of `size`.
    pub(super) fn erase(
        &self,
        scale: &Scale,
        stream: &mut Stream,
        size: [u32; 2],
        output: &mut [f32],
    ) {
        let mut black = [0.0; 3];
        scale.apply(&[0; 3], &mut black);
        let rows = output.chunks_exact_mut((size[1] as usize * 3).max(1));
        for row in rows.skip(self.top).take(self.height) {
            let part = &mut row[self.left * 3..][..self.width * 3];
            match self.fill {
                EraseFill::Mean => part.fill(0.0),
                EraseFill::Black => part.as_chunks_mut().0.fill(black),
                EraseFill::Noise => part.fill_with(|| rng::normal(stream) as f32),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NormalizeName;
    use crate::data::augment::fixtures::fixture;
    use crate::data::preprocess::{Preprocess, named};

    const SETTINGS: EraseSettings = EraseSettings {
        probability: 0.25,
        scale: [0.02, 0.33],
        ratio: [0.3, 3.3],
        fill: EraseFill::Mean,
    };

    #[test]
    fn rectangles_are_spread_as_torchvision_spreads_them() {
        let count = 60_000;
        let found: Vec<Rectangle> = (0..count)
            .filter_map(|item| {
                let mut stream = rng::stream(1, "erase", &[item]);
                Rectangle::draw(&SETTINGS, [120, 160], &mut stream)
            })
            .collect();
        let share = found.len() as f64 / count as f64;
        assert!((share - 0.25).abs() < 0.01, "{share}");
        let numbers = |rectangle: &Rectangle| {
            let Rectangle {
                height: down,
                width: across,
                top,
                left,
                ..
            } = *rectangle;
            let [down, across, top, left] = [down, across, top, left].map(|side| side as f64);
            [down * across / 19_200.0, (down / across).ln(), top, left]
        };
        let found: Vec<_> = found.iter().map(numbers).collect();
        fixture().statistics["erase"].check(&found);
    }

    #[test]
    fn the_rectangle_and_nothing_else_is_filled() {
        let config = toml::from_str("root = 'x'").unwrap();
        let scaling = named(NormalizeName::ZeroOne);
        let preprocess = Preprocess::from_config(&config, [4, 5], scaling).unwrap();
        let scale = Scale::new(&preprocess);
        let erased = |fill| {
            let rectangle = Rectangle {
                top: 1,
                left: 2,
                height: 2,
                width: 2,
                fill,
            };
            let mut output = vec![7.0; 60];
            let mut stream = rng::stream(1, "erase", &[]);
            rectangle.erase(&scale, &mut stream, [4, 5], &mut output);
            let places = |value: &(usize, &f32)| *value.1 != 7.0;
            let changed: Vec<usize> = output
                .iter()
                .enumerate()
                .filter(places)
                .map(|(at, _)| at)
                .collect();
            assert_eq!(changed, [21, 22, 23, 24, 25, 26, 36, 37, 38, 39, 40, 41]);
            output[21]
        };
        assert_eq!(erased(EraseFill::Mean), 0.0);
        assert_eq!(erased(EraseFill::Black), 0.0);
        assert_ne!(erased(EraseFill::Noise), 0.0);
    }
}
