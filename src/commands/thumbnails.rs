//! Small copies of a run's pictures, for its page and its drawings.

use std::collections::BTreeMap;

use image::{RgbImage, imageops};
use rayon::prelude::*;

use super::{Failure, Printer, experiment, pictures};
use crate::config::{self, DataConfig, OnCorrupt};
use crate::data::{Dataset, ScanOptions};
use crate::records::PredictionRow;
use crate::run::RunDir;

/// The pictures of a run as its configuration has them, but for those that are gone or broken since.
pub fn dataset(run: &RunDir, printer: &Printer) -> Result<Dataset, Failure> {
    let loaded = config::load_with(&run.resolved_toml(), &[], [])?;
    let experiment = &loaded.experiment;
    pictures::bring(&experiment.data, printer)?;
    let data = DataConfig {
        on_corrupt: OnCorrupt::Skip,
        ..experiment.data.clone()
    };
    let options = ScanOptions {
        keep: None,
        notes: experiment::cache_root(&experiment.cache).map(|root| root.join("pictures")),
    };
    Ok(Dataset::preview(&data, experiment.seed, &options)?)
}

/// The pictures of rows by path, their longer side at most `side` pixels. What cannot be read is left
/// out.
pub fn of_rows<'a>(
    dataset: &Dataset,
    rows: impl Iterator<Item = &'a PredictionRow>,
    side: u32,
) -> BTreeMap<String, RgbImage> {
    let places = places(dataset);
    let wanted: BTreeMap<&str, usize> = rows
        .filter_map(|row| Some((row.path.as_str(), *places.get(row.path.as_str())?)))
        .collect();
    let made = wanted.into_par_iter().filter_map(|(path, item)| {
        let picture = dataset.picture(item).ok()?;
        Some((path.to_owned(), small(picture, side)))
    });
    made.collect()
}

/// Positions of the pictures by path.
pub fn places(dataset: &Dataset) -> BTreeMap<&str, usize> {
    let items = dataset.items.iter().enumerate();
    items
        .map(|(index, item)| (item.path.as_str(), index))
        .collect()
}

/// A picture whose longer side is at most `side` pixels.
pub fn small(picture: RgbImage, side: u32) -> RgbImage {
    let longer = picture.width().max(picture.height());
    if longer <= side {
        return picture;
    }
    let scale = f64::from(side) / f64::from(longer);
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    let (width, height) = (scaled(picture.width()), scaled(picture.height()));
    imageops::thumbnail(&picture, width, height)
}
