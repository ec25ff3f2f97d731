//! What training tells the outside: progress, rows, and states to save. The outside decides what
//! to print and where to write.

use crate::engine::params::Params;
use crate::records::{MetricsRow, Split};
use crate::train::optimizer::OptimizerState;
use serde::{Deserialize, Serialize};

/// Why an observer could not do its part (a full disk, say); ends the training.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// A phase begins.
#[derive(Debug, Clone, Copy)]
pub struct PhaseStarted<'a> {
    /// Name of the phase.
    pub name: &'a str,
    /// Epochs it will take at most.
    pub epochs: usize,
    /// Parameters that train: values, tensors.
    pub trainable: (usize, usize),
    /// Whether training pictures' frozen features are cached.
    pub cached: bool,
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
    /// Epochs over all phases.
    pub epochs: usize,
    /// Pictures of this epoch done.
    pub done: usize,
    /// Pictures of an epoch.
    pub total: usize,
    /// Mean loss of this epoch so far.
    pub loss: f64,
    /// Accuracy of this epoch so far.
    pub accuracy: f64,
    /// Training pictures per second of this epoch so far.
    pub images_per_second: f64,
}

/// An epoch is over and its row is earned.
#[derive(Debug)]
pub struct EpochEnded<'a> {
    /// The row of `metrics.csv`.
    pub row: &'a MetricsRow,
    /// Parameters as they are now.
    pub params: &'a Params,
    /// The optimizer as it is now; `None` for the evaluation before training.
    pub optimizer: Option<OptimizerState>,
    /// Where training stands.
    pub progress: Progress,
    /// Whether this is the best epoch so far.
    pub is_best: bool,
}

/// Where training stands after an epoch; what a checkpoint keeps beside tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Index of the phase.
    pub phase: usize,
    /// Epochs done in the phase.
    pub phase_epoch: usize,
    /// Epochs done in all.
    pub epoch: usize,
    /// Steps done in all.
    pub step: u64,
    /// Seed of all random streams; they are functions of it, of epoch and of step.
    pub seed: u64,
    /// The best epoch so far.
    pub best: Option<crate::train::early_stopping::Best>,
    /// State of early stopping in this phase.
    pub early_stopping: Option<crate::train::early_stopping::EarlyStopping>,
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
    /// An epoch is over.
    fn epoch_ended(&mut self, event: EpochEnded<'_>) -> Result<(), ObserverError>;
    /// Early stopping ends a phase after this many epochs of it.
    fn stopped_early(&mut self, phase: &str, phase_epoch: usize);
}
