//! Progress of a training run, of downloads and of pictures: a bar with loss, accuracy, pictures a
//! second and time left on a terminal, one plain line an epoch (or evaluation) elsewhere.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Printer, table};
use crate::fetch::Download;
use crate::graph::summary::thousands;
use crate::records::MetricsRow;
use crate::run::Listed;
use crate::sweep::{Ended, Trial};
use crate::train::observer::{Evaluated, FeatureProgress, FeaturesReady, PhaseStarted, StepTaken};
use crate::train::pace::Pace;

/// Shows where training stands.
#[derive(Debug)]
pub struct Progress {
    printer: Printer,
    bar: Option<Bar>,
    /// Of all phases, if all are counted in epochs.
    epochs: Option<usize>,
}

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    of: Task,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Features,
    /// Ends with this step of the phase.
    Interval(u64),
}

impl Progress {
    /// For a run of at most `epochs` epochs; `None` if a phase is counted in steps.
    pub fn new(printer: Printer, epochs: Option<usize>) -> Self {
        Self {
            printer,
            bar: None,
            epochs,
        }
    }

    /// A phase begins.
    pub fn phase_started(&mut self, event: PhaseStarted<'_>) {
        self.clear();
        let (values, tensors) = event.trainable;
        let features = if event.cached {
            ", frozen features cached"
        } else {
            ""
        };
        let from = match event.done {
            0 => String::new(),
            done => format!(", from step {done} of {} on", event.pace.steps),
        };
        self.printer.note(format!(
            "phase `{}`: {} trainable parameters in {tensors} tensors{features}{from}",
            event.name,
            thousands(values)
        ));
    }

    /// Features of frozen layers are being computed.
    pub fn features(&mut self, event: FeatureProgress) {
        let message = format!("features of {} pictures", event.split.name());
        self.show(Task::Features, event.done, event.total, message);
        if event.done == event.total {
            self.clear();
        }
    }

    /// Features of frozen layers are there.
    pub fn features_ready(&mut self, event: FeaturesReady<'_>) {
        self.clear();
        self.printer.note(features_line(&event));
    }

    /// Something that the user should know.
    pub fn warning(&mut self, message: &str) {
        self.clear();
        self.printer.warning(message);
    }

    /// A step was taken.
    pub fn step(&mut self, event: StepTaken<'_>) {
        let at = self.at(event.epoch, event.phase_step, &event.pace);
        let message = format!(
            "{at}  loss {:.4}  acc {:.3}  {:.0} img/s",
            event.loss, event.accuracy, event.images_per_second
        );
        let (done, all) = event.pace.of_interval(event.phase_step);
        let task = Task::Interval(event.phase_step - done + all);
        self.show(task, done as usize, all as usize, message);
    }

    /// An interval is evaluated: its line stays.
    pub fn evaluated(&mut self, event: &Evaluated<'_>) {
        self.clear();
        let at = self.at(event.row.epoch, event.phase_step, &event.pace);
        self.printer.note(row_line(&at, event.row, event.is_best));
    }

    /// Early stopping ends a phase.
    pub fn stopped_early(&mut self, phase: &str, phase_epoch: usize, phase_step: u64) {
        self.clear();
        let after = match self.epochs {
            Some(_) => format!("{phase_epoch} epochs"),
            None => format!("{phase_step} steps"),
        };
        self.printer.note(format!(
            "phase `{phase}` stopped early after {after}: no more improvement"
        ));
    }

    /// `epoch  3/20`, or `step  30/300  epoch 2` where rows are not whole epochs.
    fn at(&self, epoch: usize, phase_step: u64, pace: &Pace) -> String {
        let whole = pace.interval == pace.steps_per_epoch && pace.ends_epoch(pace.steps);
        if !whole {
            let steps = pace.steps;
            let width = steps.to_string().len();
            return format!("step {phase_step:>width$}/{steps}  epoch {epoch}");
        }
        match self.epochs {
            None => format!("epoch {epoch}"),
            Some(epochs) => {
                let width = epochs.to_string().len();
                format!("epoch {epoch:>width$}/{epochs}")
            }
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(Bar { bar, .. }) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, of: Task, done: usize, total: usize, message: String) {
        if !self.printer.interactive() {
            return;
        }
        if self.bar.as_ref().is_none_or(|shown| shown.of != of) {
            self.clear();
            self.bar = Some(Bar {
                bar: new_bar(total as u64, "{bar:24} {pos}/{len}  {msg}  eta {eta}"),
                of,
            });
        }
        if let Some(Bar { bar, .. }) = &self.bar {
            bar.set_message(message);
            bar.set_position(done as u64);
        }
    }
}

/// A download that begins with this many bytes goes on from an earlier one.
const RESUMED: u64 = 1 << 20;

/// Shows a download: a bar on a terminal, one line elsewhere.
#[derive(Debug)]
pub struct DownloadProgress<'a> {
    printer: Printer,
    what: &'a str,
    bar: Option<ProgressBar>,
    announced: bool,
}

