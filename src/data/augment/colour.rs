//! Brightness, contrast, saturation and hue, with Pillow's arithmetic on bytes.

use image::RgbImage;
use rand::seq::SliceRandom;

use super::resized_crop::between;
use super::tone::{each_byte, luma, mix};
use crate::config::ColorJitter;
use crate::rng::Stream;

/// Multiplies brightness.
pub(super) fn brightness(picture: &mut RgbImage, factor: f32) {
    each_byte(picture, |value| mix(0, value, factor));
}

/// Moves values away from the picture's mean grey, or towards it.
pub(super) fn contrast(picture: &mut RgbImage, factor: f32) {
    let pixels: &[[u8; 3]] = picture.as_chunks().0;
    let sum: u64 = pixels.iter().map(|&pixel| u64::from(luma(pixel))).sum();
    let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8;
    each_byte(picture, |value| mix(mean, value, factor));
}

/// Moves colours away from their grey, or towards it.
pub(super) fn saturation(picture: &mut RgbImage, factor: f32) {
    for pixel in picture.as_chunks_mut().0 {
        let grey = luma(*pixel);
        *pixel = pixel.map(|value| mix(grey, value, factor));
    }
}

/// Turns the colour wheel by a share of a whole turn.
pub(super) fn hue(picture: &mut RgbImage, turn: f64) {
    // 255 steps are a whole turn, and the byte overflows.
    let shift = (turn * 255.0) as i32 as u8;
    let sectors: [Sector; 256] =
        std::array::from_fn(|hue| Sector::of((hue as u8).wrapping_add(shift)));
    for pixel in picture.as_chunks_mut().0 {
        let [hue, saturation, value] = to_hsv(*pixel);
        *pixel = sectors[usize::from(hue)].to_rgb(saturation, value);
    }
}

/// Hue, saturation and value as bytes.
fn to_hsv(pixel: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = pixel;
    let most = red.max(green).max(blue);
    let least = red.min(green).min(blue);
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let (sixths, after, before) = if red == most {
        (0.0, blue, green)
    } else if green == most {
        (2.0, red, blue)
    } else {
        (4.0, green, red)
    };
    let below = |value: u8| f64::from(f32::from(most - value) / range);
    let turn = f64::from((sixths + below(after) - below(before)) as f32) / 6.0 + 1.0;
    let turn = if turn < 1.0 { turn } else { turn - 1.0 };
    let saturation = range / f32::from(most);
    let byte = |share: f32| (f64::from(share) * 255.0) as u8;
    [byte(turn as f32), byte(saturation), most]
}

/// Where a hue lies on the colour wheel.
#[derive(Debug, Clone, Copy)]
struct Sector {
    /// Which of largest, least, falling and rising value red, green and blue take in this sixth.
    order: [u8; 3],
    /// How far it is within the sixth.
    within: f64,
}

impl Sector {
    fn of(hue: u8) -> Self {
        const ORDERS: [[u8; 3]; 6] = [
            [0, 3, 1],
            [2, 0, 1],
            [1, 0, 3],
            [1, 2, 0],
            [3, 1, 0],
            [0, 1, 2],
        ];
        let turn = f64::from(hue) * 6.0 / 255.0;
        Self {
            order: ORDERS[turn as usize % 6],
            within: f64::from((turn - turn.floor()) as f32),
        }
    }

    /// The colour of this hue.
    #[inline]
    fn to_rgb(self, saturation: u8, value: u8) -> [u8; 3] {
        let saturation = f64::from((f64::from(saturation) / 255.0) as f32);
        let less = |share: f64| (f64::from(value) * (1.0 - saturation * share) + 0.5) as u8;
        let values = [value, less(1.0), less(self.within), less(1.0 - self.within)];
        self.order.map(|which| values[usize::from(which) & 3])
    }
}

/// What torchvision's `ColorJitter` does to a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Jitter {
    steps: [(Step, f64); 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Brightness,
    Contrast,
    Saturation,
    Hue,
    /// Its strength is 0.
    Nothing,
}

impl Jitter {
    /// Draws factors and order.
    pub(super) fn draw(config: &ColorJitter, stream: &mut Stream) -> Self {
        let ColorJitter {
            brightness,
            contrast,
            saturation,
            hue,
        } = *config;
        let mut step = |step, strength: f64, [least, most]: [f64; 2]| {
            let drawn = between([least, most], stream);
            (if strength > 0.0 { step } else { Step::Nothing }, drawn)
        };
        let around_one = |strength: f64| [(1.0 - strength).max(0.0), 1.0 + strength];
        let mut steps = [
            step(Step::Brightness, brightness, around_one(brightness)),
            step(Step::Contrast, contrast, around_one(contrast)),
            step(Step::Saturation, saturation, around_one(saturation)),
            step(Step::Hue, hue, [-hue, hue]),
        ];
        steps.shuffle(stream);
        Self { steps }
    }

    /// Changes the picture.
    pub(super) fn apply(&self, picture: &mut RgbImage) {
        for (step, amount) in self.steps {
            match step {
                Step::Brightness => brightness(picture, amount as f32),
                Step::Contrast => contrast(picture, amount as f32),
                Step::Saturation => saturation(picture, amount as f32),
                Step::Hue => hue(picture, amount),
                Step::Nothing => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn factors_are_even_within_their_ranges_in_every_order() {
        let config = ColorJitter {
            brightness: 0.2,
            contrast: 1.5,
            saturation: 0.0,
            hue: 0.05,
        };
        let jitters: Vec<Jitter> = (0..4800)
            .map(|item| Jitter::draw(&config, &mut rng::stream(1, "jitter", &[item])))
            .collect();
        for (step, least, most) in [
            (Step::Brightness, 0.8, 1.2),
            (Step::Contrast, 0.0, 2.5),
            (Step::Hue, -0.05, 0.05),
        ] {
            let found = jitters.iter().flat_map(|jitter| jitter.steps);
            let shares: Vec<f64> = found
                .filter(|(found, _)| *found == step)
                .map(|(_, factor)| (factor - least) / (most - least))
                .collect();
            assert_eq!(shares.len(), 4800);
            let mean = shares.iter().sum::<f64>() / 4800.0;
            let square = shares.iter().map(|share| share * share).sum::<f64>() / 4800.0;
            assert!((mean - 0.5).abs() < 0.015, "{step:?}: {mean}");
            assert!((square - 1.0 / 3.0).abs() < 0.015, "{step:?}: {square}");
            assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        }
        let mut orders: Vec<String> = jitters
            .iter()
            .map(|jitter| format!("{:?}", jitter.steps.map(|(step, _)| step)))
            .collect();
        orders.sort_unstable();
        let most = orders.chunk_by(|a, b| a == b).map(<[String]>::len).max();
        orders.dedup();
        assert_eq!(orders.len(), 24);
        assert!(most < Some(270), "{most:?} of 4800 / 24 = 200");
    }
}
