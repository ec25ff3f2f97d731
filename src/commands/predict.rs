//! `xp predict RUN PICTURE...`: classes and probabilities of pictures.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::restored::Restored;
use super::{Exit, Failure, Printer};
use crate::cli::PredictArgs;
use crate::data;
use crate::ops::loss;

const BATCH: usize = 32;

/// Runs the command.
pub fn run(args: &PredictArgs, printer: &Printer) -> Result<(), Failure> {
    let model = Restored::open(&args.model)?;
    let paths = pictures(&args.images)?;
    let top = args.top.min(model.classes.len());
    let mut output = Output::new(args, printer, top);
    let mut failed = 0;
    for paths in paths.chunks(BATCH) {
        let decoded: Vec<_> = paths
            .par_iter()
            .map(|path| data::load_picture(path, &model.preprocess))
            .collect();
        let mut pixels = Vec::new();
        let mut good = Vec::new();
        for (path, picture) in paths.iter().zip(decoded) {
            match picture {
                Ok(values) => {
                    pixels.extend(values);
                    good.push(path);
                }
                Err(error) => {
                    failed += 1;
                    printer.warning(error.to_string());
                }
            }
        }
        for (path, probabilities) in good.iter().zip(classify(&model, pixels, good.len())?) {
            output.picture(path, &ranked(&model.classes, &probabilities, top));
        }
    }
    output.finish();
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(
            Exit::Data,
            format!("{failed} of {} pictures could not be read", paths.len()),
        )),
    }
}

/// The pictures named, and those in the folders named, sorted within each folder.
fn pictures(arguments: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
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

fn classify(model: &Restored, pixels: Vec<f32>, count: usize) -> Result<Vec<Vec<f32>>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let [height, width] = model.preprocess.image_size.map(|side| side as usize);
    let images = Tensor::from_vec(pixels, (count, height, width, 3), &Device::Cpu)?;
    let logits = model.network.run(&[images])?.swap_remove(0);
    Ok(loss::probabilities(&logits)?)
}

/// The `top` most probable classes, most probable first; equals in label order.
fn ranked<'a>(classes: &'a [String], probabilities: &[f32], top: usize) -> Vec<(&'a str, f32)> {
    let mut ranked: Vec<(&str, f32)> = classes
        .iter()
        .map(String::as_str)
        .zip(probabilities.iter().copied())
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(top);
    ranked
}

/// Answers as they come: aligned text, CSV, or one JSON array at the end.
struct Output<'a> {
    printer: &'a Printer,
    csv: bool,
    json: Vec<serde_json::Value>,
}

impl<'a> Output<'a> {
    fn new(args: &PredictArgs, printer: &'a Printer, top: usize) -> Self {
        if args.csv {
            let mut header = vec!["path".to_owned()];
            for rank in 1..=top {
                header.extend([format!("class_{rank}"), format!("probability_{rank}")]);
            }
            printer.data(csv_line(&header));
        }
        Self {
            printer,
            csv: args.csv,
            json: Vec::new(),
        }
    }

    fn picture(&mut self, path: &Path, ranked: &[(&str, f32)]) {
        let path = path.display().to_string();
        if self.printer.json {
            let classes: Vec<_> = ranked
                .iter()
                .map(|(class, p)| serde_json::json!({ "class": class, "probability": p }))
                .collect();
            self.json
                .push(serde_json::json!({ "path": path, "classes": classes }));
        } else if self.csv {
            let mut fields = vec![path];
            for (class, probability) in ranked {
                fields.extend([(*class).to_owned(), probability.to_string()]);
            }
            self.printer.data(csv_line(&fields));
        } else {
            let answers: Vec<String> = ranked
                .iter()
                .map(|(class, probability)| format!("{class} {:.1} %", 100.0 * probability))
                .collect();
            self.printer.data(format!("{path}: {}", answers.join(", ")));
        }
    }

    fn finish(self) {
        if self.printer.json {
            self.printer
                .data(serde_json::Value::Array(self.json).to_string());
        }
    }
}

/// Fields as one CSV line, quoted where they must be.
fn csv_line(fields: &[String]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = writer.write_record(fields);
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}
