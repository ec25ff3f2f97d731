//! Arguments of what makes and runs experiments.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

use super::ConfigArgs;
use crate::train::suggest::FEWEST;

/// Arguments of `xp new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Folder of class folders, or CSV file of paths and labels [default: asks on a terminal]
    pub folder: Option<PathBuf>,
    /// Where to write; `-` is stdout [default: NAME.toml in the current directory]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace a file that exists
    #[arg(long)]
    pub force: bool,
    /// The backbone, see `xp models` [default: by the number of pictures]
    #[arg(long, value_name = "NAME")]
    pub backbone: Option<String>,
    /// Weights of that backbone: a file or a hub id [default: see `xp models`]
    #[arg(long, value_name = "SOURCE", requires = "backbone")]
    pub weights: Option<String>,
    /// Width multiplier of that backbone
    #[arg(
        long,
        value_name = "FACTOR",
        default_value_t = 1.0,
        requires = "backbone"
    )]
    pub width: f64,
    /// Side of the pictures that the network sees, in pixels [default: by backbone and pictures]
    #[arg(long, value_name = "PIXELS",
          value_parser = RangedU64ValueParser::<u32>::new().range(8..=4096))]
    pub size: Option<u32>,
}

/// Arguments of `xp run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Check everything (data, weights, phases), say what would be done and what memory it takes
    #[arg(long)]
    pub dry_run: bool,
    /// Exactly this run directory: made if it is not there, gone on with if it holds this experiment
    /// unfinished [default: a new one in `runs_dir`]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Stop after this epoch as if interrupted
    #[arg(long, value_name = "EPOCH", hide = true)]
    pub until_epoch: Option<usize>,
    /// The other processes of the run.
    #[command(flatten)]
    pub peers: PeerArgs,
}

/// What is asked of a run of several processes.
#[derive(Debug, Clone, Args)]
pub struct PeerArgs {
    /// Run without others, even where mpirun, srun or torchrun has started several processes
    #[arg(long)]
    pub alone: bool,
    /// Of several processes: take one that is silent for so long for lost
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = RangedU64ValueParser::<u64>::new().range(2..=3600))]
    pub peer_timeout: u64,
}

impl PeerArgs {
    /// Time without a sign of life after which another process is taken for lost.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.peer_timeout)
    }
}

/// Arguments of `xp sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// TOML files; one with a `[sweep]` table stands for as many experiments as its axes have
    /// combinations
    #[arg(required = true)]
    pub configs: Vec<PathBuf>,
    /// Override a value of all files, before their axes; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// One axis more, or other values for one: `train.batch_size=[16, 32]`,
    /// `phase[0].optimizer.lr={ log = [1e-4, 1e-2], steps = 3 }`; may be repeated
    #[arg(long = "axis", value_name = "KEY=VALUES")]
    pub axes: Vec<String>,
    /// Every experiment with so many seeds
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..=10_000))]
    pub seeds: Option<u64>,
    /// Leave experiments out, for example `model.backbone = "vgg19" and train.batch_size > 32`; may
    /// be repeated
    #[arg(long, value_name = "CONDITION")]
    pub skip: Vec<String>,
    /// Folder of the sweep's runs, below `runs_dir` [default: the experiment's name, of several
    /// files `sweep`]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Trials at a time; they share cores and memory [default: 1; on a cluster no limit]
    #[arg(long, short, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub jobs: Option<usize>,
    /// What runs the trials: processes here, or a job array of Slurm as `[launcher.slurm]` says
    #[arg(long, value_enum, default_value_t = LauncherName::Local)]
    pub launcher: LauncherName,
    /// Follow the sweep's jobs that are in the cluster's queue; submit none
    #[arg(long, requires = "launcher")]
    pub attach: bool,
    /// Only every n-th trial, beginning with the i-th, for n machines that share the folder
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// Stop all when one trial fails
    #[arg(long)]
    pub fail_fast: bool,
    /// Show the trials and how they stand; run nothing
    #[arg(long)]
    pub list: bool,
    /// Check every trial as `xp run --dry-run` does; train nothing
    #[arg(long, conflicts_with = "list")]
    pub dry_run: bool,
}

/// What runs trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LauncherName {
    /// Processes of this machine.
    Local,
    /// Slurm.
    Slurm,
}

/// A share of a sweep's trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which, counted from 1.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

fn shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/');
    let shard = parts.and_then(|(index, count)| {
        Some(Shard {
            index: index.trim().parse().ok()?,
            count: count.trim().parse().ok()?,
        })
    });
    shard
        .filter(|it| (1..=it.count).contains(&it.index))
        .ok_or_else(|| "write I/N, for example 1/4 to 4/4".into())
}

/// Arguments of `xp resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// A run directory
    pub run: PathBuf,
    /// The other processes of the run.
    #[command(flatten)]
    pub peers: PeerArgs,
}

/// Arguments of `xp verify-resume`.
#[derive(Debug, Args)]
pub struct VerifyResumeArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// How many times to kill
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub kills: usize,
}

/// Arguments of `xp check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// TOML files
    #[arg(required = true)]
    pub configs: Vec<PathBuf>,
    /// Override a value; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// Arguments of `xp lr-find`.
#[derive(Debug, Args)]
pub struct LrFindArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Which phase: its name, or its number from 0
    #[arg(long, value_name = "NAME|INDEX", default_value = "0")]
    pub phase: String,
    /// Rate of the first step
    #[arg(long, value_name = "RATE", default_value = "1e-7", value_parser = rate)]
    pub from: f64,
    /// Rate of the last step
    #[arg(long, value_name = "RATE", default_value = "10", value_parser = rate)]
    pub to: f64,
    /// Steps, each with a rate of its own
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = RangedU64ValueParser::<usize>::new().range(FEWEST as u64..=10_000))]
    pub steps: usize,
    /// Start from a run's weights: those after the earlier phases [default: pretrained weights and
    /// a new head]
    #[arg(long, value_name = "RUN")]
    pub from_run: Option<PathBuf>,
    /// Where to draw the curve
    #[arg(long, value_name = "PNG", default_value = "lr_find.png")]
    pub out: PathBuf,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok();
    rate.filter(|it: &f64| it.is_finite() && *it > 0.0)
        .ok_or_else(|| "write a number above 0, for example 1e-4".into())
}

/// Arguments of `xp data`.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where to write the contact sheet of augmented training pictures
    #[arg(long, value_name = "PNG", default_value = "contact_sheet.png")]
    pub sheet: PathBuf,
}

/// Arguments of `xp summary`.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    /// A TOML file, or the name of a backbone such as `mobilenet_v2`
    pub target: String,
    /// Of a backbone: Keras' convention (`tf`, the default) or PyTorch's (`torch`)
    #[arg(long, value_parser = ["tf", "torch"], hide_possible_values = true)]
    pub flavour: Option<String>,
    /// Override a value of the file; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}
