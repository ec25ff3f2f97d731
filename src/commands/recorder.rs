//! The observer of `xp run`: shows progress and keeps the run directory up to date.

use std::time::{Duration, Instant};

use super::progress::Progress;
use crate::engine::params::Params;
use crate::records::MetricsRow;
use crate::report;
use crate::run::{BestMetrics, Checkpoint, ManifestWriter, MetricsWriter, RunDir, Tensors};
use crate::train::ema::Ema;
use crate::train::observer::{
    Evaluated, FeatureProgress, FeaturesReady, Observer, ObserverError, PhaseStarted, StepTaken,
};
use crate::train::position::Snapshot;

/// Writes rows, curves and checkpoints as they are earned.
#[derive(Debug)]
pub struct Recorder<'a> {
    run: &'a RunDir,
    progress: Progress,
    manifest: &'a ManifestWriter,
    metrics: MetricsWriter,
    rows: Vec<MetricsRow>,
    /// Index of the best row.
    best: Option<usize>,
    title: String,
    /// When the curves were drawn last.
    drawn: Option<Instant>,
}

/// Epochs on cached features take milliseconds, less than their picture.
const REDRAW_AFTER: Duration = Duration::from_secs(1);

impl<'a> Recorder<'a> {
    /// For a new run.
    pub fn new(
        run: &'a RunDir,
        manifest: &'a ManifestWriter,
        progress: Progress,
        title: &str,
    ) -> Result<Self, crate::run::RunError> {
        let metrics = run.start_metrics(&[])?;
        Ok(Self {
            run,
            manifest,
            progress,
            metrics,
            rows: Vec::new(),
            best: None,
            title: title.to_owned(),
            drawn: None,
        })
    }

    /// Draws the curves of all epochs so far.
    pub fn draw_curves(&mut self) -> Result<(), ObserverError> {
        if !self.rows.is_empty() {
            let curves = report::curves(&self.rows, &self.title, self.best)?;
            self.run.write_curves(&curves)?;
        }
        self.drawn = Some(Instant::now());
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
        self.progress.step(event);
    }

    fn evaluated(&mut self, event: Evaluated<'_>) -> Result<(), ObserverError> {
        self.metrics.append(event.row)?;
        self.rows.push(event.row.clone());
        if event.is_best {
            self.best = Some(self.rows.len() - 1);
        }
        if self
            .drawn
            .is_none_or(|drawn| drawn.elapsed() >= REDRAW_AFTER)
        {
            self.draw_curves()?;
        }
        self.run
            .write_checkpoint(&checkpoint(event.snapshot)?, event.is_best)?;
        if event.is_best {
            let best = BestMetrics {
                epoch: event.row.epoch,
                step: Some(event.row.step),
                val_accuracy: event.row.val_accuracy,
                val_loss: event.row.val_loss,
            };
            self.manifest
                .update(|manifest| manifest.best = Some(best))?;
        }
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

    fn stopped_early(&mut self, phase: &str, phase_epoch: usize, phase_step: u64) {
        tracing::info!(phase, phase_epoch, phase_step, "stopped early");
        self.progress.stopped_early(phase, phase_epoch, phase_step);
    }
}

/// All that training goes on from.
fn checkpoint(snapshot: Snapshot<'_>) -> Result<Checkpoint, ObserverError> {
    let averaged = snapshot.ema.map(|ema| {
        let value = |name: &String| (name.clone(), ema.params().value(name).clone());
        ema.names().iter().map(value).collect()
    });
    // Before the first step there is no optimizer, and its part of the checkpoint is empty.
    let optimizer = snapshot.optimizer.cloned().unwrap_or_default();
    Ok(Checkpoint {
        weights: tensors(snapshot.params),
        averaged: averaged.unwrap_or_default(),
        optimizer: optimizer.tensors,
        state: serde_json::json!({
            "position": snapshot.position,
            "optimizer_step": optimizer.step,
            "averaged_steps": snapshot.ema.map(Ema::steps),
        }),
    })
}

/// All parameters and statistics by name.
pub fn tensors(params: &Params) -> Tensors {
    params
        .iter()
        .map(|(name, param)| (name.to_owned(), param.value.clone()))
        .collect()
}
