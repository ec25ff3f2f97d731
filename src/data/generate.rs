//! Placeholder.

use crate::config::GenerateKind;

/// Class names of a family.
pub fn classes(_kind: GenerateKind) -> &'static [&'static str] {
    &["a", "b"]
}

/// Draws one picture.
pub fn draw(
    _kind: GenerateKind,
    class: usize,
    index: u64,
    seed: u64,
    size: u32,
) -> image::RgbImage {
    let value = (class as u64 * 100 + index + seed) as u8;
    image::RgbImage::from_pixel(size, size, image::Rgb([value; 3]))
}
