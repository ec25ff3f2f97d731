//! Arguments of what looks at runs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::is_server;
use crate::report::{Format, Kind};
use crate::run::Condition;

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

/// Arguments of `xp watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// A run directory, or the folder of a sweep such as `runs/SWEEP`
    pub run: PathBuf,
    /// Print how it stands now, and end
    #[arg(long)]
    pub once: bool,
    /// Time between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    pub interval: f64,
}

/// Seconds between two looks at a folder.
pub(super) fn interval(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok();
    seconds
        .filter(|seconds| (0.05..=3600.0).contains(seconds))
        .ok_or_else(|| "write seconds, from 0.05 to 3600".into())
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

/// Arguments of `xp plot`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Run directories; the curves of several are overlaid
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// What to draw; several are separated by commas [default: curves, and confusion of a tested run]
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<PlotKind>,
    /// PNG or SVG [default: what the ending of --output says, or png]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<PlotFormat>,
    /// Where to write: a file, or a folder that exists [default: KIND.png in the run, or compare.png]
    #[arg(long, short, value_name = "PATH")]
    pub output: Option<PathBuf>,
}

/// What `xp plot` draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlotKind {
    /// Accuracy and loss.
    Curves,
    /// Learning rate, with the schedule between the rows.
    Lr,
    /// Confusion matrix.
    Confusion,
    /// Receiver operating characteristics, a class against the rest.
    Roc,
    /// Precision by recall, a class against the rest.
    Pr,
    /// Precision, recall and F1 of each class.
    Classes,
    /// The surest mistakes, as pictures.
    Mistakes,
    /// All that the run has something for.
    All,
}

impl PlotKind {
    /// The kinds that it stands for.
    pub fn kinds(self) -> Vec<Kind> {
        let kind = match self {
            Self::Curves => Kind::Curves,
            Self::Lr => Kind::Lr,
            Self::Confusion => Kind::Confusion,
            Self::Roc => Kind::Roc,
            Self::Pr => Kind::Pr,
            Self::Classes => Kind::Classes,
            Self::Mistakes => Kind::Mistakes,
            Self::All => return Kind::ALL.to_vec(),
        };
        vec![kind]
    }
}

/// How pictures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlotFormat {
    /// Pixels.
    Png,
    /// Lines and outlines, for papers.
    Svg,
}

impl PlotFormat {
    /// The format.
    pub fn format(self) -> Format {
        match self {
            Self::Png => Format::Png,
            Self::Svg => Format::Svg,
        }
    }
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

/// Arguments of `xp track`.
#[derive(Debug, Args)]
pub struct TrackArgs {
    /// Run directories, or folders of them such as `runs/SWEEP`
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Write event files below this folder, each in a folder of its run's name [default: in the run,
    /// if its `[tracking]` says so]
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// A tracking server, or a folder in MLflow's layout [default: what the run's `[tracking]` says]
    #[arg(long, value_name = "URL|DIR", value_parser = mlflow)]
    pub mlflow: Option<String>,
    /// MLflow's experiment [default: what the run's `[tracking]` says, or its name]
    #[arg(long, value_name = "NAME")]
    pub experiment: Option<String>,
    /// Give MLflow the model, too
    #[arg(long)]
    pub model: bool,
}

fn mlflow(text: &str) -> Result<String, String> {
    match text.contains("://") && !is_server(text) || text.is_empty() {
        true => Err("write http://HOST:PORT for a tracking server, or the path of a folder".into()),
        false => Ok(text.into()),
    }
}
