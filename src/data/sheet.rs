//! The contact sheet: a few training pictures of a few classes as the network sees them.

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::batches::{Loader, Plan};
use super::preprocess::{Resizer, unscale};
use super::{Augment, DataError, Dataset, Preprocess};
use crate::records::Split;

/// Most classes shown.
const CLASSES: usize = 5;
/// Pictures of each.
const PICTURES: usize = 8;
/// Longest side of a picture on the sheet, in pixels.
const TILE: u32 = 144;
const GAP: u32 = 6;
/// Height of the line with the class name.
const LINE: u32 = 26;

/// Writes the sheet as PNG: a row a class, its name above, its first training pictures augmented
/// as in the epoch of `augment`, scaled back to colours.
pub fn write(
    path: &Path,
    dataset: &Arc<Dataset>,
    preprocess: &Preprocess,
    augment: Augment,
) -> Result<(), DataError> {
    let [height, width] = preprocess.image_size;
    let shrink = (f64::from(TILE) / f64::from(height.max(width))).min(1.0);
    let scaled = |side: u32| ((f64::from(side) * shrink).round() as u32).max(1);
    let tile = [scaled(height), scaled(width)];
    let train = dataset.split(Split::Train);
    // A label file may name classes that the data has no pictures of.
    let counts = dataset.counts();
    let filled = (0..counts.len()).filter(|&class| counts[class][0] > 0);
    let classes: Vec<usize> = filled.take(CLASSES).collect();
    let rows: Vec<Vec<usize>> = classes
        .iter()
        .map(|&class| {
            let of_class = train
                .iter()
                .copied()
                .filter(|&item| dataset.items[item].label == class);
            of_class.take(PICTURES).collect()
        })
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0).max(1) as u32;
    let sheet_width = (GAP + columns * (tile[1] + GAP)).max(320);
    let row_height = LINE + tile[0] + GAP;
    let sheet_height = GAP + rows.len() as u32 * row_height;
    let mut sheet = RgbImage::from_pixel(sheet_width, sheet_height, image::Rgb([255; 3]));
    let loader = Loader::start(
        dataset,
        Plan {
            items: rows.concat(),
            preprocess: *preprocess,
            augment: Some(augment),
            batch_size: 1,
            threads: 0,
            cache: None,
        },
    )?;
    let places = rows.iter().enumerate().flat_map(|(row, items)| {
        (0..items.len()).map(move |column| {
            let x = GAP + column as u32 * (tile[1] + GAP);
            (x, GAP + row as u32 * row_height + LINE)
        })
    });
    let mut resizer = Resizer::default();
    for (batch, (x, y)) in loader.zip(places) {
        let bytes = unscale(preprocess, &batch?.pixels);
        let Some(picture) = RgbImage::from_raw(width, height, bytes) else {
            continue;
        };
        let picture = resizer.resize(picture, tile, preprocess.interpolation);
        if let Some(picture) = RgbImage::from_raw(tile[1], tile[0], picture) {
            image::imageops::replace(&mut sheet, &picture, i64::from(x), i64::from(y));
        }
    }
    let names = classes.iter().map(|&class| &dataset.classes[class]);
    let names = names.enumerate();
    let labels: Vec<(i32, &str)> = names
        .map(|(row, name)| ((GAP + row as u32 * row_height) as i32, name.as_str()))
        .collect();
    label(&mut sheet, &labels)?;
    sheet
        .save_with_format(path, image::ImageFormat::Png)
        .map_err(drawing)
}

/// Writes class names at the given heights.
fn label(sheet: &mut RgbImage, labels: &[(i32, &str)]) -> Result<(), DataError> {
    let font = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
    font.map_err(|_| DataError::Sheet("the embedded font cannot be read".into()))?;
    let size = sheet.dimensions();
    let area = BitMapBackend::with_buffer(sheet, size).into_drawing_area();
    let style = ("sans-serif", 18).into_font().color(&BLACK);
    for (y, name) in labels {
        area.draw_text(name, &style, (GAP as i32, *y))
            .map_err(drawing)?;
    }
    area.present().map_err(drawing)
}

fn drawing(error: impl std::fmt::Display) -> DataError {
    DataError::Sheet(error.to_string())
}
