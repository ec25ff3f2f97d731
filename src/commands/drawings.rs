//! The drawings of a run, each from what its directory holds.

use std::collections::BTreeMap;
use std::path::Path;

use image::RgbImage;

use super::{Exit, Failure, Printer, thumbnails};
use crate::config::{Experiment, Length, PhaseConfig};
use crate::data::Dataset;
use crate::fsx;
use crate::records::{MetricsRow, PredictionRow, ProbabilityTable, TestReport};
use crate::report::{self, Canvas, Format, Kind, Schedule};
use crate::run::RunDir;
use crate::train::schedule::learning_rate;

/// Longer side of a picture among the mistakes, in pixels: twice that of its place.
const SIDE: u32 = 300;
/// Most points of a phase's schedule.
const POINTS: u64 = 500;

/// A run, and what is drawn of it.
#[derive(Debug, Clone, Copy)]
pub struct Drawings<'a> {
    /// Its directory.
    pub run: &'a RunDir,
    /// `metrics.csv`.
    pub rows: &'a [MetricsRow],
    /// What the drawings are called.
    pub title: &'a str,
    /// Its pictures, if they are at hand; otherwise they are looked for.
    pub dataset: Option<&'a Dataset>,
}

impl Drawings<'_> {
    /// Draws one kind.
    ///
    /// # Errors
    /// If what it is drawn from is not there, or damaged.
    pub fn draw(&self, kind: Kind, printer: &Printer) -> Result<Canvas, Failure> {
        let title = self.title;
        Ok(match kind {
            Kind::Curves => {
                // Logs without a readable manifest are drawn too; the rows then tell the best epoch.
                let best = self.run.manifest().ok().and_then(|manifest| manifest.best);
                let best = best.and_then(|best| best.find(self.rows));
                report::curves(self.rows, title, best)
            }
            Kind::Lr => report::lr(self.rows, title, self.schedule().as_ref()),
            Kind::Confusion => report::confusion(&self.test()?, title),
            Kind::Classes => report::classes(&self.test()?, title),
            Kind::Roc | Kind::Pr => {
                let test = self.test()?;
                let table = self.probabilities(&test)?;
                let draw = match kind {
                    Kind::Roc => report::roc,
                    _ => report::precision_recall,
                };
                draw(&table, test.split.name(), title)
            }
            Kind::Mistakes => {
                let predictions = self.predictions()?;
                let pictures = self.wrong_pictures(&predictions, printer);
                report::mistakes(&predictions, &pictures, title)
            }
        })
    }

    /// Draws one kind and writes it into the run's directory, as its own name with the format's.
    pub fn write(
        &self,
        kind: Kind,
        format: Format,
        printer: &Printer,
    ) -> Result<std::path::PathBuf, Failure> {
        let bytes = self.draw(kind, printer)?.encode(format)?;
        Ok(self.run.write_picture(&file_name(kind, format), &bytes)?)
    }

    /// Whether the run is tested: the drawings of its test split have something to show.
    pub fn is_tested(&self) -> bool {
        self.run.test_json().exists()
    }

    fn test(&self) -> Result<TestReport, Failure> {
        let test = self.run.test()?;
        test.ok_or_else(|| untested(&self.run.test_json()))
    }

    fn predictions(&self) -> Result<Vec<PredictionRow>, Failure> {
        match self.run.predictions_csv().exists() {
            true => Ok(self.run.predictions()?),
            false => Err(untested(&self.run.predictions_csv())),
        }
    }

    /// Those of all classes; of two, those of the predicted one are enough.
    fn probabilities(&self, test: &TestReport) -> Result<ProbabilityTable, Failure> {
        if let Some(table) = self.run.probabilities()? {
            return Ok(table);
        }
        let classes: Vec<String> = test.per_class.iter().map(|it| it.class.clone()).collect();
        let predictions = self.predictions()?;
        let Ok(two) = <&[String; 2]>::try_from(classes.as_slice()) else {
            let path = self.run.probabilities_csv();
            let message = format!("`{}` is not there", path.display());
            return Err(Failure::new(Exit::Other, message).help(
                "`predictions.csv` alone tells the probabilities of two classes; a run of more keeps \
                 them since that file exists, unless it has millions of them",
            ));
        };
        ProbabilityTable::of_two(two, &predictions).map_err(|reason| {
            let path = self.run.predictions_csv();
            let message = format!("`{}` is damaged: {reason}", path.display());
            Failure::new(Exit::Other, message).help("correct or delete that line")
        })
    }

    /// The pictures of the surest mistakes that are still there.
    fn wrong_pictures(
        &self,
        predictions: &[PredictionRow],
        printer: &Printer,
    ) -> BTreeMap<String, RgbImage> {
        let wrong = report::surest_wrong(predictions).into_iter();
        let wrong = wrong.take(report::WRONG_SHOWN);
        match self.dataset {
            Some(dataset) => thumbnails::of_rows(dataset, wrong, SIDE),
            None if wrong.len() == 0 => BTreeMap::new(),
            None => match thumbnails::dataset(self.run, printer) {
                Ok(dataset) => thumbnails::of_rows(&dataset, wrong, SIDE),
                Err(failure) => {
                    let reason = failure.reason();
                    printer.warning(format!("`mistakes` has no pictures: {reason}"));
                    BTreeMap::new()
                }
            },
        }
    }

    /// The rates between the rows, where the run's configuration explains those of the rows.
    fn schedule(&self) -> Option<Schedule> {
        let text = fsx::read_text(&self.run.resolved_toml()).ok()?;
        let experiment: Experiment = toml::from_str(&text).ok()?;
        let mut start = 0;
        let rows = self.rows.iter().filter(|row| row.epoch > 0);
        let rows: Vec<MetricsRow> = rows.cloned().collect();
        let phases = rows.chunk_by(|a, b| a.phase == b.phase).map(|rows| {
            let named = |phase: &&PhaseConfig| phase.name == rows[0].phase;
            let phase = experiment.phase.iter().find(named)?;
            let line = rates(phase, rows, start)?;
            start = rows.last()?.step;
            Some(line)
        });
        phases.collect()
    }
}

