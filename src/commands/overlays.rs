//! Small copies of a run's pictures under the heat of what its model saw in them.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;

use super::Failure;
use super::restored::Restored;
use super::thumbnails::{places, small};
use crate::data::preprocess::Scale;
use crate::data::{Dataset, Framing};
use crate::engine::explain::{Evidence, Explainer};
use crate::records::PredictionRow;
use crate::report;
use crate::run::RunDir;

/// Pictures that the model sees at a time.
const BATCH: usize = 8;

/// The pictures of rows by path as the run's model sees them, under the heat of what speaks for the class
/// that it predicted; their longer side at most `side` pixels. What cannot be read, or has nothing to
/// show, has none.
///
/// # Errors
/// If there is no model, or it cannot run.
pub fn overlays<'a>(
    run: &RunDir,
    dataset: &Dataset,
    rows: impl Iterator<Item = &'a PredictionRow>,
    side: u32,
) -> Result<BTreeMap<String, RgbImage>, Failure> {
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
            if let Some(heated) = heated {
                found.insert(path.to_owned(), small(heated, side));
            }
        }
    }
    Ok(found)
}
