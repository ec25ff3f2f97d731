//! Rows and small documents of a run directory, shared by those who write and those who read them.

use serde::{Deserialize, Serialize};

/// Which part of the data a picture belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Trains.
    Train,
    /// Chooses: early stopping and the best checkpoint.
    Val,
    /// Judges, once, at the end.
    Test,
}

impl Split {
    /// All splits, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// One row of `metrics.csv`: an epoch, or the evaluation before training (epoch 0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsRow {
    /// Name of the phase.
    pub phase: String,
    /// Epoch within the phase, from 1; 0 before training.
    pub phase_epoch: usize,
    /// Epoch over all phases, from 1; 0 before training.
    pub epoch: usize,
    /// Optimizer steps so far.
    pub step: u64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean training loss over the epoch; empty in epoch 0.
    pub train_loss: Option<f64>,
    /// Training accuracy over the epoch, 0 to 1; empty in epoch 0.
    pub train_accuracy: Option<f64>,
    /// Validation loss; empty without a validation split.
    pub val_loss: Option<f64>,
    /// Validation accuracy, 0 to 1; empty without a validation split.
    pub val_accuracy: Option<f64>,
    /// Training pictures per second of the training part of the epoch.
    pub images_per_second: f64,
    /// Wall time of the epoch, evaluation included.
    pub seconds: f64,
}

/// One row of `split.csv`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRow {
    /// Path relative to the data root, or the name of a generated picture.
    pub path: String,
    /// Class name.
    pub class: String,
    /// Index of the class.
    pub label: usize,
    /// Where it belongs.
    pub split: Split,
}

/// One row of `data_issues.csv`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataIssueRow {
    /// Path relative to the data root.
    pub path: String,
    /// `corrupt`, `duplicate`, `conflicting_label`, `ignored`...
    pub kind: String,
    /// What was found and what was done, in words.
    pub reason: String,
}

/// One row of `predictions.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// Path relative to the data root.
    pub path: String,
    /// Class name in the data.
    pub class: String,
    /// Class name given by the model.
    pub predicted: String,
    /// Whether the two agree.
    pub correct: bool,
    /// Probability of the predicted class.
    pub confidence: f64,
}

/// `test.json`: the best checkpoint on the test split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// Which split was evaluated.
    pub split: Split,
    /// Which weights: `best` or `last`.
    pub checkpoint: String,
    /// Number of pictures.
    pub images: usize,
    /// Mean loss.
    pub loss: f64,
    /// Share of pictures classified correctly.
    pub accuracy: f64,
    /// 95 % interval of the accuracy (Wilson).
    pub accuracy_interval: [f64; 2],
    /// One entry a class, in label order.
    pub per_class: Vec<ClassReport>,
    /// `confusion[true][predicted]`: counts.
    pub confusion: Vec<Vec<u64>>,
}

/// Figures of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Class name.
    pub class: String,
    /// Pictures of the class.
    pub support: u64,
    /// Share of the pictures called this class that are of it; 0 if none was.
    pub precision: f64,
    /// Share of the class's pictures that were called it; 0 if there are none.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
}
