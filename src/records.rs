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

/// One row of `metrics.csv`: an evaluation interval, which is an epoch unless a phase evaluates every
/// so many steps, or the evaluation before training (epoch 0). Intervals within an epoch share it and
/// differ in their step. Only `phase` and `epoch` must be there to read a row, so that logs with
/// fewer columns can be drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsRow {
    /// Name of the phase.
    pub phase: String,
    /// Epoch within the phase, from 1; 0 before training.
    #[serde(default)]
    pub phase_epoch: usize,
    /// Epoch over all phases, from 1, that the last step belongs to; 0 before training.
    pub epoch: usize,
    /// Optimizer steps so far.
    #[serde(default)]
    pub step: u64,
    /// Learning rate of the last step.
    #[serde(default)]
    pub lr: f64,
    /// Mean training loss over the interval; empty in epoch 0.
    pub train_loss: Option<f64>,
    /// Training accuracy over the interval, 0 to 1; empty in epoch 0.
    pub train_accuracy: Option<f64>,
    /// Validation loss; empty without a validation split.
    pub val_loss: Option<f64>,
    /// Validation accuracy, 0 to 1; empty without a validation split.
    pub val_accuracy: Option<f64>,
    /// Training pictures per second of the training part of the interval.
    #[serde(default)]
    pub images_per_second: f64,
    /// Wall time of the interval, evaluation included.
    #[serde(default)]
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
    /// The first 16 digits of the BLAKE3 of its bytes; empty in older files.
    #[serde(default)]
    pub blake3: String,
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

/// `probabilities.csv`: what the model gave every class, for every picture of `predictions.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbabilityTable {
    /// Class names, as in `test.json`.
    pub classes: Vec<String>,
    /// A row a picture.
    pub rows: Vec<ProbabilityRow>,
}

/// One row of `probabilities.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbabilityRow {
    /// Path relative to the data root.
    pub path: String,
    /// Index of its class in the data.
    pub label: usize,
    /// Of each class.
    pub probabilities: Vec<f32>,
}

impl ProbabilityTable {
    /// Most numbers that are kept: some 50 MB of text.
    pub const MOST: usize = 5_000_000;

    /// Of two classes, for which the probability of the predicted one tells that of the other.
    ///
    /// # Errors
    /// In words, where the predictions are not of these two, or a probability is none.
    pub fn of_two(classes: &[String; 2], predictions: &[PredictionRow]) -> Result<Self, String> {
        let rows = predictions.iter().enumerate().map(|(index, row)| {
            let class = |name: &String| {
                let found = classes.iter().position(|class| class == name);
                // The first line names the columns.
                found.ok_or_else(|| format!("line {}: no class is called `{name}`", index + 2))
            };
            let (label, predicted) = (class(&row.class)?, class(&row.predicted)?);
            if !is_probability(row.confidence) {
                let (line, value) = (index + 2, row.confidence);
                return Err(format!("line {line}: {value} is no probability"));
            }
            let mut probabilities = vec![(1.0 - row.confidence) as f32; 2];
            probabilities[predicted] = row.confidence as f32;
            Ok(ProbabilityRow {
                path: row.path.clone(),
                label,
                probabilities,
            })
        });
        Ok(Self {
            classes: classes.to_vec(),
            rows: rows.collect::<Result<_, _>>()?,
        })
    }
}

/// Whether a number can be one; not if it is NaN.
pub fn is_probability(value: f64) -> bool {
    (0.0..=1.0 + 1e-6).contains(&value)
}

/// `test.json`: the best checkpoint on the test split; `test_last.json`: the last one.
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
    /// One entry a class, in label order; of classes that have no pictures in any split, only those
    /// that were predicted.
    pub per_class: Vec<ClassReport>,
    /// `confusion[true][predicted]`: counts, in the order of `per_class`.
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

