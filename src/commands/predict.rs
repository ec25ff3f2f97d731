//! `xp predict RUN|BACKBONE PICTURE...`: classes and probabilities of pictures.

use std::path::Path;

use super::classifier::Classifier;
use super::pictures::{self, BATCH};
use super::{Failure, Printer};
use crate::cli::PredictArgs;
use crate::ops::loss;

/// Runs the command.
pub fn run(args: &PredictArgs, printer: &Printer) -> Result<(), Failure> {
    let mut classifier = Classifier::open(&args.model, &args.backbone, printer)?;
    let network = classifier.network()?;
    let paths = pictures::named(&args.images)?;
    let top = args.top.min(classifier.classes.len());
    let mut output = Output::new(args, printer, top);
    let seen = (&classifier.preprocess, classifier.framing);
    // Answers in text come with the pictures, and are progress enough.
    let silent = Printer {
        quiet: printer.quiet || !printer.json,
        ..*printer
    };
    let failed = pictures::in_batches(&paths, BATCH, seen, &silent, |paths, pictures| {
        let logits = network.run(&[pictures])?.swap_remove(0);
        for (path, probabilities) in paths.iter().zip(loss::probabilities(&logits)?) {
            output.picture(
                path,
                &loss::ranked(&classifier.classes, &probabilities, top),
            );
        }
        Ok(())
    })?;
    output.finish();
    pictures::check_failed(failed, paths.len())
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
