//! Pictures brought here before they are read, and those named on the command line, in batches.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::progress::{DownloadProgress, PictureProgress};
use super::{Exit, Failure, Printer};
use crate::config::DataConfig;
use crate::data::preprocess::Preprocess;
use crate::data::{self, Dataset, Framing};

/// Most pictures in a batch.
pub const BATCH: usize = 32;

/// Brings the pictures of a configuration to this disk, with a bar, and says where from.
pub fn bring(data: &DataConfig, printer: &Printer) -> Result<(), Failure> {
    if !Dataset::is_remote(data) {
        return Ok(());
    }
    let mut shown = DownloadProgress::new(*printer, "pictures");
    let brought = Dataset::fetch(data, &mut |state| shown.at(state));
    shown.clear();
    let origin = brought?;
    printer.note(format!("pictures: {}", origin.from));
    if let (Some(sum), false) = (&origin.sha256, origin.pinned) {
        printer.note(format!(
            "  nothing says what they must be; `data.sha256 = \"{sum}\"` makes sure that they stay this"
        ));
    }
    Ok(())
}

/// The pictures named, and those in the folders named, sorted within each folder.
pub fn named(arguments: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = Vec::new();
    for argument in arguments {
        if argument.is_dir() {
            let found = data::folder(argument)?;
            if found.is_empty() {
                return Err(Failure::new(
                    Exit::Data,
                    format!("the folder `{}` holds no pictures", argument.display()),
                ));
            }
            paths.extend(found);
        } else {
            paths.push(argument.clone());
        }
    }
    Ok(paths)
}

/// Hands all pictures that can be read to `each`, at most `batch` at a time, with their paths, as
/// `[pictures, height, width, 3]`. Warns of the others and returns how many they are.
pub fn in_batches(
    paths: &[PathBuf],
    batch: usize,
    (preprocess, framing): (&Preprocess, Framing),
    printer: &Printer,
    mut each: impl FnMut(&[&Path], Tensor) -> Result<(), Failure>,
) -> Result<usize, Failure> {
    let mut progress = PictureProgress::new(printer, paths.len());
    let mut failed = 0;
    for paths in paths.chunks(batch.max(1)) {
        let decoded: Vec<_> = paths
            .par_iter()
            .map(|path| data::load_picture(path, preprocess, framing))
            .collect();
        let mut pixels = Vec::new();
        let mut good = Vec::new();
        for (path, picture) in paths.iter().zip(decoded) {
            match picture {
                Ok(values) => {
                    pixels.extend(values);
                    good.push(path.as_path());
                }
                Err(error) => {
                    failed += 1;
                    progress.hide(|| printer.warning(error.to_string()));
                }
            }
        }
        if !good.is_empty() {
            each(&good, self::batch(pixels, good.len(), preprocess)?)?;
        }
        progress.add(paths.len());
    }
    progress.clear();
    Ok(failed)
}

/// So many pictures as `[pictures, height, width, 3]`.
pub fn batch(pixels: Vec<f32>, count: usize, preprocess: &Preprocess) -> Result<Tensor, Failure> {
    let [height, width] = preprocess.image_size.map(|side| side as usize);
    let shape = (count, height, width, 3);
    Ok(Tensor::from_vec(pixels, shape, &Device::Cpu)?)
}

/// Fails if some pictures could not be read.
pub fn check_failed(failed: usize, of: usize) -> Result<(), Failure> {
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(
            Exit::Data,
            format!("{failed} of {of} pictures could not be read"),
        )),
    }
}
