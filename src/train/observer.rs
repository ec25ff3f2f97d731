//! What training tells the outside: progress, rows, and states to save. The outside decides what
//! to print and where to write.

use super::pace::Pace;
use super::position::Snapshot;
use crate::records::{MetricsRow, Split};

/// Why an observer could not do its part (a full disk, say); ends the training.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// A phase begins.
#[derive(Debug, Clone, Copy)]
pub struct PhaseStarted<'a> {
    /// Name of the phase.
    pub name: &'a str,
    /// Parameters that train: values, tensors.
    pub trainable: (usize, usize),
    /// Whether training pictures' frozen features are cached.
    pub cached: bool,
    /// Steps of it that were done before, if it is taken up in its middle.
    pub done: u64,
    /// Its steps.
    pub pace: Pace,
}

/// Features of frozen layers are being computed.
#[derive(Debug, Clone, Copy)]
pub struct FeatureProgress {
    /// Which pictures.
    pub split: Split,
    /// Pictures done.
    pub done: usize,
    /// Pictures in all.
    pub total: usize,
}

/// Features of frozen layers are there for every picture of a split.
#[derive(Debug, Clone, Copy)]
pub struct FeaturesReady<'a> {
    /// Which pictures.
    pub split: Split,
    /// Names of the layers.
    pub layers: &'a [String],
    /// Pictures in all, views of the same one counted.
    pub pictures: usize,
    /// Those of them whose features an earlier run left on disk.
    pub reused: usize,
    /// Views of each picture.
    pub views: usize,
    /// Whether they are in main memory, not in mapped files.
    pub in_memory: bool,
}

/// A step was taken.
#[derive(Debug, Clone, Copy)]
pub struct StepTaken<'a> {
    /// Name of the phase.
    pub phase: &'a str,
    /// Epoch over all phases, from 1.
    pub epoch: usize,
    /// Steps of the phase done.
    pub phase_step: u64,
    /// Steps of the phase.
    pub pace: Pace,
    /// Mean loss of this interval so far.
    pub loss: f64,
    /// Accuracy of this interval so far.
    pub accuracy: f64,
    /// Training pictures per second of this interval so far.
    pub images_per_second: f64,
}

/// An interval is evaluated and its row is earned.
#[derive(Debug)]
pub struct Evaluated<'a> {
    /// The row of `metrics.csv`.
    pub row: &'a MetricsRow,
    /// Steps of the phase done; 0 for the evaluation before training.
    pub phase_step: u64,
    /// Steps of the phase.
    pub pace: Pace,
    /// Whether this is the best evaluation so far.
    pub is_best: bool,
    /// What training goes on from.
    pub snapshot: Snapshot<'a>,
}

/// Listens to training.
pub trait Observer {
    /// A phase begins.
    fn phase_started(&mut self, event: PhaseStarted<'_>);
    /// Features of frozen layers are being computed.
    fn features(&mut self, event: FeatureProgress);
    /// Features of frozen layers are there.
    fn features_ready(&mut self, event: FeaturesReady<'_>);
    /// Something that the user should know and that ends nothing.
    fn warning(&mut self, message: &str);
    /// A step was taken.
    fn step(&mut self, event: StepTaken<'_>);
    /// An interval is evaluated.
    fn evaluated(&mut self, event: Evaluated<'_>) -> Result<(), ObserverError>;
    /// A state between two rows, to be kept: one that was wanted, or the last before the end that
    /// was asked for.
    fn save(&mut self, snapshot: Snapshot<'_>) -> Result<(), ObserverError>;
    /// Whether the state after a step is wanted; asked after every step.
    fn wants_state(&mut self) -> bool {
        false
    }
    /// Whether training is to end now, to be taken up later; asked after every step and between
    /// batches of anything that takes long.
    fn interrupted(&self) -> bool {
        false
    }
    /// Early stopping ends a phase in this epoch of it, after so many steps of it.
    fn stopped_early(&mut self, phase: &str, phase_epoch: usize, phase_step: u64);
}
