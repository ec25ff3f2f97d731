//! Arguments of what looks at runs.

use std::path::PathBuf;

use clap::Args;

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