/// The rates of a phase from step `start` of the run on; `None` if its rows say otherwise.
fn rates(phase: &PhaseConfig, rows: &[MetricsRow], start: u64) -> Option<Vec<(u64, f64)>> {
    let last = rows.last()?;
    // More steps than any run has are a damaged table's.
    let done = last.step.checked_sub(start)?;
    let done = Some(done).filter(|done| (1..1 << 40).contains(done))?;
    let (steps_per_epoch, steps) = match phase.length() {
        Length::Epochs(epochs) => {
            // Of a phase that ended within an epoch, one that did not.
            let whole = rows.iter().rev().find_map(|row| {
                let epoch = row.phase_epoch as u64;
                let done = row.step.checked_sub(start)?;
                (epoch > 0 && done.is_multiple_of(epoch)).then(|| done / epoch)
            });
            (whole?, whole?.saturating_mul(epochs as u64))
        }
        // How many make an epoch is not known, nor is it mostly needed.
        Length::Steps(steps) => (1, steps),
    };
    let base = phase.optimizer.learning_rate();
    let rate = |done: u64| {
        let step = done.saturating_sub(1);
        learning_rate(base, &phase.schedule, step, steps_per_epoch, steps)
    };
    let explained = rows.iter().all(|row| {
        let expected = row.step.checked_sub(start).map(rate);
        expected.is_some_and(|expected| (row.lr - expected).abs() <= 1e-6 * expected.abs())
    });
    if !explained {
        return None;
    }
    let every = done.div_ceil(POINTS).max(1) as usize;
    let points = (1..done).step_by(every).chain([done]);
    Some(points.map(|done| (start + done, rate(done))).collect())
}

/// `roc.png`.
pub fn file_name(kind: Kind, format: Format) -> String {
    format!("{}.{}", kind.name(), format.name())
}

fn untested(path: &Path) -> Failure {
    let message = format!("`{}` is not there", path.display());
    Failure::new(Exit::Other, message)
        .help("the run has no test split (`data.split`), or has not come to its test yet")
}
