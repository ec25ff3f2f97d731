//! The observer of `xp run`: shows progress and keeps the run directory up to date.

use std::time::{Duration, Instant};

use super::progress::Progress;
use super::tracker::Tracker;
use super::{drawings, interrupt, page, state};
use crate::config::CheckpointEvery;
use crate::records::MetricsRow;
use crate::report::{self, Format, Kind};
use crate::run::{Checkpoint, ManifestWriter, MetricsWriter, RunDir};
use crate::train::memory::HELD_BACK;
use crate::train::observer::{
    Evaluated, FeatureProgress, FeaturesReady, Observer, ObserverError, PhaseStarted, StepTaken,
};
use crate::train::position::{Next, Snapshot};

/// Where a run is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The run directory.
    pub run: &'a RunDir,
    /// Its manifest.
    pub manifest: &'a ManifestWriter,
    /// What the curves are called.
    pub title: &'a str,
    /// How often the state is kept.
    pub every: CheckpointEvery,
    /// The epoch after which training stops as if interrupted.
    pub until_epoch: Option<usize>,
    /// Who else is told.
    pub tracker: Option<&'a Tracker>,
}

/// Writes checkpoints, rows and curves as they are earned.
#[derive(Debug)]
pub struct Recorder<'a> {
    target: Target<'a>,
    progress: Progress,
    metrics: MetricsWriter,
    rows: Vec<MetricsRow>,
    /// Index of the best row.
    best: Option<usize>,
    /// When curves and page were drawn last (at first, when the recorder began), and how long that took.
    drawn: (Instant, Duration),
    /// When the last checkpoint was written, and the steps since.
    kept: Instant,
    steps: u64,
    /// The best so far, if it came too soon after that one.
    pending: Option<Checkpoint>,
    /// What checkpoints, rows and the manifest have taken.
    took: Duration,
    /// Whether training is to stop: the epoch that it was to stop after is over.
    reached: bool,
}

/// Epochs on cached features take milliseconds, less than their checkpoint and their picture: these
/// come so often at most, between phases apart.
const PAUSE: Duration = Duration::from_secs(1);

/// Drawing takes one part of so many at most.
const DRAWING: u32 = 100;

impl<'a> Recorder<'a> {
    /// Goes on behind `rows`, with the index of the best of them; none for a new run.
    pub fn new(
        target: Target<'a>,
        progress: Progress,
        rows: Vec<MetricsRow>,
        best: Option<usize>,
    ) -> Result<Self, crate::run::RunError> {
        let metrics = target.run.start_metrics(&rows)?;
        if let Some(tracker) = target.tracker {
            tracker.begin(target.run, &rows);
        }
        Ok(Self {
            metrics,
            target,
            progress,
            rows,
            best,
            drawn: (Instant::now(), Duration::ZERO),
            kept: Instant::now(),
            steps: 0,
            pending: None,
            took: Duration::ZERO,
            reached: false,
        })
    }

    /// Time spent on checkpoints, rows and the manifest so far.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Whether it is time for a checkpoint, evaluations aside.
    fn is_due(&self) -> bool {
        match self.target.every {
            CheckpointEvery::Evaluation(_) => false,
            CheckpointEvery::Steps(every) => self.steps >= every.steps,
            CheckpointEvery::Minutes(every) => {
                self.kept.elapsed().as_secs_f64() >= 60.0 * every.minutes
            }
        }
    }

    /// Keeps what an evaluation has judged, if it is to be kept: at once, or with the next that is.
    fn keep_evaluated(&mut self, event: &Evaluated<'_>) -> Result<(), ObserverError> {
        let every = matches!(self.target.every, CheckpointEvery::Evaluation(_));
        let phase_over = event.snapshot.position.next == Next::Begin;
        if phase_over || self.is_due() {
            return self.keep(event.snapshot, event.is_best);
        }
        let wanted = every || event.is_best || self.pending.is_some();
        if wanted && self.kept.elapsed() >= PAUSE {
            self.keep(event.snapshot, event.is_best)?;
        } else if event.is_best {
            let best = state::checkpoint(event.snapshot, &self.rows, true);
            if best.beyond_weights() > HELD_BACK {
                return self.keep(event.snapshot, true);
            }
            self.pending = Some(best);
        }
        Ok(())
    }

    /// Writes the best state if it was left for now, as nothing comes after it.
    pub fn keep_pending(&mut self) -> Result<(), ObserverError> {
        match self.pending.take() {
            Some(best) => Ok(self.target.run.write_checkpoint(&best, true)?),
            None => Ok(()),
        }
    }

