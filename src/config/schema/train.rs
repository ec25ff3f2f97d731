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
        }
    }
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
    /// Epochs without improvement after which the phase ends.
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
