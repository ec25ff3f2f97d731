//! Every change of pixels against torchvision on Pillow, and every draw against its distribution;
//! written by `tests/fixtures/make_augment_fixtures.py`.

use std::collections::BTreeMap;

use image::RgbImage;
use serde::Deserialize;

use super::affine::Affine;
use super::trivial::{Op, Trivial};
use super::{colour, tone};
use crate::config::Interpolation;
use crate::data::preprocess::{Part, Resizer};
use crate::data::testing::mean_difference;

#[derive(Debug, Deserialize)]
pub(super) struct Fixture {
    cases: Vec<Case>,
    magnitudes: BTreeMap<String, Magnitudes>,
    pub(super) statistics: BTreeMap<String, Statistics>,
}

#[derive(Debug, Deserialize)]
struct Case {
    change: String,
    numbers: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct Magnitudes {
    values: Vec<f64>,
    signed: bool,
}

/// Means of what torchvision draws.
#[derive(Debug, Deserialize)]
pub(super) struct Statistics {
    pub(super) area: f64,
    pub(super) area_squared: f64,
    pub(super) shape: f64,
    pub(super) top: f64,
    pub(super) left: f64,
}

impl Statistics {
    /// Compares with rectangles: area as a share, logarithm of the shape, first row and column.
    pub(super) fn check(&self, found: &[[f64; 4]]) {
        let mean =
            |of: &dyn Fn(&[f64; 4]) -> f64| found.iter().map(of).sum::<f64>() / found.len() as f64;
        for (what, found, expected, tolerance) in [
            ("area", mean(&|it| it[0]), self.area, 0.006),
            ("area²", mean(&|it| it[0] * it[0]), self.area_squared, 0.006),
            ("shape", mean(&|it| it[1]), self.shape, 0.02),
            ("top", mean(&|it| it[2]), self.top, 0.03 * self.top),
            ("left", mean(&|it| it[3]), self.left, 0.03 * self.left),
        ] {
            let gap = (found - expected).abs();
            assert!(gap < tolerance, "{what}: {found} for {expected}");
        }
    }
}

pub(super) fn fixture() -> Fixture {
    let text = include_str!("../../../tests/fixtures/augment.json");
    serde_json::from_str(text).unwrap()
}

/// The source and the picture of each case.
fn pictures() -> Vec<RgbImage> {
    let mut bytes: &[u8] = include_bytes!("../../../tests/fixtures/augment.rgb");
    let mut pictures = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let [width, height] = [0, 4].map(|at| {
            let side: [u8; 4] = std::array::from_fn(|byte| header[at + byte]);
            u32::from_le_bytes(side)
        });
        let (pixels, rest) = rest.split_at((width * height * 3) as usize);
        pictures.push(RgbImage::from_raw(width, height, pixels.to_vec()).unwrap());
        bytes = rest;
    }
    pictures
}

fn apply(source: &RgbImage, Case { change, numbers }: &Case) -> RgbImage {
    let mut picture = source.clone();
    let named = |name: &str| Op::ALL.into_iter().find(|op| format!("{op:?}") == name);
    if let Some(op) = named(change) {
        let magnitude = numbers[0];
        return Trivial { op, magnitude }.apply(picture);
    }
    let whole = |at: usize| numbers[at] as u32;
    match change.as_str() {
        "hue" => colour::hue(&mut picture, numbers[0]),
        "saturation" => colour::saturation(&mut picture, numbers[0] as f32),
        "jitter" => {
            let [brightness, contrast, saturation] = [0, 1, 2].map(|at| numbers[at] as f32);
            colour::contrast(&mut picture, contrast);
            colour::hue(&mut picture, numbers[3]);
            colour::saturation(&mut picture, saturation);
            colour::brightness(&mut picture, brightness);
        }
        "rotate" => {
            let corner = [numbers[1], numbers[2]];
            let size = [whole(3), whole(4)];
            let centre = [0, 1].map(|axis| corner[axis] + f64::from(size[axis]) / 2.0);
            return Affine::rotation(numbers[0], centre).sample(source, corner, size);
        }
        "resized_crop" => {
            let part = Part {
                top: whole(0),
                left: whole(1),
                height: whole(2),
                width: whole(3),
            };
            let size = [whole(4), whole(5)];
            return Resizer::default().resize_part(source, part, size, Interpolation::Bilinear);
        }
        dull => {
            colour::brightness(&mut picture, 0.5);
            colour::contrast(&mut picture, 0.6);
            match dull {
                "dull AutoContrast" => tone::autocontrast(&mut picture),
                "dull Equalize" => tone::equalize(&mut picture),
                other => panic!("no change `{other}`"),
            }
        }
    }
    picture
}

#[test]
fn every_change_gives_what_torchvision_gives() {
    let pictures = pictures();
    let (source, expected) = pictures.split_first().unwrap();
    let cases = fixture().cases;
    assert_eq!(cases.len(), expected.len());
    for (case, expected) in cases.iter().zip(expected) {
        let found = apply(source, case);
        assert_eq!(found.dimensions(), expected.dimensions(), "{case:?}");
        let difference = mean_difference(&found, expected);
        // Resizing has weights of other precision, and sums of coordinates another order; all else
        // is exact.
        let allowed = match case.change.as_str() {
            "resized_crop" => 0.02,
            "ShearX" | "ShearY" | "Rotate" | "rotate" => 0.01,
            _ => 0.0,
        };
        assert!(difference <= allowed, "{case:?}: {difference} levels");
    }
}

#[test]
fn strengths_are_torchvisions() {
    let magnitudes = fixture().magnitudes;
    assert_eq!(magnitudes.len(), Op::ALL.len());
    for op in Op::ALL {
        let expected = &magnitudes[&format!("{op:?}")];
        for (bin, value) in (0..).zip(&expected.values) {
            let (magnitude, signed) = op.magnitude(bin);
            assert!(
                (magnitude - value).abs() < 1e-12,
                "{op:?} {bin}: {magnitude}"
            );
            assert_eq!(signed, expected.signed, "{op:?}");
        }
    }
}
