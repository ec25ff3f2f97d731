//! `optimizer` and `schedule` of a phase.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;

/// `optimizer = { kind = "adam", lr = 1e-3 }`. Formulas are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Learning rate.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// Momentum.
        #[serde(default)]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        momentum: f64,
        /// Nesterov's form of momentum.
        #[serde(default)]
        nesterov: bool,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        weight_decay: f64,
    },
    /// RMSprop.
    Rmsprop {
        /// Learning rate.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// Decay of the mean square (PyTorch's `alpha`, Keras' `rho`).
        #[serde(default = "defaults::rho")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        rho: f64,
        /// Momentum.
        #[serde(default)]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        momentum: f64,
        /// Added to the root of the mean square.
        #[serde(default = "defaults::epsilon")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        epsilon: f64,
        /// Subtract the squared mean gradient.
        #[serde(default)]
        centered: bool,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        weight_decay: f64,
    },
    /// Adam (Kingma and Ba, 2014).
    Adam {
        /// Learning rate.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// Decay of the mean.
        #[serde(default = "defaults::beta1")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        beta1: f64,
        /// Decay of the mean square.
        #[serde(default = "defaults::beta2")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        beta2: f64,
        /// Added to the root of the mean square.
        #[serde(default = "defaults::epsilon")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        epsilon: f64,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2017).
    Adamw {
        /// Learning rate.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lr: f64,
        /// Decay of the mean.
        #[serde(default = "defaults::beta1")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        beta1: f64,
        /// Decay of the mean square.
        #[serde(default = "defaults::beta2")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        beta2: f64,
        /// Added to the root of the mean square.
        #[serde(default = "defaults::epsilon")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        epsilon: f64,
        /// Decoupled weight decay.
        #[serde(default = "defaults::weight_decay")]
        #[schemars(range(min = 0.0))]
        weight_decay: f64,
    },
}

impl OptimizerConfig {
    /// The base learning rate, before the schedule.
    pub fn learning_rate(&self) -> f64 {
        match *self {
            Self::Sgd { lr, .. }
            | Self::Rmsprop { lr, .. }
            | Self::Adam { lr, .. }
            | Self::Adamw { lr, .. } => lr,
        }
    }

    /// L2 penalty or decoupled weight decay.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            Self::Sgd { weight_decay, .. }
            | Self::Rmsprop { weight_decay, .. }
            | Self::Adam { weight_decay, .. }
            | Self::Adamw { weight_decay, .. } => weight_decay,
        }
    }

    /// The same without weight decay.
    pub fn without_weight_decay(mut self) -> Self {
        let (Self::Sgd { weight_decay, .. }
        | Self::Rmsprop { weight_decay, .. }
        | Self::Adam { weight_decay, .. }
        | Self::Adamw { weight_decay, .. }) = &mut self;
        *weight_decay = 0.0;
        self
    }
}

/// `schedule = { kind = "cosine", warmup_epochs = 1 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// The optimizer's learning rate throughout.
    Constant {
        /// Epochs (fractions allowed) over which the rate rises linearly from 0.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        warmup_epochs: f64,
        /// The same in steps; one of the two.
        #[serde(default, skip_serializing_if = "is_zero")]
        warmup_steps: u64,
    },
    /// Half a cosine from the learning rate down to `end` times it.
    Cosine {
        /// Final rate as a share of the first.
        #[serde(default)]
        #[schemars(range(min = 0.0, max = 1.0))]
        end: f64,
        /// Epochs (fractions allowed) over which the rate rises linearly from 0.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        warmup_epochs: f64,
        /// The same in steps; one of the two.
        #[serde(default, skip_serializing_if = "is_zero")]
        warmup_steps: u64,
    },
    /// A straight line from the learning rate down to `end` times it.
    Linear {
        /// Final rate as a share of the first.
        #[serde(default)]
        #[schemars(range(min = 0.0, max = 1.0))]
        end: f64,
        /// Epochs (fractions allowed) over which the rate rises linearly from 0.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        warmup_epochs: f64,
        /// The same in steps; one of the two.
        #[serde(default, skip_serializing_if = "is_zero")]
        warmup_steps: u64,
    },
    /// Multiply by `factor` every `every_epochs` epochs or `every_steps` steps.
    Step {
        /// Epochs between two drops.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1))]
        every_epochs: Option<usize>,
        /// Steps between two drops; one of the two.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1))]
        every_steps: Option<u64>,
        /// Factor at each step.
        #[serde(default = "defaults::step_factor")]
        #[schemars(range(min = 0.0, max = 1.0))]
        factor: f64,
        /// Epochs (fractions allowed) over which the rate rises linearly from 0.
        #[serde(default)]
        #[schemars(range(min = 0.0))]
        warmup_epochs: f64,
        /// The same in steps; one of the two.
        #[serde(default, skip_serializing_if = "is_zero")]
        warmup_steps: u64,
    },
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::Constant {
            warmup_epochs: 0.0,
            warmup_steps: 0,
        }
    }
}

impl ScheduleConfig {
    /// Length of the warm-up in epochs and in steps; at most one is not 0.
    pub fn warmup(&self) -> (f64, u64) {
        match *self {
            Self::Constant {
                warmup_epochs,
                warmup_steps,
            }
            | Self::Cosine {
                warmup_epochs,
                warmup_steps,
                ..
            }
            | Self::Linear {
                warmup_epochs,
                warmup_steps,
                ..
            }
            | Self::Step {
                warmup_epochs,
                warmup_steps,
                ..
            } => (warmup_epochs, warmup_steps),
        }
    }
}

fn is_zero(steps: &u64) -> bool {
    *steps == 0
}
