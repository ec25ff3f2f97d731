//! `[sweep]`: many experiments in one file.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::defaults;

/// `[sweep]`: the experiments that `xp sweep` makes of this file. Each takes a value from every axis.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// Keys and the values that they take: `train.batch_size = [16, 32]`,
    /// `"phase[0].optimizer.lr" = { log = [1e-4, 1e-2], steps = 5 }`, or `{ range = [0.0, 0.3],
    /// steps = 4 }`. A range of integers may have a `step` instead; in a random search ranges need
    /// neither.
    #[serde(default)]
    #[schemars(schema_with = "axes_schema")]
    pub axes: BTreeMap<String, toml::Value>,
    /// Keys of axes that change together, value by value, and not each with each:
    /// `[["model.backbone", "data.image_size"]]`.
    #[serde(default)]
    pub zip: Vec<Vec<String>>,
    /// Every experiment so often, with `seed` and the numbers that follow it.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000))]
    pub seeds: Option<u64>,
    /// Draw from the axes instead of taking each value with each.
    #[serde(default)]
    pub random: Option<RandomSearch>,
    /// Conditions under which an experiment is left out:
    /// `['model.backbone = "vgg19" and train.batch_size > 32']`.
    #[serde(default)]
    pub skip: Vec<String>,
    /// Give up the weaker experiments early (successive halving, Jamieson and Talwalkar, 2016).
    #[serde(default)]
    pub halving: Option<Halving>,
}

/// `random = { trials = 20 }`: a random search (Bergstra and Bengio, 2012).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomSearch {
    /// Number of combinations; each is run with all `seeds`.
    #[schemars(range(min = 1, max = 100_000))]
    pub trials: usize,
    /// Seed of the draw.
    #[serde(default)]
    pub seed: u64,
}

/// `halving = { min_epochs = 2 }`: all experiments run for so many epochs; the best third by
/// validation accuracy goes on to three times as many, and so on. What is given up can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Halving {
    /// Epochs after which the first choice is made, counted over all phases.
    #[schemars(range(min = 1))]
    pub min_epochs: usize,
    /// One of so many goes on, for so many times the epochs.
    #[serde(default = "defaults::halving_factor")]
    #[schemars(range(min = 2, max = 100))]
    pub factor: usize,
}

/// Any keys: what they hold is judged with the experiments.
fn axes_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {},
        "default": {},
    })
}