impl TestReport {
    /// The report of `pairs` of true and predicted labels, `loss` being the mean over them.
    ///
    /// # Panics
    /// If a label is not below the number of classes.
    pub fn from_predictions(
        split: Split,
        checkpoint: &str,
        classes: &[String],
        pairs: impl IntoIterator<Item = (usize, usize)>,
        loss: f64,
    ) -> Self {
        let mut confusion = vec![vec![0; classes.len()]; classes.len()];
        for (label, predicted) in pairs {
            confusion[label][predicted] += 1;
        }
        let images: u64 = confusion.iter().flatten().sum();
        let correct: u64 = (0..classes.len()).map(|i| confusion[i][i]).sum();
        Self {
            split,
            checkpoint: checkpoint.into(),
            images: images as usize,
            loss,
            accuracy: share(correct, images),
            accuracy_interval: wilson(correct, images),
            per_class: per_class(classes, &confusion),
            confusion,
        }
    }
}

/// Precision, recall and F1 of each class from `confusion[true][predicted]`.
pub fn per_class(classes: &[String], confusion: &[Vec<u64>]) -> Vec<ClassReport> {
    let report = |(label, class): (usize, &String)| {
        let hits = confusion[label][label];
        let support = confusion[label].iter().sum();
        let called = confusion.iter().map(|row| row[label]).sum();
        ClassReport {
            class: class.clone(),
            support,
            precision: share(hits, called),
            recall: share(hits, support),
            f1: share(2 * hits, support + called),
        }
    };
    classes.iter().enumerate().map(report).collect()
}

/// Wilson's 95 % interval of a share: where the true one lies, given `hits` of `total`. Unlike the
/// normal approximation it stays inside 0 to 1 and has a width at 0 and at 1. `[0, 1]` for nothing.
pub fn wilson(hits: u64, total: u64) -> [f64; 2] {
    /// 97.5 % quantile of the normal distribution.
    const Z: f64 = 1.959_963_984_540_054;
    if total == 0 {
        return [0.0, 1.0];
    }
    let (n, p) = (total as f64, share(hits, total));
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [
        ((centre - half) / scale).max(0.0),
        ((centre + half) / scale).min(1.0),
    ]
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// How many pictures of a batch are computed at a time. The result is the same but for rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MicroBatch {
    /// All of them.
    Whole,
    /// So many.
    Pictures(usize),
}

impl MicroBatch {
    /// The number, where it is less than that of a batch.
    pub fn of_batch(self, batch_size: usize) -> Option<usize> {
        match self {
            Self::Pictures(pictures) if pictures < batch_size => Some(pictures),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn wilson_is_the_root_of_its_quadratic() {
        // Roots of (hits / total - x)^2 = z^2 x (1 - x) / total, computed to 40 digits.
        let known = [
            (93, 100, 0.862504852609265, 0.9656807389327273),
            (0, 10, 0.0, 0.27753279986288926),
            (10, 10, 0.7224672001371107, 1.0),
            (1, 2, 0.09453120573423071, 0.9054687942657693),
        ];
        for (hits, total, low, high) in known {
            let [l, h] = wilson(hits, total);
            assert!(
                close(l, low) && close(h, high),
                "{hits} of {total}: {l} {h}"
            );
        }
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }

    #[test]
    fn report_counts_hits_misses_and_empty_classes() {
        let classes: Vec<String> = ["cat", "dog", "emu"].map(String::from).into();
        let pairs = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 0)];
        let report = TestReport::from_predictions(Split::Test, "best", &classes, pairs, 0.5);
        assert_eq!(report.confusion, [[2, 1, 0], [1, 1, 0], [0, 0, 0]]);
        assert_eq!(report.images, 5);
        assert!(close(report.accuracy, 0.6));
        let cat = &report.per_class[0];
        assert!(close(cat.precision, 2.0 / 3.0) && close(cat.recall, 2.0 / 3.0));
        assert!(close(cat.f1, 2.0 / 3.0));
        let emu = &report.per_class[2];
        assert_eq!(
            (emu.support, emu.precision, emu.recall, emu.f1),
            (0, 0.0, 0.0, 0.0)
        );
    }
}
