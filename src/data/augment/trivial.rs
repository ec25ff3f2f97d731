//! TrivialAugmentWide: one change of fourteen with one strength of 31, as torchvision's recipes
//! apply it (bilinear, black beyond the picture). Müller and Hutter, arXiv 2103.10158.

use image::RgbImage;
use rand::Rng;

use super::affine::Affine;
use super::{colour, tone};
use crate::rng::Stream;

/// Strengths of each change.
const BINS: u32 = 31;

/// The changes, in torchvision's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

impl Op {
    pub(super) const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// Strength number `bin`, and whether its sign is drawn.
    pub(super) fn magnitude(self, bin: u32) -> (f64, bool) {
        let even = |first: f32, last: f32| {
            // From both ends and fused, as PyTorch's `linspace` does it.
            let step = (last - first) / (BINS - 1) as f32;
            f64::from(match bin < BINS / 2 {
                true => step.mul_add(bin as f32, first),
                false => (-step).mul_add((BINS - 1 - bin) as f32, last),
            })
        };
        match self {
            Self::Identity | Self::AutoContrast | Self::Equalize => (0.0, false),
            Self::ShearX | Self::ShearY => (even(0.0, 0.99), true),
            Self::TranslateX | Self::TranslateY => (even(0.0, 32.0), true),
            Self::Rotate => (even(0.0, 135.0), true),
            Self::Brightness | Self::Color | Self::Contrast | Self::Sharpness => {
                (even(0.0, 0.99), true)
            }
            Self::Posterize => (8.0 - (f64::from(bin) / 5.0).round_ties_even(), false),
            Self::Solarize => (even(255.0, 0.0), false),
        }
    }
}

/// A change and its signed strength.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trivial {
    pub(super) op: Op,
    pub(super) magnitude: f64,
}

impl Trivial {
    /// Draws change, strength and sign.
    pub(super) fn draw(stream: &mut Stream) -> Self {
        let op = Op::ALL[stream.random_range(0..Op::ALL.len() as u64) as usize];
        let (magnitude, signed) = op.magnitude(stream.random_range(0..BINS));
        let negative = stream.random::<bool>();
        Self {
            op,
            magnitude: if signed && negative {
                -magnitude
            } else {
                magnitude
            },
        }
    }

    /// The changed picture.
    pub(super) fn apply(self, mut picture: RgbImage) -> RgbImage {
        let magnitude = self.magnitude;
        let factor = (1.0 + magnitude) as f32;
        let size = [picture.height(), picture.width()];
        let moved = |transform: Affine| transform.sample(&picture, [0.0; 2], size);
        match self.op {
            Op::Identity => {}
            Op::ShearX => return moved(Affine::shear_x(magnitude)),
            Op::ShearY => return moved(Affine::shear_y(magnitude)),
            Op::TranslateX => return moved(Affine::translation(magnitude.trunc(), 0.0)),
            Op::TranslateY => return moved(Affine::translation(0.0, magnitude.trunc())),
            Op::Rotate => {
                let centre = size.map(|side| f64::from(side) / 2.0);
                return moved(Affine::rotation(magnitude, centre));
            }
            Op::Sharpness => return tone::sharpness(&picture, factor),
            Op::Brightness => colour::brightness(&mut picture, factor),
            Op::Color => colour::saturation(&mut picture, factor),
            Op::Contrast => colour::contrast(&mut picture, factor),
            Op::Posterize => tone::posterize(&mut picture, magnitude as u32),
            Op::Solarize => tone::solarize(&mut picture, magnitude),
            Op::AutoContrast => tone::autocontrast(&mut picture),
            Op::Equalize => tone::equalize(&mut picture),
        }
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    #[test]
    fn changes_strengths_and_signs_come_up_evenly() {
        let drawn: Vec<Trivial> = (0..28_000)
            .map(|item| Trivial::draw(&mut rng::stream(1, "trivial", &[item])))
            .collect();
        for op in Op::ALL {
            let of: Vec<f64> = drawn
                .iter()
                .filter(|drawn| drawn.op == op)
                .map(|drawn| drawn.magnitude)
                .collect();
            assert!((1850..2150).contains(&of.len()), "{op:?}: {}", of.len());
            let all: Vec<f64> = (0..BINS).map(|bin| op.magnitude(bin).0).collect();
            let mean = |values: &[f64]| {
                values.iter().map(|value| value.abs()).sum::<f64>() / values.len() as f64
            };
            let expected = mean(&all);
            assert!((mean(&of) - expected).abs() <= 0.05 * expected, "{op:?}");
            let negative = of.iter().filter(|magnitude| **magnitude < 0.0).count();
            let signed = op.magnitude(BINS - 1).1;
            let half = (of.len() * 31 / 64).abs_diff(negative) < 120;
            assert!(
                if signed { half } else { negative == 0 },
                "{op:?}: {negative}"
            );
        }
    }
}
