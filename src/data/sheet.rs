//! The contact sheet: a few training pictures of a few classes as the network sees them.

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::batches::{Loader, Plan, Shot, WAITING};
use super::preprocess::{Resizer, unscale};
use super::{Augment, DataError, Dataset, Preprocess};
use crate::records::Split;

/// Most classes shown.
const CLASSES: usize = 5;
/// Pictures in a row.
const COLUMNS: usize = 8;
/// Rows of a class where pictures are changed at random.
const CHANGED: usize = 2;
/// Longest side of a picture on the sheet, in pixels.
const TILE: u32 = 144;
const GAP: u32 = 6;
/// Narrower columns have no room for a heading.
const HEADED: u32 = 100;
/// Height of a line of text.
const LINE: u32 = 26;

/// Writes the sheet as PNG: a few training pictures of each class under its name, scaled back to
/// colours. Where they are changed at random, a row shows one of them: as evaluation would see it,
/// then as the first epochs (or views) do.
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
    // A label file may name classes that the data has no pictures of.
    let counts = dataset.counts();
    let filled = (0..counts.len()).filter(|&class| counts[class][0] > 0);
    let classes: Vec<usize> = filled.take(CLASSES).collect();
    let blocks = blocks(dataset, &classes, &augment);
    let rows = blocks.iter().flatten();
    let columns = rows.clone().map(Vec::len).max().unwrap_or(0).max(1) as u32;
    let step = tile[1] + GAP;
    let heading = if augment.config.is_random() && step >= HEADED {
        LINE
    } else {
        0
    };
    let sheet_width = (GAP + columns * step).max(320);
    let block_height = |block: &Vec<Vec<Shot>>| LINE + block.len() as u32 * (tile[0] + GAP);
    let sheet_height = GAP + heading + blocks.iter().map(block_height).sum::<u32>();
    let mut sheet = RgbImage::from_pixel(sheet_width, sheet_height, image::Rgb([255; 3]));
    let mut texts = Vec::new();
    if heading > 0 {
        texts.push((GAP, GAP, "evaluation".to_owned()));
        let kind = augment.config.views.map_or("epoch", |_| "view");
        texts.extend(
            (1..columns).map(|column| (GAP + column * step, GAP, format!("{kind} {column}"))),
        );
    }
    let mut places = Vec::new();
    let mut y = GAP + heading;
    for (block, &class) in blocks.iter().zip(&classes) {
        texts.push((GAP, y, dataset.classes[class].clone()));
        y += LINE;
        for row in block {
            places.extend((0..row.len() as u32).map(|column| (GAP + column * step, y)));
            y += tile[0] + GAP;
        }
    }
    let loader = Loader::start(
        dataset,
        Plan {
            parts: None,
            shots: rows.flatten().copied().collect(),
            preprocess: *preprocess,
            augment: Some(augment),
            mix: None,
            batch_size: 1,
            threads: 0,
            waiting: WAITING,
            cache: None,
        },
    )?;
    let mut resizer = Resizer::default();
    for (batch, (x, y)) in loader.zip(places) {
        let bytes = unscale(preprocess, &batch?.pixels);
        let Some(picture) = RgbImage::from_raw(width, height, bytes) else {
            continue;
        };
        let picture = resizer.resize(picture, tile, preprocess.interpolation);
        image::imageops::replace(&mut sheet, &picture, i64::from(x), i64::from(y));
    }
    write_texts(&mut sheet, &texts)?;
    sheet
        .save_with_format(path, image::ImageFormat::Png)
        .map_err(drawing)
}

/// The rows of each class.
fn blocks(dataset: &Dataset, classes: &[usize], augment: &Augment) -> Vec<Vec<Vec<Shot>>> {
    let train = dataset.split(Split::Train);
    let block = |&class: &usize| {
        let of_class = train.iter().copied();
        let of_class = of_class.filter(|&item| dataset.items[item].label == class);
        if !augment.config.is_random() {
            return vec![of_class.take(COLUMNS).map(Shot::plain).collect()];
        }
        let draws = match augment.config.views {
            None => COLUMNS - 1,
            Some(views) => (views as usize).min(COLUMNS - 1),
        };
        let row = |item| {
            let draws = (1..=draws as u64).map(|epoch| Some(augment.in_epoch(epoch)));
            let draws = std::iter::once(None).chain(draws);
            let shot = |draw| Shot {
                item,
                draw,
                copy: 0,
            };
            draws.map(shot).collect()
        };
        of_class.take(CHANGED).map(row).collect()
    };
    classes.iter().map(block).collect()
}

/// Writes texts at the given places.
fn write_texts(sheet: &mut RgbImage, texts: &[(u32, u32, String)]) -> Result<(), DataError> {
    let font = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
    font.map_err(|_| DataError::Sheet("the embedded font cannot be read".into()))?;
    let size = sheet.dimensions();
    let area = BitMapBackend::with_buffer(sheet, size).into_drawing_area();
    let style = ("sans-serif", 18).into_font().color(&BLACK);
    for (x, y, text) in texts {
        area.draw_text(text, &style, (*x as i32, *y as i32))
            .map_err(drawing)?;
    }
    area.present().map_err(drawing)
}

fn drawing(error: impl std::fmt::Display) -> DataError {
    DataError::Sheet(error.to_string())
}
