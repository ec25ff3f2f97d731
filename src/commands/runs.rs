//! `xp runs`: the runs of a folder and how each of them stands.

use std::path::Path;

use super::table::{self, Table};
use super::{Exit, Failure, Printer};
use crate::cli::RunsArgs;
use crate::run::{Listed, RunError, list};

/// Where runs go unless `runs_dir` says otherwise.
const RUNS: &str = "runs";

/// Prints a line a run, newest first.
pub fn run(args: &RunsArgs, printer: &Printer) -> Result<(), Failure> {
    let folder = args.dir.as_deref().unwrap_or(Path::new(RUNS));
    let mut runs = match list::list(folder) {
        Ok(runs) => runs,
        // Nobody asked for this folder.
        Err(_) if args.dir.is_none() && !folder.exists() => Vec::new(),
        Err(error @ RunError::File(_)) if !folder.is_dir() => {
            let help = "give a folder of run directories, such as `runs`";
            return Err(Failure::new(Exit::Config, error).help(help));
        }
        Err(error) => return Err(error.into()),
    };
    let any = !runs.is_empty();
    if !args.status.is_empty() {
        runs.retain(|run| args.status.contains(&run.status));
    }
    if printer.json {
        let json = serde_json::to_string_pretty(&runs.iter().map(json).collect::<Vec<_>>());
        printer.data(json.map_err(|error| Failure::new(Exit::Other, error))?);
    } else if runs.is_empty() {
        let which = if any { "such " } else { "" };
        printer.note(format!(
            "there are no {which}runs in `{}`",
            folder.display()
        ));
    } else {
        for line in lines(&runs, printer.width()) {
            printer.data(line);
        }
    }
    Ok(())
}

fn json(run: &Listed) -> serde_json::Value {
    let mut json = serde_json::to_value(run).unwrap_or_default();
    json["run"] = run.run.to_string_lossy().into();
    json
}

/// One line a run, with the whole path and reason where there is room: `width` is that of the
/// terminal, if it is one. In a narrow terminal the path loses its folders, then its time (what is
/// left tells runs apart, and `runs/*ab12cd` finds them), and reasons stand below the runs.
fn lines(runs: &[Listed], width: Option<usize>) -> Vec<String> {
    let shown: [fn(&Listed) -> String; 3] = [
        |run| run.run.display().to_string(),
        |run| folder(run).to_owned(),
        |run| match folder(run).split_once(&format!("_{}_", run.name)) {
            Some((_, hash)) => format!("{}_{hash}", run.name),
            None => run.name.clone(),
        },
    ];
    let fits = |rows: &Vec<String>| {
        width.is_none_or(|width| rows.iter().all(|row| table::length(row) <= width))
    };
    let mut all = shown.into_iter().map(|what| table(runs, what).lines(None));
    let rows = all.find(fits);
    let rows = rows.unwrap_or_else(|| table(runs, shown[2]).lines(width));
    let mut lines = Vec::new();
    for (index, row) in rows.into_iter().enumerate() {
        let run = index.checked_sub(1).and_then(|index| runs.get(index));
        let reason = run.and_then(|run| run.reason.as_deref());
        let reason = reason.map(table::printable);
        match (reason, width) {
            // One line a run, for other programs.
            (Some(reason), None) => lines.push(format!("{row}  {reason}")),
            (Some(reason), Some(width)) => {
                lines.push(row);
                lines.push(table::cut(&format!("    {reason}"), width));
            }
            (None, _) => lines.push(row),
        }
    }
    lines
}

fn folder(run: &Listed) -> &str {
    let name = run.run.file_name().and_then(|name| name.to_str());
    name.unwrap_or(&run.name)
}

fn table(runs: &[Listed], what: impl Fn(&Listed) -> String) -> Table {
    let header = [
        "status", ">epochs", ">val %", ">test %", ">age", ">took", "run",
    ];
    let mut table = Table::new(&header);
    for run in runs {
        let count = |count: Option<usize>| count.map_or_else(|| "?".into(), |n| n.to_string());
        let epochs = match (run.epochs, run.epochs_planned) {
            (None, None) => "-".into(),
            (done, planned) => format!("{}/{}", count(done.or(Some(0))), count(planned)),
        };
        let dash = || "-".to_owned();
        table.row([
            run.status.name().to_owned(),
            epochs,
            table::percent(run.val_accuracy),
            table::percent(run.test_accuracy),
            run.started.map_or_else(dash, table::age),
            run.seconds.map_or_else(dash, table::span),
            what(run),
        ]);
    }
    table
}
