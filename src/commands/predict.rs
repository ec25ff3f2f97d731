//! `xp predict RUN|BACKBONE PICTURE...`: classes and probabilities of pictures.

mod incoming;

use std::path::Path;

use candle_core::Tensor;

use super::classifier::Classifier;
use super::pictures::{self, BATCH};
use super::{Failure, Printer};
use crate::cli::PredictArgs;
use crate::engine::prefix::Prefix;
use crate::ops::loss;

/// Runs the command.
pub fn run(args: &PredictArgs, printer: &Printer) -> Result<(), Failure> {
    let model = Model::open(args, printer)?;
    if args.watch {
        return incoming::run(args, &model, printer);
    }
    let paths = pictures::named(&args.images)?;
    let mut output = Output::new(args, printer, model.top(args));
    let seen = (&model.classifier.preprocess, model.classifier.framing);
    // Answers in text come with the pictures, and are progress enough.
    let silent = Printer {
        quiet: printer.quiet || !printer.json,
        ..*printer
    };
    let failed = pictures::in_batches(&paths, BATCH, seen, &silent, |paths, pictures| {
        model.answer(paths, pictures, &mut output)
    })?;
    output.finish();
    pictures::check_failed(failed, paths.len())
}

/// A network that names classes, compiled.
struct Model {
    classifier: Classifier,
    network: Prefix,
}

impl Model {
    fn open(args: &PredictArgs, printer: &Printer) -> Result<Self, Failure> {
        let classifier = Classifier::open(&args.model, &args.backbone, printer)?;
        let network = classifier.network()?;
        Ok(Self {
            classifier,
            network,
        })
    }

    /// How many classes to name.
    fn top(&self, args: &PredictArgs) -> usize {
        args.top.min(self.classifier.classes.len())
    }

    /// Classifies pictures `[pictures, height, width, 3]`.
    fn answer(
        &self,
        paths: &[&Path],
        pictures: Tensor,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let logits = self.network.run(&[pictures])?.swap_remove(0);
        for (path, probabilities) in paths.iter().zip(loss::probabilities(&logits)?) {
            let ranked = loss::ranked(&self.classifier.classes, &probabilities, output.top);
            output.picture(path, &ranked);
        }
        Ok(())
    }
}

/// Answers as they come: aligned text, CSV, or JSON: one array at the end, of a watched folder a line
/// each.
struct Output<'a> {
    printer: &'a Printer,
    csv: bool,
    lines: bool,
    top: usize,
    json: Vec<serde_json::Value>,
    /// Whether anybody still reads.
    open: bool,
}

impl<'a> Output<'a> {
    fn new(args: &PredictArgs, printer: &'a Printer, top: usize) -> Self {
        let mut output = Self {
            printer,
            csv: args.csv,
            lines: args.watch,
            top,
            json: Vec::new(),
            open: true,
        };
        if args.csv {
            let mut header = vec!["path".to_owned()];
            for rank in 1..=top {
                header.extend([format!("class_{rank}"), format!("probability_{rank}")]);
            }
            output.line(csv_line(&header));
        }
        output
    }

    fn line(&mut self, text: String) {
        self.open &= self.printer.line(text);
    }

    fn picture(&mut self, path: &Path, ranked: &[(&str, f32)]) {
        let path = path.display().to_string();
        if self.printer.json {
            let classes: Vec<_> = ranked
                .iter()
                .map(|(class, p)| serde_json::json!({ "class": class, "probability": p }))
                .collect();
            let answer = serde_json::json!({ "path": path, "classes": classes });
            match self.lines {
                true => self.line(answer.to_string()),
                false => self.json.push(answer),
            }
        } else if self.csv {
            let mut fields = vec![path];
            for (class, probability) in ranked {
                fields.extend([(*class).to_owned(), probability.to_string()]);
            }
            self.line(csv_line(&fields));
        } else {
            let answers: Vec<String> = ranked
                .iter()
                .map(|(class, probability)| format!("{class} {:.1} %", 100.0 * probability))
                .collect();
            self.line(format!("{path}: {}", answers.join(", ")));
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
