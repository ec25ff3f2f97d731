//! What a network saw of one picture, beside what spoke for its answer.

use image::RgbImage;
use image::imageops::{self, FilterType};

use super::axis::{LABEL, SMALL};
use super::canvas::{Align, Canvas, Font, GREY, INK};
use super::heat;
use super::scale::scale;

/// Pictures are drawn with a longer side of as many pixels as they have, within these bounds.
const SIDES: [u32; 2] = [256, 640];
const MARGIN: f64 = 20.0;
const GAP: f64 = 16.0;
/// Where pictures begin, and what is written below them.
const TOP: f64 = 68.0;
const BELOW: f64 = 52.0;
/// Bar and labels of the scale.
const SCALE: f64 = 110.0;

/// A picture and what to say of it.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// The answer, or whatever stands in bold above all.
    pub title: &'a str,
    /// Below it, in grey.
    pub subtitle: &'a str,
    /// RGB bytes as the network saw them, row by row.
    pub picture: &'a [u8],
    /// Height and width of it.
    pub size: [u32; 2],
    /// A map each.
    pub heats: &'a [ShownHeat],
}

/// Heat over the picture.
#[derive(Debug)]
pub struct ShownHeat {
    /// A value from 0 to 1 a pixel of the picture.
    pub values: Vec<f32>,
    /// What stands below it.
    pub caption: String,
    /// A second, grey line there.
    pub note: String,
}

/// Draws the picture, its heats beside it and their scale.
pub fn explanation(explained: &Explanation<'_>) -> Canvas {
    let [height, width] = drawn(explained.size);
    let panels = 1 + explained.heats.len();
    let right = MARGIN + panels as f64 * (f64::from(width) + GAP);
    let bottom = TOP + f64::from(height);
    let full = (right + SCALE, bottom + BELOW);
    let mut canvas = Canvas::new(full.0 as usize, full.1 as usize);
    canvas.head(explained.title, explained.subtitle);
    let [seen_height, seen_width] = explained.size;
    let size = format!("{seen_width} x {seen_height} pixels");
    let mut draw = |panel: usize, pixels: Vec<u8>, caption: &str, note: &str| {
        let left = MARGIN + panel as f64 * (f64::from(width) + GAP);
        let picture = scaled(pixels, explained.size, [height, width]);
        let corner = (left + f64::from(width), bottom);
        canvas.picture(&picture, (left, TOP), corner);
        let fonts = [Font::new(LABEL, INK), Font::new(SMALL, GREY)];
        for ((text, font), y) in [caption, note].into_iter().zip(fonts).zip([16.0, 36.0]) {
            let text = font.fit(text, f64::from(width));
            canvas.text(&text, (left, bottom + y), Align::Left, font);
        }
    };
    let seen = explained.picture.to_vec();
    draw(0, seen, "what the network saw", &size);
    for (index, shown) in explained.heats.iter().enumerate() {
        let pixels = heat::heated(explained.picture, &shown.values);
        draw(index + 1, pixels, &shown.caption, &shown.note);
    }
    let color = |heat: f64| {
        let [red, green, blue] = heat::color(heat as f32);
        plotters::style::RGBColor(red, green, blue)
    };
    let texts = [(1.0, "most"), (0.5, "half"), (0.0, "nothing")];
    scale(&mut canvas, (right, TOP), bottom, (128, color), &texts);
    canvas
}

/// Height and width of a picture as it is drawn.
fn drawn(size: [u32; 2]) -> [u32; 2] {
    let longest = size[0].max(size[1]).max(1);
    let wanted = longest.clamp(SIDES[0], SIDES[1]);
    let along = |side: u32| f64::from(side) * f64::from(wanted) / f64::from(longest);
    size.map(|side| (along(side).round() as u32).max(1))
}

fn scaled(pixels: Vec<u8>, [height, width]: [u32; 2], to: [u32; 2]) -> RgbImage {
    // What is no picture of that size is drawn black.
    let picture = RgbImage::from_raw(width, height, pixels);
    let picture = picture.unwrap_or_else(|| RgbImage::new(width, height));
    if [height, width] == to {
        return picture;
    }
    imageops::resize(&picture, to[1], to[0], FilterType::CatmullRom)
}

#[cfg(test)]
mod tests {
    use super::super::curves::tests::size;
    use super::*;

    #[test]
    fn pictures_of_any_size_are_drawn_with_as_many_heats() {
        for ([height, width], heats, expected) in [
            ([1, 1], 1, (674, 376)),
            ([40, 80], 3, (1218, 248)),
            ([1000, 500], 1, (802, 760)),
        ] {
            let count = height * width;
            let shown = |index: usize| ShownHeat {
                values: vec![index as f32; count],
                caption: "evidence for a class with a name that is far too long".repeat(3),
                note: "layer".into(),
            };
            let drawn = explanation(&Explanation {
                title: "a class",
                subtitle: "path",
                picture: &vec![100; 3 * count],
                size: [height as u32, width as u32],
                heats: &(0..heats).map(shown).collect::<Vec<_>>(),
            });
            assert_eq!(size(&drawn.png().unwrap()), expected);
        }
    }
}
