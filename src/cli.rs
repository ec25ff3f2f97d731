//! Command-line types: what the user wrote.

mod examples;
mod experiments;
mod models;
mod runs;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::experiments::*;
pub use self::models::*;
pub use self::runs::*;
use crate::config::size;

const EXAMPLES: &str = "\
Examples:
  xp new flowers/                                   write flowers.toml for a folder of pictures
  xp run configs/quickstart.toml                    train; leaves a directory under runs/
  xp run flowers.toml --set train.batch_size=16     the same with one value changed
  xp check configs/*.toml                           say what is wrong, touch nothing
  xp sweep flowers.toml --axis 'train.batch_size=[16, 32]' --seeds 5
  xp compare runs/flowers                           rank what the sweep came to
  xp lr-find flowers.toml                           try learning rates, suggest one
  xp runs                                           how every run stands
  xp watch runs/RUN                                 curves and time left, live
  xp predict runs/RUN photos/ --top 3               classify pictures with the result
  xp explain runs/RUN photos/                       show what it looked at
  xp features mobilenet_v2 photos/ --out all.npy    embeddings by a published backbone

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
    #[command(after_help = examples::NEW)]
    New(NewArgs),
    /// Train one experiment and leave a run directory
    #[command(after_help = examples::RUN)]
    Run(RunArgs),
    /// Run many experiments: several files, or one with axes; what is done already is skipped
    #[command(after_help = examples::SWEEP)]
    Sweep(SweepArgs),
    /// Rank runs by configuration, with means and intervals over seeds
    #[command(after_help = examples::COMPARE)]
    Compare(CompareArgs),
    /// Go on with a run that was interrupted or killed, to the same bytes
    #[command(after_help = examples::RESUME)]
    Resume(ResumeArgs),
    /// Check configurations without touching data; print every problem
    #[command(after_help = examples::CHECK)]
    Check(CheckArgs),
    /// Try rising learning rates on a phase and suggest one; leaves no run
    #[command(after_help = examples::LR_FIND)]
    LrFind(LrFindArgs),
    /// Print the JSON Schema of the configuration
    #[command(after_help = examples::SCHEMA)]
    Schema,
    /// Show what the data holds: counts, sizes, issues, and a contact sheet
    #[command(after_help = examples::DATA)]
    Data(DataArgs),
    /// Print the layers of a configuration's network or of a backbone
    #[command(after_help = examples::SUMMARY)]
    Summary(SummaryArgs),
    /// List runs, newest first: how each of them stands, its epochs and accuracies
    #[command(after_help = examples::RUNS)]
    Runs(RunsArgs),
    /// Show a run or a sweep live: curves, time left, messages; a line a change where no terminal is
    #[command(after_help = examples::WATCH)]
    Watch(WatchArgs),
    /// Say why two runs differ: configuration, data, weights, machine; and where
    #[command(after_help = examples::DIFF)]
    Diff(DiffArgs),
    /// Draw a run again: curves, confusion, ROC and more; or the curves of several overlaid
    #[command(after_help = examples::PLOT)]
    Plot(PlotArgs),
    /// Make a run's page again: curves, classes, pictures, calibration, provenance in one HTML file
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
    /// Tell TensorBoard or MLflow of runs that are over
    #[command(after_help = examples::TRACK)]
    Track(TrackArgs),
    /// Evaluate a run's model on its data
    #[command(after_help = examples::EVALUATE)]
    Evaluate(EvaluateArgs),
    /// Classify pictures with a run's model, or with a backbone's own classifier
    #[command(after_help = examples::PREDICT)]
    Predict(PredictArgs),
    /// Show where in pictures a model found what speaks for its answers (Grad-CAM)
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Write a run's model for ONNX Runtime and others, or for timm and torchvision
    #[command(after_help = examples::EXPORT)]
    Export(ExportArgs),
    /// Answer over HTTP: pictures in, classes and probabilities out
    #[command(after_help = examples::SERVE)]
    Serve(ServeArgs),
    /// Write a layer's output for pictures to a file
    #[command(after_help = examples::FEATURES)]
    Features(FeaturesArgs),
    /// List the backbones: parameters, costs, default weights and their licences
    #[command(after_help = examples::MODELS)]
    Models,
    /// Show and clear the features that runs keep on disk
    #[command(after_help = examples::CACHE)]
    Cache(CacheArgs),
    /// Prove that runs of a configuration resume exactly: kill some at random and compare
    #[command(after_help = examples::VERIFY_RESUME)]
    VerifyResume(VerifyResumeArgs),
    /// Print shell completions
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands
    #[command(after_help = examples::MAN)]
    Man(ManArgs),
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
    #[command(after_help = examples::CACHE_LS)]
    Ls,
    /// Remove the least recently used entries, and what killed processes left
    #[command(after_help = examples::CACHE_GC)]
    Gc(CacheGcArgs),
    /// Print the folder
    #[command(after_help = examples::CACHE_DIR)]
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

/// Arguments of `xp man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page a command into this folder, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
