//! The configuration: what a user may write in an experiment's TOML file, a file a section.
//!
//! These structs hold what the file says, after layering; they are read once and never mutated.
//! Every module receives only its own section. Field documentation is what `xp schema` prints
//! and editors show.

mod augment;
mod cache;
mod checkpoint;
mod data;
mod launcher;
mod model;
mod optimizer;
mod phase;
mod source;
mod sweep;
mod tracking;
mod train;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::precision::Precision;

pub use augment::*;
pub use cache::*;
pub use checkpoint::*;
pub use data::*;
pub use launcher::*;
pub use model::*;
pub use optimizer::*;
pub use phase::*;
pub use source::*;
pub use sweep::*;
pub use tracking::*;
pub use train::*;

/// One image-classification experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment; part of the run directory's name. Letters, digits, `_`, `-`, `.`.
    pub name: String,
    /// Seed of every random stream: split, shuffling, augmentation, initialisation, dropout.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// Where to compute: `auto`, `cpu`, `cuda`, `cuda:N` or `metal`.
    #[serde(default = "defaults::device")]
    pub device: String,
    /// What a GPU computes with: `f32` as on the CPU, `tf32` (products of numbers with 11 bits) or
    /// `bf16` (maps and products of numbers with 8 bits); weights, statistics and sums are f32 in
    /// any case. Default: `tf32`. The CPU computes in f32 and refuses the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// On a GPU, choose algorithms that give the same bits in every run, at some cost in speed. On
    /// the CPU results are the same in any case.
    #[serde(default, skip_serializing_if = "is_off")]
    pub deterministic: bool,
    /// Number of threads; 0 means all cores. Results do not depend on it.
    #[serde(default)]
    pub threads: usize,
    /// Most main memory that the run may take, as `"2GB"` or `"512MiB"`. Cached features and decoded
    /// pictures get less room; a run that is estimated to need more nonetheless does not start.
    /// Results do not depend on it. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<String>,
    /// Folder that receives run directories. Default: `runs` in the current directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_dir: Option<PathBuf>,
    /// The pictures and how they are split and prepared.
    pub data: DataConfig,
    /// Backbone, weights and head.
    pub model: ModelConfig,
    /// Settings shared by all phases.
    #[serde(default)]
    pub train: TrainConfig,
    /// The phases, in order; typically feature extraction, then fine-tuning.
    pub phase: Vec<PhaseConfig>,
    /// Caching of frozen features.
    #[serde(default)]
    pub cache: CacheConfig,
    /// How often the state of training is kept.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// Runs in formats that other programs read.
    #[serde(default, skip_serializing_if = "TrackingConfig::is_off")]
    pub tracking: TrackingConfig,
    /// The experiments that `xp sweep` makes of this file. Not a part of any of them.
    #[serde(default, skip_serializing)]
    pub sweep: Option<SweepConfig>,
    /// What runs the trials of a sweep; like it, no part of an experiment.
    #[serde(default, skip_serializing)]
    pub launcher: LauncherConfig,
}

fn is_off(on: &bool) -> bool {
    !on
}

/// Values of keys that are left out.
mod defaults {
    pub(super) fn seed() -> u64 {
        42
    }
    pub(super) fn device() -> String {
        "auto".into()
    }
    pub(super) fn train_share() -> f64 {
        0.8
    }
    pub(super) fn held_out_share() -> f64 {
        0.1
    }
    pub(super) fn width() -> f64 {
        1.0
    }
    pub(super) fn one() -> usize {
        1
    }
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn batch_size() -> usize {
        32
    }
    pub(super) fn crop_scale() -> [f64; 2] {
        [0.08, 1.0]
    }
    pub(super) fn crop_ratio() -> [f64; 2] {
        [3.0 / 4.0, 4.0 / 3.0]
    }
    pub(super) fn erase_probability() -> f64 {
        0.25
    }
    pub(super) fn erase_scale() -> [f64; 2] {
        [0.02, 0.33]
    }
    pub(super) fn erase_ratio() -> [f64; 2] {
        [0.3, 3.3]
    }
    pub(super) fn rho() -> f64 {
        0.9
    }
    pub(super) fn beta1() -> f64 {
        0.9
    }
    pub(super) fn beta2() -> f64 {
        0.999
    }
    pub(super) fn epsilon() -> f64 {
        1e-7
    }
    pub(super) fn weight_decay() -> f64 {
        0.01
    }
    pub(super) fn step_factor() -> f64 {
        0.1
    }
    pub(super) fn ema_decay() -> f64 {
        0.9999
    }
    pub(super) fn halving_factor() -> usize {
        3
    }
    pub(super) fn cache_memory() -> String {
        "4GiB".into()
    }
    pub(super) fn cache_disk() -> String {
        "20GB".into()
    }
}
