//! Arguments of what looks at runs.

use std::path::PathBuf;

use clap::Args;

use crate::config::is_server;
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
