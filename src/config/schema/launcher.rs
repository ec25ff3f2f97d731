//! `[launcher]`: what runs the trials of a sweep.

use schemars::JsonSchema;
use serde::Deserialize;

/// `[launcher]`: settings of what `xp sweep --launcher NAME` runs trials with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LauncherConfig {
    /// Of `--launcher slurm`.
    #[serde(default)]
    pub slurm: Option<SlurmConfig>,
}

/// `[launcher.slurm]`: what a trial's job asks for, in `sbatch`'s own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlurmConfig {
    /// `--partition`.
    #[serde(default)]
    pub partition: Option<String>,
    /// `--time`, for example `"2:00:00"`. A trial that needs longer is warned a minute before, keeps its
    /// state and is queued again.
    #[serde(default)]
    pub time: Option<String>,
    /// `--mem`, for example `"8G"`.
    #[serde(default)]
    pub memory: Option<String>,
    /// `--cpus-per-task`; a trial takes as many threads.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub cpus: Option<usize>,
    /// `--ntasks`: processes that train a trial together, started with `srun`. Default: one.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub ranks: Option<usize>,
    /// `--gpus`.
    #[serde(default)]
    pub gpus: Option<usize>,
    /// Anything else: `["--account=lab", "--constraint=a100"]`.
    #[serde(default)]
    pub flags: Vec<String>,
}
