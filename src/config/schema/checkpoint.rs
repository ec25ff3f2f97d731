//! `[checkpoint]`: how often the state of training is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[checkpoint]`: how often the state of training is kept. Results do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// `"epoch"`: with every evaluation, which is an epoch unless a phase says `evaluate_every`;
    /// `{ steps = 50 }` or `{ minutes = 10 }` between two. A new best and the end of a phase are
    /// always kept. Evaluations less than a second apart share a checkpoint. A run that was killed
    /// loses what it did since.
    #[serde(default)]
    pub every: CheckpointEvery,
}

/// How often a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CheckpointEvery {
    /// With every evaluation.
    Evaluation(EveryEvaluation),
    /// After so many steps.
    Steps(EverySteps),
    /// After so many minutes.
    Minutes(EveryMinutes),
}

impl Default for CheckpointEvery {
    fn default() -> Self {
        Self::Evaluation(EveryEvaluation::Epoch)
    }
}

/// With every evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EveryEvaluation {
    /// With every evaluation: an epoch, unless a phase says `evaluate_every`.
    Epoch,
}

/// After so many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EverySteps {
    /// Steps between two checkpoints.
    #[schemars(range(min = 1))]
    pub steps: u64,
}

/// After so many minutes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EveryMinutes {
    /// Minutes between two checkpoints.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub minutes: f64,
}
