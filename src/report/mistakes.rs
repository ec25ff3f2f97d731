//! The pictures of which a network was surest, and wrong.

use std::collections::BTreeMap;

use image::RgbImage;

use super::axis::LABEL;
use super::canvas::{Align, Canvas, Font, GREY, INK, PALE};
use super::{WRONG_SHOWN, surest_wrong};
use crate::records::PredictionRow;

/// Pictures in a row.
const COLUMNS: usize = 6;
/// Side of a picture's place, and how far they are apart.
const SIDE: f64 = 150.0;
const PITCH: (f64, f64) = (162.0, 240.0);
const LEFT: f64 = 20.0;
const TOP: f64 = 78.0;
const TEXT: f64 = 13.0;

/// Draws the surest mistakes with their true and predicted class. `pictures` holds them by path; one
/// that is not there has an empty frame.
pub fn mistakes(
    predictions: &[PredictionRow],
    pictures: &BTreeMap<String, RgbImage>,
    title: &str,
) -> Canvas {
    let wrong = surest_wrong(predictions);
    let count = wrong.len().min(WRONG_SHOWN);
    let columns = columns(count);
    let rows = count.div_ceil(columns).max(1);
    let width = 2.0 * LEFT + columns as f64 * PITCH.0 - (PITCH.0 - SIDE);
    let height = TOP + rows as f64 * PITCH.1;
    let mut canvas = Canvas::new(width as usize, height as usize);
    let all = predictions.len();
    let subtitle = match wrong.len() {
        0 => format!("No mistakes in {all} pictures"),
        total if total > count => {
            format!("Surest {count} of {total} mistakes in {all} pictures")
        }
        total => format!("{total} mistakes in {all} pictures, the surest first"),
    };
    canvas.head(title, &subtitle);
    if wrong.is_empty() {
        let middle = (width / 2.0, TOP + PITCH.1 / 2.0);
        let font = Font::new(LABEL, GREY);
        canvas.text("every picture is right", middle, Align::Centre, font);
    }
    for (index, row) in wrong.into_iter().take(count).enumerate() {
        let corner = (
            LEFT + (index % columns) as f64 * PITCH.0,
            TOP + (index / columns) as f64 * PITCH.1,
        );
        match pictures.get(&row.path) {
            Some(picture) => place(&mut canvas, picture, corner),
            None => gone(&mut canvas, corner),
        }
        describe(&mut canvas, row, corner);
    }
    canvas
}

/// As many as leave the fewest places empty in the last row, rather more than less.
fn columns(count: usize) -> usize {
    let empty = |columns: &usize| count.div_ceil(*columns) * columns - count;
    let columns = (4..=COLUMNS).rev().min_by_key(empty);
    columns.unwrap_or(COLUMNS)
}

/// The picture in the middle of its place, as large as fits.
fn place(canvas: &mut Canvas, picture: &RgbImage, (left, top): (f64, f64)) {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let scale = SIDE / width.max(height).max(1.0);
    let (width, height) = ((width * scale).max(1.0), (height * scale).max(1.0));
    let from = (
        (left + (SIDE - width) / 2.0).round(),
        (top + (SIDE - height) / 2.0).round(),
    );
    canvas.picture(
        picture,
        from,
        (from.0 + width.round(), from.1 + height.round()),
    );
}

fn gone(canvas: &mut Canvas, (left, top): (f64, f64)) {
    let (right, bottom) = (left + SIDE, top + SIDE);
    canvas.frame((left, top), (right, bottom), GREY);
    canvas.line(&[(left, top), (right, bottom)], PALE, 1.0);
    let font = Font::new(TEXT, GREY);
    let middle = (left + SIDE / 2.0, top + SIDE / 2.0);
    canvas.rect(
        (middle.0 - 52.0, middle.1 - 20.0),
        (middle.0 + 52.0, middle.1 + 20.0),
        super::canvas::WHITE,
    );
    for (line, text) in [(-9.0, "the picture"), (9.0, "is not there")] {
        canvas.text(text, (middle.0, middle.1 + line), Align::Centre, font);
    }
}

/// True class, predicted class, probability and name of a picture, below it.
fn describe(canvas: &mut Canvas, row: &PredictionRow, (left, top): (f64, f64)) {
    let (plain, grey) = (Font::new(TEXT, INK), Font::new(TEXT, GREY));
    let sure = match row.confidence.is_finite() {
        true => format!("{:.1}% sure", 100.0 * row.confidence),
        false => "probability unknown".into(),
    };
    let labels = [
        ("true", row.class.as_str(), plain),
        ("said", row.predicted.as_str(), plain.bold()),
    ];
    for (line, (label, name, font)) in labels.into_iter().enumerate() {
        let y = top + SIDE + 14.0 + 18.0 * line as f64;
        canvas.text(label, (left, y), Align::Left, grey);
        let text = font.fit(name, SIDE - 34.0);
        canvas.text(&text, (left + 34.0, y), Align::Left, font);
    }
    let below = top + SIDE + 50.0;
    canvas.text(&sure, (left + 34.0, below), Align::Left, plain);
    let small = Font::new(11.0, GREY);
    let name = row.path.rsplit('/').next().unwrap_or(&row.path);
    let name = small.fit(name, SIDE);
    canvas.text(&name, (left, below + 17.0), Align::Left, small);
}

#[cfg(test)]
mod tests {
    use super::super::canvas::tests::check_svg;
    use super::super::curves::tests::size;
    use super::*;

    #[test]
    fn mistakes_are_drawn_with_and_without_their_pictures() {
        let row = |index: usize| PredictionRow {
            path: format!("roses/a picture with a long name {index}.jpg"),
            class: "roses".into(),
            predicted: if index.is_multiple_of(3) {
                "roses"
            } else {
                "a class with a long name"
            }
            .into(),
            correct: index.is_multiple_of(3),
            confidence: if index == 1 {
                f64::NAN
            } else {
                1.0 / index.max(1) as f64
            },
        };
        let rows: Vec<_> = (0..60).map(row).collect();
        let tall = RgbImage::from_pixel(20, 300, image::Rgb([9, 99, 199]));
        let flat = RgbImage::new(1, 1);
        let pictures = BTreeMap::from([(row(2).path, tall), (row(4).path, flat)]);
        let drawing = mistakes(&rows, &pictures, "flowers");
        assert_eq!([24, 19, 13, 7, 3, 0].map(columns), [6, 5, 5, 4, 4, 6]);
        let png = drawing.png().unwrap();
        assert_eq!(size(&png), (1000, 1038));
        assert_eq!(png, drawing.png().unwrap());
        let svg = drawing.svg().unwrap();
        check_svg(&svg);
        assert_eq!(svg.matches("<image ").count(), 2);
        assert_eq!(svg.matches("aria-label=\"is not there\"").count(), 22);
        for few in [&rows[..1], &rows[..3], &[]] {
            check_svg(&mistakes(few, &BTreeMap::new(), "flowers").svg().unwrap());
        }
    }
}