impl<'a> DownloadProgress<'a> {
    /// For a download of `what`, which may never begin.
    pub fn new(printer: Printer, what: &'a str) -> Self {
        Self {
            printer,
            what,
            bar: None,
            announced: false,
        }
    }

    /// The download is at `state`.
    pub fn at(&mut self, state: Download) {
        if self.printer.interactive() {
            let bar = self.bar.get_or_insert_with(|| {
                let template = "{bar:24} {bytes}/{total_bytes}  {msg}  {bytes_per_sec}  eta {eta}";
                let bar = new_bar(state.total, template);
                bar.set_message(format!("downloading {}", self.what));
                bar
            });
            bar.set_length(state.total);
            bar.set_position(state.done);
        } else if !self.announced {
            self.announced = true;
            let (size, here) = (HumanBytes(state.total), HumanBytes(state.done));
            let what = self.what;
            self.printer.note(match state.done {
                0..RESUMED => format!("downloading {what} ({size})"),
                _ => format!("downloading {what} ({size}, going on at {here})"),
            });
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Shows how many of a command's pictures are done: a bar on a terminal, nothing elsewhere.
#[derive(Debug)]
pub struct PictureProgress {
    bar: Option<ProgressBar>,
}

impl PictureProgress {
    /// For so many pictures.
    pub fn new(printer: &Printer, total: usize) -> Self {
        let bar = || new_bar(total as u64, "{bar:24} {pos}/{len} pictures  eta {eta}");
        Self {
            bar: printer.interactive().then(bar),
        }
    }

    /// So many more are done.
    pub fn add(&mut self, pictures: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(pictures as u64);
        }
    }

    /// Does something that prints, with the bar out of the way.
    pub fn hide<T>(&mut self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Shows how a sweep's trials fare: a bar with those at work on a terminal, a line a trial in any
/// case.
#[derive(Debug)]
pub struct SweepProgress {
    printer: Printer,
    bar: Option<ProgressBar>,
    total: usize,
    /// Trials that have ended, by id: of a halving, some more than once.
    ended: HashSet<String>,
    shown: Instant,
}

/// Time between two looks at the rows of trials at work.
const SWEEP_PAUSE: Duration = Duration::from_millis(500);

impl SweepProgress {
    /// For so many trials.
    pub fn new(printer: Printer, total: usize) -> Self {
        let bar = || new_bar(total as u64, "{bar:24} {pos}/{len} trials  {msg}");
        Self {
            printer,
            bar: printer.interactive().then(bar),
            total,
            ended: HashSet::new(),
            shown: Instant::now(),
        }
    }

    /// A trial has ended, and why not well.
    pub fn trial_ended(&mut self, trial: &Trial, ended: &Ended, run: Option<&Listed>) {
        self.ended.insert(trial.id.clone());
        let width = self.total.to_string().len();
        let mut line = format!(
            "[{:>width$}/{}] {}  {:<7}  {}",
            self.ended.len(),
            self.total,
            trial.id,
            ended.name(),
            table::printable(&trial.shown())
        );
        if let Some(run) = run {
            let accuracies = [("val", run.val_accuracy), ("test", run.test_accuracy)];
            for (name, accuracy) in accuracies {
                if accuracy.is_some() {
                    line.push_str(&format!("  {name} {} %", table::percent(accuracy)));
                }
            }
            if let Some(seconds) = run.seconds {
                line.push_str(&format!("  {}", table::span(seconds)));
            }
        }
        if let Some(reason) = ended.reason() {
            line.push_str(&format!("  {}", table::printable(reason)));
        }
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.ended.len() as u64);
                bar.suspend(|| self.printer.note(line));
            }
            None => self.printer.note(line),
        }
    }

    /// Trials are at work; `last` reads the last row of one.
    pub fn passed(
        &mut self,
        running: &[&Trial],
        waiting: usize,
        last: impl Fn(&Trial) -> Option<MetricsRow>,
    ) {
        let Some(bar) = &self.bar else { return };
        if self.shown.elapsed() < SWEEP_PAUSE {
            return;
        }
        self.shown = Instant::now();
        let shown = running.iter().map(|trial| {
            let at = match last(trial) {
                Some(row) => format!(
                    "epoch {} val {}",
                    row.epoch,
                    table::percent(row.val_accuracy)
                ),
                None => "begins".into(),
            };
            format!("{}: {at}", trial.id)
        });
        let shown: Vec<String> = shown.collect();
        bar.set_message(match shown.is_empty() {
            true => format!("{waiting} wait"),
            false => shown.join("  "),
        });
    }

    /// Something that the user may want to know.
    pub fn note(&mut self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.printer.note(message)),
            None => self.printer.note(message),
        }
    }

    /// Something that the user should know.
    pub fn warning(&mut self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.printer.warning(message)),
            None => self.printer.warning(message),
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// ``features of `out_relu`: 800 train pictures, 640 reused, 160 computed``
fn features_line(event: &FeaturesReady<'_>) -> String {
    let views = match event.views {
        1 => String::new(),
        views => format!(" in {views} views each"),
    };
    let mut line = format!(
        "features of `{}`: {} {} pictures{views}, {} reused",
        event.layers.join("`, `"),
        event.pictures / event.views.max(1),
        event.split.name(),
        event.reused
    );
    if event.reused < event.pictures {
        line.push_str(&format!(", {} computed", event.pictures - event.reused));
    }
    if !event.in_memory {
        line.push_str(", on disk");
    }
    line
}

