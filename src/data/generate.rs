//! Procedural labelled pictures: two families with no class in common.
//!
//! A class is a structure: a function of the plane with values from 0 to 1. Everything else
//! (colours, polarity, contrast, scale, rotation, place, light, clutter, noise) is drawn alike for
//! all classes of both families, so that only structure tells classes apart and a linear
//! classifier on pixels stays near chance. Only arithmetic that IEEE 754 fixes is used, so that the
//! pictures are the same on every machine.

mod paint;
mod patterns;
mod shapes;

use image::RgbImage;

use crate::config::GenerateKind;
use crate::rng;

/// Names of the classes of a family, in label order.
pub fn classes(kind: GenerateKind) -> &'static [&'static str] {
    match kind {
        GenerateKind::Patterns => &patterns::CLASSES,
        GenerateKind::Shapes => &shapes::CLASSES,
    }
}

/// Picture number `index` of a class, `size` pixels square. The same four numbers give the same
/// picture; `size` changes its resolution and its noise, not what it shows.
///
/// # Panics
/// If `class` is no index into [`classes`].
pub fn draw(kind: GenerateKind, class: usize, index: u64, seed: u64, size: u32) -> RgbImage {
    let family = match kind {
        GenerateKind::Patterns => 0,
        GenerateKind::Shapes => 1,
    };
    let mut rng = rng::stream(seed, "generate", &[family, class as u64, index]);
    let structure = match kind {
        GenerateKind::Patterns => patterns::STRUCTURES[class](&mut rng),
        GenerateKind::Shapes => shapes::STRUCTURES[class](&mut rng),
    };
    paint::render(&mut rng, size, structure.as_ref())
}

#[cfg(test)]
mod tests;
