//! `[[phase]]`: what trains for how long, and at which rates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;
use super::optimizer::{OptimizerConfig, ScheduleConfig};

/// How long a phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Passes over the training pictures.
    Epochs(usize),
    /// Steps.
    Steps(u64),
}

/// `[[phase]]`: one stretch of training with one freezing, optimizer and schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseConfig {
    /// Name in logs and plots.
    pub name: String,
    /// Backbone layers that do not train: `"all"`, `"none"`, a name pattern such as
    /// `"block_1*"`, or a list of patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Freeze>,
    /// Freeze every backbone layer before this one: a layer's name, its index in `xp summary`,
    /// or a negative index (`-3` trains the last three).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_before: Option<LayerRef>,
    /// Freeze so many stages of the backbone, counted from the picture; negative: all but the last
    /// so many (`-1` trains the last stage). A stage begins where the map shrinks, or with a block
    /// of tokens; `xp summary` lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_stages: Option<i64>,
    /// The only backbone layers that train: a name pattern, an index, or a list of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_only: Option<Layers>,
    /// Passes over the training pictures; or say `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: Option<usize>,
    /// Steps in place of `epochs`: as many passes over the training pictures, each in an order of
    /// its own, as they take; the last may end early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub steps: Option<u64>,
    /// Steps between two evaluations; each gives a row of the log, a checkpoint and a decision of
    /// early stopping. Default: one at the end of each epoch. There is always one at the end of the
    /// phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub evaluate_every: Option<u64>,
    /// Whether training pictures are changed as `[data.augment]` says. `false` trains this phase on
    /// the pictures as they are, whose frozen features can be cached.
    #[serde(default = "defaults::yes")]
    pub augment: bool,
    /// Mixup: every batch is mixed with itself in reverse order, each picture keeping a share drawn
    /// from the beta distribution with this parameter (timm's batch mode). Targets are mixed alike;
    /// training accuracy counts the label of the larger share. 0 is off.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub mixup: f64,
    /// CutMix: a rectangle of each picture comes from another of the batch; its share of the area
    /// is drawn like mixup's. With both, each batch gets one or the other with equal chance. 0 is
    /// off.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub cutmix: f64,
    /// How parameters move.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Batch norm of trainable backbone layers: `eval` trains scale and offset on the stored
    /// statistics, `train` uses the batch's statistics and updates the stored ones, `frozen` leaves
    /// batch norm as it is, scale and offset too. Default: `eval`, or `train` for
    /// `weights = "none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bn: Option<BatchNormMode>,
    /// Learning rates that fall with depth: the head trains at the full rate, the last stage of the
    /// backbone at this times it, the one below at this squared, and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_decay: Option<LrDecay>,
    /// Multipliers of the learning rate by layer, of backbone or head. Where several match a layer,
    /// the last one counts; `lr_decay` multiplies it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lr_multipliers: Vec<LrMultiplier>,
    /// What the optimizer's `weight_decay` spares. Default: everything but kernels, as timm does:
    /// pulling biases, scales and offsets towards 0 regularises nothing.
    #[serde(default)]
    pub weight_decay_exempt: DecayExempt,
    /// Longest gradient: beyond this norm, taken over all trained parameters together, it is scaled
    /// down to it (PyTorch's `clip_grad_norm_`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
    /// Largest value of a gradient, either way: what is beyond is cut off (PyTorch's
    /// `clip_grad_value_`). With `clip_norm`, after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_value: Option<f64>,
}

impl PhaseConfig {
    /// How long it is. Of `epochs` and `steps` validation leaves one.
    pub fn length(&self) -> Length {
        match (self.epochs, self.steps) {
            (_, Some(steps)) => Length::Steps(steps),
            (epochs, None) => Length::Epochs(epochs.unwrap_or_default()),
        }
    }

    /// Which keys say what is frozen, in this order; there may be one.
    pub fn freezing_keys(&self) -> Vec<&'static str> {
        [
            ("freeze", self.freeze.is_some()),
            ("freeze_before", self.freeze_before.is_some()),
            ("freeze_stages", self.freeze_stages.is_some()),
            ("train_only", self.train_only.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect()
    }
}

/// Which backbone layers do not train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Freeze {
    /// `"all"`, `"none"` or one pattern.
    One(String),
    /// Several patterns.
    Many(Vec<String>),
}

/// A layer by name or by index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LayerRef {
    /// Index in `xp summary`; negative counts from the end of the backbone.
    Index(i64),
    /// Name in `xp summary`.
    Name(String),
}

/// Layers by name pattern or index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Layers {
    /// One pattern or index.
    One(LayerRef),
    /// Several.
    Many(Vec<LayerRef>),
}

impl Layers {
    /// The patterns and indices.
    pub fn all(&self) -> &[LayerRef] {
        match self {
            Self::One(layer) => std::slice::from_ref(layer),
            Self::Many(layers) => layers,
        }
    }
}

/// `lr_decay = 0.9`, or `{ factor = 0.9, per = "layer" }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LrDecay {
    /// Per stage.
    PerStage(#[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))] f64),
    /// Per stage or per layer.
    Per(LrDecayPer),
}

impl LrDecay {
    /// Factor from one step of depth to the next.
    pub fn factor(self) -> f64 {
        match self {
            Self::PerStage(factor) => factor,
            Self::Per(decay) => decay.factor,
        }
    }

    /// What one step of depth is.
    pub fn unit(self) -> DecayUnit {
        match self {
            Self::PerStage(_) => DecayUnit::Stage,
            Self::Per(decay) => decay.per,
        }
    }
}

/// A decay with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LrDecayPer {
    /// Factor from one step of depth to the next.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub factor: f64,
    /// What one step of depth is.
    #[serde(default)]
    pub per: DecayUnit,
}

/// Steps of depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecayUnit {
    /// A stage of the backbone; with tokens a block.
    #[default]
    Stage,
    /// A layer with a kernel, with the norms behind it.
    Layer,
}

/// `{ layers = "block_1*", multiplier = 0.1 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LrMultiplier {
    /// A name pattern, an index, or a list of them.
    pub layers: Layers,
    /// What the learning rate of these layers is multiplied with.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub multiplier: f64,
}

/// What weight decay spares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecayExempt {
    /// Everything but kernels: biases, scales and offsets of norms (timm).
    #[default]
    BiasAndNorm,
    /// Nothing: every parameter decays (PyTorch's optimizers as they come).
    None,
}

/// How batch norm of trainable backbone layers behaves in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormMode {
    /// Stored statistics, in training too; scale and offset train.
    Eval,
    /// The batch's statistics; the stored ones follow them.
    Train,
    /// Stored statistics; scale and offset do not train either.
    Frozen,
}