/// `epoch  3/20  loss 0.4121  acc 0.861  val_loss 0.3920  val_acc 0.880  412 img/s  1.9 s`
fn row_line(at: &str, row: &MetricsRow, is_best: bool) -> String {
    let mut line = at.to_owned();
    let figures = [
        ("loss", row.train_loss, 4),
        ("acc", row.train_accuracy, 3),
        ("val_loss", row.val_loss, 4),
        ("val_acc", row.val_accuracy, 3),
    ];
    for (name, value, digits) in figures {
        if let Some(value) = value {
            line.push_str(&format!("  {name} {value:.digits$}"));
        }
    }
    if row.images_per_second > 0.0 {
        line.push_str(&format!("  {:.0} img/s", row.images_per_second));
    }
    line.push_str(&format!("  {:.1} s", row.seconds));
    if is_best && row.val_loss.is_some() {
        line.push_str("  best");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Length;

    #[test]
    fn the_unit_is_that_of_the_rows() {
        let printer = Printer {
            quiet: true,
            json: false,
            mute: false,
        };
        let at = |epochs, length, every| {
            let pace = Pace::new(length, every, 25);
            Progress::new(printer, epochs).at(3, 75, &pace)
        };
        let epochs = Length::Epochs(8);
        assert_eq!(at(Some(20), epochs, None), "epoch  3/20");
        assert_eq!(at(Some(20), epochs, Some(30)), "step  75/200  epoch 3");
        assert_eq!(at(None, Length::Steps(1000), None), "epoch 3");
        assert_eq!(at(None, Length::Steps(90), None), "step 75/90  epoch 3");
    }

    #[test]
    fn an_epoch_is_one_line() {
        let row = MetricsRow {
            phase: "head".into(),
            phase_epoch: 3,
            epoch: 3,
            step: 75,
            lr: 1e-3,
            train_loss: Some(0.412_14),
            train_accuracy: Some(0.861),
            val_loss: Some(0.392),
            val_accuracy: Some(0.88),
            images_per_second: 412.4,
            seconds: 1.94,
        };
        assert_eq!(
            row_line("epoch  3/20", &row, true),
            "epoch  3/20  loss 0.4121  acc 0.861  val_loss 0.3920  val_acc 0.880  412 img/s  1.9 s  best"
        );
    }
}
