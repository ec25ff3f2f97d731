//! `xp plot`: one run's curves drawn again, or several runs overlaid.

use std::path::{Path, PathBuf};

use super::{Exit, Failure, Printer};
use crate::cli::PlotArgs;
use crate::fsx;
use crate::records::MetricsRow;
use crate::report;
use crate::run::RunDir;

/// Draws from `metrics.csv` (and `test.json` and `manifest.json`, where there), so that runs of any age can be drawn again.
pub fn run(args: &PlotArgs, printer: &Printer) -> Result<(), Failure> {
    let runs = args.runs.iter().map(|path| load(path, printer));
    let runs: Vec<Loaded> = runs.collect::<Result<_, _>>()?;
    let drawn = match runs.as_slice() {
        [one] => draw_one(one, args.output.as_deref(), printer)?,
        several => draw_several(several, args.output.as_deref())?,
    };
    if printer.json {
        printer.data(serde_json::json!({ "pictures": drawn }).to_string());
    } else {
        for path in drawn {
            printer.data(path.display().to_string());
        }
    }
    Ok(())
}

struct Loaded {
    dir: RunDir,
    rows: Vec<MetricsRow>,
}

fn load(path: &Path, printer: &Printer) -> Result<Loaded, Failure> {
    let dir = RunDir::open(path).map_err(|error| Failure {
        exit: Exit::Config,
        ..error.into()
    })?;
    let file = dir.metrics_csv();
    if !file.exists() {
        return Err(
            Failure::new(Exit::Other, format!("`{}` is not there", file.display()))
                .help("the run ended before its first epoch; run it again with `xp run`"),
        );
    }
    let log = dir.metrics()?;
    if log.torn {
        printer.warning(format!(
            "`{}` ends in the middle of a row; that row is left out",
            file.display()
        ));
    }
    if log.rows.is_empty() {
        return Err(
            Failure::new(Exit::Other, format!("`{}` has no rows", file.display()))
                .help("the run has not finished an epoch; wait for the first one"),
        );
    }
    Ok(Loaded {
        dir,
        rows: log.rows,
    })
}

fn draw_one(
    Loaded { dir, rows }: &Loaded,
    output: Option<&Path>,
    printer: &Printer,
) -> Result<Vec<PathBuf>, Failure> {
    // Logs without a readable manifest are drawn too; the rows then tell the best epoch.
    let best = dir.manifest().ok().and_then(|manifest| manifest.best);
    let best = best.and_then(|best| best.find(rows));
    let curves = report::curves(rows, &dir.name(), best)?;
    if let Some(output) = output {
        fsx::write_atomic(output, &curves)?;
        return Ok(vec![output.to_path_buf()]);
    }
    dir.write_curves(&curves)?;
    let mut drawn = vec![dir.curves_png()];
    match dir.test() {
        Ok(None) => {}
        Ok(Some(test)) => {
            dir.write_confusion(&report::confusion(&test, &dir.name())?)?;
            drawn.push(dir.confusion_png());
        }
        Err(error) => printer.warning(format!("`confusion.png` is not drawn: {error}")),
    }
    Ok(drawn)
}

fn draw_several(runs: &[Loaded], output: Option<&Path>) -> Result<Vec<PathBuf>, Failure> {
    let names: Vec<String> = runs.iter().map(|run| run.dir.name()).collect();
    let named = runs.iter().zip(&names).map(|(run, name)| {
        // Runs of one experiment are told apart by their folders' names.
        let repeated = names.iter().filter(|other| *other == name).count() > 1;
        let name = if repeated {
            run.dir.folder_name()
        } else {
            name.clone()
        };
        (name, run.rows.clone())
    });
    let png = report::overlay(&named.collect::<Vec<_>>())?;
    let output = output.unwrap_or(Path::new("compare.png"));
    fsx::write_atomic(output, &png)?;
    Ok(vec![output.to_path_buf()])
}
