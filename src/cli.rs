//! Command-line types: what the user wrote.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::size;
use crate::run::Condition;
use crate::serve::Limits;

const EXAMPLES: &str = "\
Examples:
  xp new flowers/                                   write flowers.toml for a folder of pictures
  xp run configs/quickstart.toml                    train; leaves a directory under runs/
  xp run flowers.toml --set train.batch_size=16     the same with one value changed
  xp check configs/*.toml                           say what is wrong, touch nothing
  xp sweep flowers.toml --axis 'train.batch_size=[16, 32]' --seeds 5
  xp compare runs/flowers                           rank what the sweep came to
  xp runs                                           how every run stands
  xp predict runs/RUN photos/ --top 3               classify pictures with the result
  xp features mobilenet_v2 photos/ --out photos.npy embeddings by a published backbone

XP_TRAIN__BATCH_SIZE=16 in the environment sets `train.batch_size`, too; --set goes before it.";

/// Declarative transfer learning for image classification.
#[derive(Debug, Parser)]
#[command(name = "xp", version, about, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// Global flags.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Copy, Args)]
pub struct Global {
    /// Say only warnings and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Answer in JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented configuration for a folder of pictures
    New(NewArgs),
    /// Train one experiment and leave a run directory
    Run(RunArgs),
    /// Run many experiments: several files, or one with axes; what is done already is skipped
    Sweep(SweepArgs),
    /// Rank runs by configuration, with means and intervals over seeds
    Compare(CompareArgs),
    /// Go on with a run that was interrupted or killed, to the same bytes
    Resume(ResumeArgs),
    /// Check configurations without touching data; print every problem
    Check(CheckArgs),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Show what the data holds: counts, sizes, issues, and a contact sheet
    Data(DataArgs),
    /// Print the layers of a configuration's network or of a backbone
    Summary(SummaryArgs),
    /// List runs, newest first: how each of them stands, its epochs and accuracies
    Runs(RunsArgs),
    /// Say why two runs differ: configuration, data, weights, machine; and where
    Diff(DiffArgs),
    /// Draw learning curves of one run again, or of several overlaid
    Plot(PlotArgs),
    /// Make a run's page again: curves, classes, pictures, calibration, provenance in one HTML file
    Report(ReportArgs),
    /// Evaluate a run's model on its data
    Evaluate(EvaluateArgs),
    /// Classify pictures with a run's model, or with a backbone's own classifier
    Predict(PredictArgs),
    /// Write a run's model as a file for ONNX Runtime and others
    Export(ExportArgs),
    /// Answer over HTTP: pictures in, classes and probabilities out
    Serve(ServeArgs),
    /// Write a layer's output for pictures to a file
    Features(FeaturesArgs),
    /// List the backbones: parameters, costs, default weights and their licences
    Models,
    /// Show and clear the features that runs keep on disk
    Cache(CacheArgs),
    /// Prove that runs of a configuration resume exactly: kill some at random and compare
    VerifyResume(VerifyResumeArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
}

/// A configuration and changes to it.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// TOML file of the experiment
    pub config: PathBuf,
    /// Override a value, for example `train.batch_size=16` or `phase[0].epochs=3`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

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

/// Arguments of `xp compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run directories, or folders of them such as `runs/SWEEP`
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Only runs of which this holds, for example `model.backbone = "xception" and seed < 45`
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
    /// Order by a key or a result instead of validation accuracy: `test_accuracy`, `seconds`,
    /// `train.batch_size`
    #[arg(long, value_name = "KEY")]
    pub sort: Option<String>,
    /// Where to draw the learning curves of all runs
    #[arg(long, value_name = "PNG")]
    pub curves: Option<PathBuf>,
    /// Where to draw accuracy against each key that differs, and against time
    #[arg(long, value_name = "PNG")]
    pub plot: Option<PathBuf>,
}

/// Arguments of `xp runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Folder of run directories [default: runs]
    pub dir: Option<PathBuf>,
    /// Only runs that stand so; several are separated by commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = condition)]
    pub status: Vec<Condition>,
}

fn condition(text: &str) -> Result<Condition, String> {
    let found = Condition::ALL.into_iter().find(|it| it.name() == text);
    found.ok_or_else(|| {
        let names = Condition::ALL.map(Condition::name).join(", ");
        format!("it is one of {names}")
    })
}

/// Arguments of `xp diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A run directory
    pub a: PathBuf,
    /// Another run directory
    pub b: PathBuf,
    /// Exit with 1 if anything differs that decides results, or the results do
    #[arg(long)]
    pub exit_code: bool,
}

/// Arguments of `xp resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// A run directory
    pub run: PathBuf,
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

/// Arguments of `xp plot`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Run directories; several are overlaid
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Where to write the picture [default: curves.png in the run, or compare.png]
    #[arg(long, short, value_name = "PNG")]
    pub output: Option<PathBuf>,
}

/// Arguments of `xp report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run directory
    pub run: PathBuf,
    /// Where to write the page [default: report.html in the run]
    #[arg(long, short, value_name = "HTML")]
    pub output: Option<PathBuf>,
}

/// Arguments of `xp evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// A run directory or a `model.safetensors`
    pub model: PathBuf,
    /// Evaluate on this folder of class folders instead of the run's data
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Which split of the run's data
    #[arg(long, default_value = "test", value_parser = ["train", "val", "test"])]
    pub split: String,
    /// Which weights of a run: those of its best evaluation, or the last ones
    #[arg(long, default_value = "best", value_parser = ["best", "last"])]
    pub checkpoint: String,
}

/// Arguments of `xp predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A run directory, a `model.safetensors`, or the name of a backbone such as `mobilenet_v2`
    pub model: PathBuf,
    /// Pictures, or folders of pictures
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// What a backbone's name leaves open.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// How many classes to name for each picture
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub top: usize,
    /// Answer in CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// Arguments of `xp export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run directory or a `model.safetensors`
    pub model: PathBuf,
    /// Where to write [default: model.onnx beside the model, model.pictures.onnx with --pictures]
    #[arg(long, short, value_name = "ONNX")]
    pub output: Option<PathBuf>,
    /// Take pictures of any size, bytes [batch, height, width, 3], and do the preprocessing in the
    /// model
    #[arg(long)]
    pub pictures: bool,
    /// Which weights of a run: those of its best evaluation, or the last ones
    #[arg(long, default_value = "best", value_parser = ["best", "last"])]
    pub checkpoint: String,
}

/// Arguments of `xp serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A run directory or a `model.safetensors`
    pub model: PathBuf,
    /// Address to listen on; 0.0.0.0 lets other machines in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on; 0 takes one that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Largest request, for example 20MB
    #[arg(long, value_name = "SIZE", value_parser = size, default_value_t = Limits::DEFAULT.bytes as u64)]
    pub max_upload: u64,
    /// Longest time of a request, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::DEFAULT.time.as_secs(),
          value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub timeout: u64,
    /// Most requests at work or waiting; more are turned away
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.requests,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub max_requests: usize,
}

/// Weights and size of a backbone named on the command line.
#[derive(Debug, Args)]
pub struct BackboneArgs {
    /// Of a backbone: its weights, a file or a hub id [default: see `xp models`]
    #[arg(long, value_name = "SOURCE")]
    pub weights: Option<String>,
    /// Of a backbone: its width multiplier
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub width: f64,
    /// Of a backbone: side of the pictures it sees, in pixels [default: see `xp models`]
    #[arg(long, value_name = "PIXELS",
          value_parser = RangedU64ValueParser::<u32>::new().range(8..=4096))]
    pub size: Option<u32>,
}

/// Arguments of `xp features`.
#[derive(Debug, Args)]
pub struct FeaturesArgs {
    /// The name of a backbone such as `mobilenet_v2`, a run directory or a `model.safetensors`
    pub model: PathBuf,
    /// Pictures, or folders of pictures
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// What a backbone's name leaves open.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// Layer whose output to write [default: the pooled features below the classifier or head]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Where to write: `.safetensors`, `.npy` (paths in a `.txt` beside it) or `.csv`
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
}

/// Arguments of `xp cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
    /// Folder of the features [default: XP_CACHE__DIR, or xp/features in the user's cache directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// What `xp cache` does.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the entries: layers, pictures, size, last use
    Ls,
    /// Remove the least recently used entries, and what killed processes left
    Gc(CacheGcArgs),
    /// Print the folder
    Dir,
}

/// Arguments of `xp cache gc`.
#[derive(Debug, Args)]
pub struct CacheGcArgs {
    /// Leave at most this much, for example 10GB [default: XP_CACHE__MAX_SIZE, or 20GB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,
    /// Remove everything
    #[arg(long, conflicts_with = "max_size")]
    pub all: bool,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
}

fn size(text: &str) -> Result<u64, String> {
    size::parse(text).ok_or_else(|| size::EXAMPLES.replace(['`', '"'], ""))
}

/// Arguments of `xp completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}
