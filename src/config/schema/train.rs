//! `[train]`: settings shared by all phases.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;

/// `[train]`: settings shared by all phases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Pictures per step.
    #[serde(default = "defaults::batch_size")]
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_size: usize,
    /// Loss; `auto` takes binary cross entropy for one output and categorical for more.
    #[serde(default)]
    pub loss: Loss,
    /// Share of the target spread evenly over the classes.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.99))]
    pub label_smoothing: f64,
    /// `"balanced"`, or a weight for each class by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// Evaluate before the first step; becomes epoch 0 of the log.
    #[serde(default)]
    pub evaluate_first: bool,
    /// Stop a phase when validation stops improving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// What makes a checkpoint the best one.
    #[serde(default)]
    pub best: Monitor,
    /// Batches that make up one step: their gradients are averaged over all their pictures, as if
    /// they were one batch. At the end of an epoch fewer do. Batch norm in training mode and
    /// dropout go by each batch.
    #[serde(default = "defaults::one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 65_536))]
    pub accumulate: usize,
    /// Pictures of a batch that are computed at a time; gradients and the result are those of the
    /// whole batch. Fewer take less memory and, below eight, more time. Where batch norm is in
    /// training mode, the batch is computed at once still. Default: the whole batch, or what
    /// `memory_limit` leaves room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub micro_batch: Option<usize>,
    /// Leave out an epoch's last batch where it is not whole. Which pictures it has changes from
    /// epoch to epoch.
    #[serde(default, skip_serializing_if = "is_false")]
    pub drop_last: bool,
    /// Which training pictures an epoch has.
    #[serde(default, skip_serializing_if = "Sampling::is_shuffle")]
    pub sampling: Sampling,
    /// Validate on so many batches instead of all validation pictures: the same ones every time,
    /// drawn from `seed` with the classes in proportion. The test split is always judged whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub eval_batches: Option<usize>,
    /// Average the weights over the steps; the averaged ones are validated, tested and saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// Judge the last checkpoint, too, and not only the best one, on the test split.
    #[serde(default = "defaults::yes", skip_serializing_if = "is_true")]
    pub test_last: bool,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            batch_size: defaults::batch_size(),
            loss: Loss::default(),
            label_smoothing: 0.0,
            class_weights: None,
            evaluate_first: false,
            early_stopping: None,
            best: Monitor::default(),
            accumulate: defaults::one(),
            micro_batch: None,
            drop_last: false,
            sampling: Sampling::default(),
            eval_batches: None,
            ema: None,
            test_last: defaults::yes(),
        }
    }
}

fn is_one(count: &usize) -> bool {
    *count == 1
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_true(value: &bool) -> bool {
    *value
}

/// Which training pictures an epoch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every picture once, in an order of the epoch's own.
    #[default]
    Shuffle,
    /// As many pictures, but every class equally often: those of a small class several times, of a
    /// large one only some. No picture comes again before all of its class have come, and
    /// `[data.augment]` makes something else of it each time.
    Balanced,
}

impl Sampling {
    fn is_shuffle(&self) -> bool {
        *self == Self::Shuffle
    }
}

/// `ema = { decay = 0.999 }`: an exponential moving average of trained parameters and batch-norm
/// statistics, as timm's `ModelEmaV3`. Each phase averages anew from the weights it starts with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// What a step leaves of the average; the new weights make up the rest. Averages over about
    /// `1 / (1 - decay)` steps.
    #[serde(default = "defaults::ema_decay")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub decay: f64,
    /// Average over fewer steps in the beginning: after t steps the decay is at most
    /// `1 - (1 + t)^(-2/3)`.
    #[serde(default)]
    pub warmup: bool,
}

/// Loss functions, computed on logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Binary for one output, categorical for more.
    #[default]
    Auto,
    /// Sigmoid and binary cross entropy: one output, two classes.
    BinaryCrossEntropy,
    /// Softmax and categorical cross entropy: one output a class.
    CategoricalCrossEntropy,
}

/// Weights of classes in the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClassWeights {
    /// A named rule.
    Rule(ClassWeightRule),
    /// A weight for each class by name; classes left out weigh 1.
    ByName(BTreeMap<String, f64>),
}

/// Rules for class weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeightRule {
    /// Inversely proportional to the number of training pictures, mean 1 over pictures.
    Balanced,
}

/// `early_stopping = { monitor = "val_accuracy", min_delta = 0.001, patience = 5 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// The metric to watch.
    #[serde(default)]
    pub monitor: Monitor,
    /// Smaller changes count as none.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub min_delta: f64,
    /// Evaluations (epochs, unless a phase says `evaluate_every`) without improvement after which
    /// the phase ends.
    #[schemars(range(min = 1))]
    pub patience: usize,
}

/// Metrics to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// Validation accuracy; higher is better.
    #[default]
    ValAccuracy,
    /// Validation loss; lower is better.
    ValLoss,
}
