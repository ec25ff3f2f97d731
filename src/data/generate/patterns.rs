//! The five classes of the quickstart: periodic structures of equal scales, angles and duties.

use super::paint::{Place, Structure, bands, chance, inside, sine, split, triangle, uniform};
use crate::rng::Stream;

/// Names, in label order.
pub(super) const CLASSES: [&str; 5] = ["checkerboard", "dots", "rings", "stripes", "waves"];

/// What draws each class.
pub(super) const STRUCTURES: [fn(&mut Stream) -> Structure; 5] =
    [checkerboard, dots, rings, stripes, waves];

/// Period of a pattern: 3 to 9 of them fit the picture.
fn period(rng: &mut Stream) -> f32 {
    let u: f32 = uniform(rng, 0.0, 1.0);
    0.24 + 0.42 * u * u
}

fn duty(rng: &mut Stream) -> f32 {
    uniform(rng, 0.35, 0.65)
}

fn checkerboard(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 1.0);
    let width = period(rng) * 1.3;
    let height = width * uniform(rng, 0.75, 1.3);
    Box::new(move |x, y, pixel| {
        let (x, y) = place.local(x, y);
        let (a, b) = (bands(x, width, 0.5, pixel), bands(y, height, 0.5, pixel));
        a + b - 2.0 * a * b
    })
}

fn dots(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 1.0);
    let width = period(rng);
    let height = width * uniform(rng, 0.8, 1.25);
    let radius = width.min(height) * uniform(rng, 0.25, 0.4);
    let shift = if chance(rng, 0.5) { 0.5 } else { 0.0 };
    Box::new(move |x, y, pixel| {
        let (x, y) = place.local(x, y);
        let (row, _) = split(y / height + 0.5);
        let row = row as f32;
        let dy = y - row * height;
        let dx = triangle(x / width + row * shift) * width;
        inside((dx * dx + dy * dy).sqrt() - radius, pixel)
    })
}

fn rings(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 0.7);
    let (period, duty) = (period(rng), duty(rng));
    let squash = uniform(rng, 0.75, 1.0);
    let phase = uniform(rng, 0.0, 1.0);
    Box::new(move |x, y, pixel| {
        let (x, y) = place.local(x, y);
        let y = y / squash;
        bands((x * x + y * y).sqrt() + phase, period, duty, pixel)
    })
}

fn stripes(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 1.0);
    let (period, duty) = (period(rng), duty(rng));
    Box::new(move |x, y, pixel| bands(place.local(x, y).0, period, duty, pixel))
}

fn waves(rng: &mut Stream) -> Structure {
    let place = Place::random(rng, 1.0);
    let (period, duty) = (period(rng), duty(rng));
    let length = period * uniform(rng, 1.2, 2.4);
    let height = length * uniform(rng, 0.2, 0.34);
    let round = chance(rng, 0.5);
    Box::new(move |x, y, pixel| {
        let (x, y) = place.local(x, y);
        let wave = if round {
            0.5 * sine(y / length)
        } else {
            2.0 * triangle(y / length) - 0.5
        };
        bands(x + height * wave, period, duty, pixel)
    })
}
