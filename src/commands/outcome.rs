//! How a run ends: what it says, and what its manifest keeps of that.

use super::drawings::Drawings;
use super::tracker::Tracker;
use super::{Exit, Failure, Printer, card, page, results, thumbnails};
use crate::data::Dataset;
use crate::records::{MetricsRow, TestReport};
use crate::report::{Format, Kind};
use crate::run::{ManifestWriter, RunDir, Slot, Status};

/// What a finished run says.
#[derive(Debug)]
pub struct Outcome {
    /// The best row.
    pub best: MetricsRow,
    /// Whether a phase was counted in steps.
    pub in_steps: bool,
    /// The best weights on the test split.
    pub test: Option<TestReport>,
    /// The last weights on it, where they are not the best.
    pub test_last: Option<TestReport>,
    /// Wall time of this process' part.
    pub seconds: f64,
}

/// Writes down how the run ended, before the process does, and says it. Where `shown` is given, its
/// page shows pictures of that, and all kinds of drawings are made; `tracker` hears of it.
pub fn conclude(
    outcome: Result<Outcome, Failure>,
    run: &RunDir,
    manifest: ManifestWriter,
    shown: Option<&Dataset>,
    tracker: Option<Tracker>,
    printer: &Printer,
) -> Result<(), Failure> {
    // The results are there without it.
    let write_page = || {
        if let Err(failure) = page::write(run, shown) {
            printer.warning(failure.message);
        }
    };
    let failure = match outcome {
        Ok(outcome) => {
            manifest.end(Status::Done, None)?;
            write_page();
            leave(run, shown, printer);
            if let Some(tracker) = tracker {
                tracker.end(run, printer);
            }
            outcome.print(run, printer);
            return Ok(());
        }
        Err(failure) => failure,
    };
    let path = run.path().display();
    let (status, error) = match failure.exit {
        Exit::Interrupted => (Status::Interrupted, None),
        _ => (Status::Failed, Some(failure.message.clone())),
    };
    // What it ended of matters more than that this cannot be written down.
    if let Err(error) = manifest.end(status, error) {
        printer.warning(error.to_string());
    }
    write_page();
    if let Some(tracker) = tracker {
        tracker.end(run, printer);
    }
    if status == Status::Interrupted {
        return Err(failure.help(format!("go on with `xp resume {path}`")));
    }
    if run.has_checkpoint(Slot::Last) {
        printer.note(format!(
            "`{path}` keeps what was done; with the cause mended, `xp resume {path}` goes on"
        ));
    } else {
        printer.note(format!("`{path}` keeps what was done"));
    }
    Err(failure)
}

/// Makes good what a run that was killed in its last moments had no time for: all that follows from its
/// results. Its page shows its pictures if `pictures`.
pub fn make_good(run: &RunDir, pictures: bool, printer: &Printer) {
    if run.model_card_md().exists() {
        return;
    }
    let dataset = pictures.then(|| thumbnails::dataset(run, printer));
    let dataset = dataset.and_then(Result::ok);
    if let Err(failure) = page::write(run, dataset.as_ref()) {
        printer.warning(failure.message);
    }
    leave(run, dataset.as_ref(), printer);
}

/// Drawings, of a run that shows pictures, then figures and card: these are the last.
fn leave(run: &RunDir, shown: Option<&Dataset>, printer: &Printer) {
    if let Some(dataset) = shown {
        draw(run, dataset, printer);
    }
    if let Err(failure) = card::write(run) {
        printer.warning(failure.message);
    }
}

/// Draws what is not drawn by now.
fn draw(run: &RunDir, dataset: &Dataset, printer: &Printer) {
    let rows = run.metrics().map_or_else(|_| Vec::new(), |log| log.rows);
    let drawings = Drawings {
        run,
        rows: &rows,
        title: &run.name(),
        dataset: Some(dataset),
    };
    // Curves are drawn while it trains, the confusion matrix with the test.
    let left = |kind: &Kind| !matches!(kind, Kind::Curves | Kind::Confusion);
    let possible = |kind: &Kind| !kind.needs_test() || drawings.is_tested();
    for kind in Kind::ALL.into_iter().filter(left).filter(possible) {
        if let Err(failure) = drawings.write(kind, Format::Png, printer) {
            let name = kind.name();
            printer.warning(format!("`{name}` is not drawn: {}", failure.message));
        }
    }
}

impl Outcome {
    fn print(&self, run: &RunDir, printer: &Printer) {
        let path = run.path().display();
        if printer.json {
            printer.data(
                serde_json::json!({
                    "run": path.to_string(),
                    "best_epoch": self.best.epoch,
                    "best_step": self.best.step,
                    "val_accuracy": self.best.val_accuracy,
                    "val_loss": self.best.val_loss,
                    "test_accuracy": self.test.as_ref().map(|test| test.accuracy),
                    "test_loss": self.test.as_ref().map(|test| test.loss),
                    "test_last_accuracy": self.test_last.as_ref().map(|test| test.accuracy),
                    "test_last_loss": self.test_last.as_ref().map(|test| test.loss),
                    "seconds": self.seconds,
                })
                .to_string(),
            );
            return;
        }
        if let Some(accuracy) = self.best.val_accuracy {
            let at = match self.in_steps {
                true => format!("step {}", self.best.step),
                false => format!("epoch {}", self.best.epoch),
            };
            let percent = 100.0 * accuracy;
            printer.data(format!("best {at}: validation accuracy {percent:.1} %"));
        }
        for test in self.test.iter().chain(&self.test_last) {
            printer.data(results::headline(test));
        }
        printer.note(format!(
            "done in {:.1} s; curves in {path}/curves.png\nnext: xp predict {path} PICTURE...",
            self.seconds
        ));
    }
}
