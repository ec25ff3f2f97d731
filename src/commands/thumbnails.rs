//! Small pictures for the page of a run, as they are and under the heat of what the model saw in them.

use std::collections::BTreeMap;

use base64::Engine;
use candle_core::{Device, Tensor};
use image::codecs::jpeg::JpegEncoder;
use image::{RgbImage, imageops};
use rayon::prelude::*;

use super::Failure;
use super::restored::Restored;
use crate::data::preprocess::Scale;
use crate::data::{Dataset, Framing};
use crate::engine::explain::{Evidence, Explainer};
use crate::records::PredictionRow;
use crate::report;
use crate::run::RunDir;

/// Longest side of a small picture, in pixels.
const SIDE: u32 = 112;
const QUALITY: u8 = 75;

/// Pictures that the model sees at a time.
const BATCH: usize = 8;

/// Small pictures as `data:` addresses, by path. What cannot be read has none.
pub fn thumbnails<'a>(
    dataset: &Dataset,
    rows: impl Iterator<Item = &'a PredictionRow>,
) -> BTreeMap<String, String> {
    let places = places(dataset);
    let wanted: BTreeMap<&str, usize> = rows
        .filter_map(|row| Some((row.path.as_str(), *places.get(row.path.as_str())?)))
        .collect();
    let made = wanted.into_par_iter().filter_map(|(path, item)| {
        let picture = dataset.picture(item).ok()?;
        Some((path.to_owned(), address(picture)?))
    });
    made.collect()
}

/// The same of what the run's model sees, where it found what speaks for the class that it predicted.
/// What cannot be read, or has nothing to show, has none.
///
/// # Errors
/// If there is no model, or it cannot run.
pub fn overlays<'a>(
    run: &RunDir,
    dataset: &Dataset,
    rows: impl Iterator<Item = &'a PredictionRow>,
) -> Result<BTreeMap<String, String>, Failure> {
    let places = places(dataset);
    let wanted: Vec<(&PredictionRow, usize)> = rows
        .filter_map(|row| Some((row, *places.get(row.path.as_str())?)))
        .collect();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let model = Restored::open(&run.model_safetensors())?;
    let Some(node) = model.graph.last_with_places() else {
        return Ok(BTreeMap::new());
    };
    let explainer = Explainer::new(&model.graph, &model.params, node)?;
    let scale = Scale::new(&model.preprocess);
    let [height, width] = model.preprocess.image_size;
    let mut found = BTreeMap::new();
    for wanted in wanted.chunks(explainer.batch(BATCH)) {
        let read = wanted.par_iter().filter_map(|&(row, item)| {
            let label = model.classes.iter().position(|it| *it == row.predicted)?;
            let picture = dataset.picture(item).ok()?;
            let seen = Framing::Resized.frame(picture, &model.preprocess);
            Some((row.path.as_str(), label, seen))
        });
        let read: Vec<(&str, usize, Vec<u8>)> = read.collect();
        if read.is_empty() {
            continue;
        }
        let mut values = vec![0.0; read.len() * model.preprocess.values()];
        let each = values.chunks_mut(model.preprocess.values());
        for (values, (_, _, seen)) in each.zip(&read) {
            scale.apply(seen, values);
        }
        let shape = (read.len(), height as usize, width as usize, 3);
        let pictures = Tensor::from_vec(values, shape, &Device::Cpu)?;
        let labels: Vec<usize> = read.iter().map(|(_, label, _)| *label).collect();
        let heats = explainer.heat(&explainer.see(&pictures)?, &labels)?;
        for ((path, _, seen), heat) in read.into_iter().zip(heats) {
            if heat.evidence != Evidence::Found {
                continue;
            }
            let heat = heat.resized(height as usize, width as usize);
            let heated = RgbImage::from_raw(width, height, report::heated(&seen, &heat));
            if let Some(address) = heated.and_then(address) {
                found.insert(path.to_owned(), address);
            }
        }
    }
    Ok(found)
}

/// Positions of the pictures by path.
fn places(dataset: &Dataset) -> BTreeMap<&str, usize> {
    let items = dataset.items.iter().enumerate();
    items
        .map(|(index, item)| (item.path.as_str(), index))
        .collect()
}

/// A picture, made small, as a `data:` address.
fn address(picture: RgbImage) -> Option<String> {
    let longest = picture.width().max(picture.height());
    let small = match longest <= SIDE {
        true => picture,
        false => {
            let scale = f64::from(SIDE) / f64::from(longest);
            let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
            let (width, height) = (scaled(picture.width()), scaled(picture.height()));
            imageops::thumbnail(&picture, width, height)
        }
    };
    let mut jpeg = Vec::new();
    small
        .write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, QUALITY))
        .ok()?;
    let text = base64::engine::general_purpose::STANDARD.encode(&jpeg);
    Some(format!("data:image/jpeg;base64,{text}"))
}