    /// Writes a checkpoint behind the rows so far, after the best if that was left for now.
    fn keep(&mut self, snapshot: Snapshot<'_>, is_best: bool) -> Result<(), ObserverError> {
        match is_best {
            true => self.pending = None,
            false => self.keep_pending()?,
        }
        let checkpoint = state::checkpoint(snapshot, &self.rows, is_best);
        self.target.run.write_checkpoint(&checkpoint, is_best)?;
        self.kept = Instant::now();
        self.steps = 0;
        Ok(())
    }

    /// Training is over, whatever epoch it was to stop after.
    pub fn trained(&mut self) {
        self.reached = false;
    }

    /// Draws the curves of all epochs so far.
    pub fn draw_curves(&mut self) -> Result<(), ObserverError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let curves = report::curves(&self.rows, self.target.title, self.best).png()?;
        let name = drawings::file_name(Kind::Curves, Format::Png);
        self.target.run.write_picture(&name, &curves)?;
        Ok(())
    }

    /// Draws curves and page if that was long enough ago.
    fn draw_if_due(&mut self) -> Result<(), ObserverError> {
        let (drawn, took) = self.drawn;
        if drawn.elapsed() < PAUSE.max(DRAWING * took) {
            return Ok(());
        }
        let started = Instant::now();
        self.draw_curves()?;
        if let Err(failure) = page::write(self.target.run, None) {
            tracing::warn!(reason = %failure.message, "no page");
        }
        self.drawn = (Instant::now(), started.elapsed());
        Ok(())
    }
}

impl Observer for Recorder<'_> {
    fn phase_started(&mut self, event: PhaseStarted<'_>) {
        tracing::info!(
            phase = event.name,
            trainable = event.trainable.0,
            cached = event.cached,
            "phase"
        );
        self.progress.phase_started(event);
    }

    fn features(&mut self, event: FeatureProgress) {
        self.progress.features(event);
    }

    fn features_ready(&mut self, event: FeaturesReady<'_>) {
        tracing::info!(
            split = event.split.name(),
            layers = event.layers.join(" "),
            pictures = event.pictures,
            reused = event.reused,
            in_memory = event.in_memory,
            "features"
        );
        self.progress.features_ready(event);
    }

    fn warning(&mut self, message: &str) {
        tracing::warn!(message);
        self.progress.warning(message);
    }

    fn step(&mut self, event: StepTaken<'_>) {
        self.steps += 1;
        self.progress.step(event);
    }

    fn evaluated(&mut self, event: Evaluated<'_>) -> Result<(), ObserverError> {
        let started = Instant::now();
        self.rows.push(event.row.clone());
        let until = self.target.until_epoch;
        self.reached = until.is_some_and(|until| event.row.epoch >= until)
            && event.pace.ends_epoch(event.phase_step);
        if event.is_best {
            self.best = Some(self.rows.len() - 1);
        }
        // First the state, if not held back for a second, then what claims that it is there.
        self.keep_evaluated(&event)?;
        self.metrics.append(event.row)?;
        if let Some(tracker) = self.target.tracker {
            tracker.row(event.row);
            if let Some(trouble) = tracker.trouble() {
                self.warning(&trouble);
            }
        }
        if event.is_best {
            let best = event.row.into();
            let manifest = self.target.manifest;
            manifest.update(|manifest| manifest.best = Some(best))?;
        }
        self.took += started.elapsed();
        self.draw_if_due()?;
        tracing::info!(
            epoch = event.row.epoch,
            step = event.row.step,
            train_loss = event.row.train_loss,
            val_loss = event.row.val_loss,
            val_accuracy = event.row.val_accuracy,
            "evaluation"
        );
        self.progress.evaluated(&event);
        Ok(())
    }

    fn save(&mut self, snapshot: Snapshot<'_>) -> Result<(), ObserverError> {
        let started = Instant::now();
        tracing::info!(step = snapshot.position.step, "checkpoint");
        self.keep(snapshot, false)?;
        self.took += started.elapsed();
        Ok(())
    }

    fn wants_state(&mut self) -> bool {
        self.is_due()
    }

    fn interrupted(&self) -> bool {
        interrupt::asked() || self.reached
    }

    fn stopped_early(&mut self, phase: &str, phase_epoch: usize, phase_step: u64) {
        tracing::info!(phase, phase_epoch, phase_step, "stopped early");
        self.progress.stopped_early(phase, phase_epoch, phase_step);
    }
}
